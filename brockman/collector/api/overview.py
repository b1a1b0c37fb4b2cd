"""stats/: the counts of the store; overview/: the newest triggers in numbers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from brockman.collector.auth import check_key
from brockman.collector.responses import json_response
from brockman.collector.settings import Settings
from brockman.collector.store.base import Store

_SPAN = 3600 * 1_000_000  # microseconds: the last hour
_MIN_AGE, _MAX_AGE = 1.0, 4.0  # seconds for which an answer is given again
_SHARE = 10  # in between: the time it took to compute, times this


def routes(store: Store, settings: Settings) -> list[Route]:
    numbers = _Numbers(store)

    async def overview(request: Request) -> Response:
        check_key(request, settings)
        return json_response(await numbers.get())

    async def stats(request: Request) -> Response:
        check_key(request, settings)
        return json_response(asdict(await run_in_threadpool(store.counts)))

    return [
        Route("/api/v1/overview/", overview, methods=["GET"]),
        Route("/api/v1/stats/", stats, methods=["GET"]),
    ]


class _Numbers:
    """The numbers, computed once for all pages that are open. Used in the event loop only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._computing = asyncio.Lock()
        self._known: dict[str, Any] = {}
        self._good_until = 0.0

    async def get(self) -> dict[str, Any]:
        async with self._computing:
            started = time.monotonic()
            if started >= self._good_until:
                self._known = await run_in_threadpool(self._compute)
                ended = time.monotonic()
                self._good_until = ended + min(_MAX_AGE, max(_MIN_AGE, _SHARE * (ended - started)))
            return self._known

    def _compute(self) -> dict[str, Any]:
        overview = self._store.overview(time.time_ns() // 1000 - _SPAN)
        return {"counts": asdict(self._store.counts()), **asdict(overview)}
