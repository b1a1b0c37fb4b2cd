"""The health of a collector: it can store triggers, or not and why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from brockman.collector.errors import StoreUnavailable
from brockman.collector.store import statements
from brockman.collector.store.base import Store

_VALID_FOR = 1.0  # seconds


class Health:
    """Tries the store, once a second at most. Used in the event loop only."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = asyncio.Lock()
        self._limiter: CapacityLimiter | None = None  # made in the event loop
        self._valid_until = -1.0
        self._stored = 0
        self._error: str | None = None

    async def check(self) -> str | None:
        """Return why triggers cannot be stored, or None if they can."""
        async with self._lock:
            if self._clock() > self._valid_until:
                self._limiter = self._limiter or CapacityLimiter(1)  # requests may use all other threads
                self._error = await run_sync(self._try, limiter=self._limiter)
                self._valid_until = self._clock() + _VALID_FOR
            return self._error

    def _try(self) -> str | None:
        if error := self._store.recent_error():  # a full disk may have room for less
            return error
        stored, self._stored = self._stored, self._store.stored
        if stored != self._stored:
            return None
        statement = f"{statements.UPDATE_TALLY} {self._store.tally_row}"
        try:
            self._store.write(lambda transaction: transaction.execute(statement, [0, 0, 0, 0]))
        except StoreUnavailable as error:
            return str(error)
        return None
