"""Trouble on purpose, to see what an application does: delays, failures, an outage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from brockman.collector.responses import error_response
from brockman.collector.settings import Settings


class Rehearsal:
    """ASGI middleware that delays every POST, answers some with a failure, and once all of them for some seconds.

    What fails is not stored. The first POST that finds `outage_after` triggers stored starts the outage.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        stored: Callable[[], int],
        rand: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._settings = settings
        self._stored = stored
        self._rand = rand
        self._clock = clock
        self._outage_ends_at: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if self._settings.delay:
            await asyncio.sleep(self._settings.delay)
        error = self._failure()
        respond = self._app if error is None else error_response(Request(scope), error)
        await respond(scope, receive, send)

    def _failure(self) -> HTTPException | None:
        if self._is_outage():
            return HTTPException(503, f"simulated outage of {self._settings.outage_for:g} s")
        status = choose(self._settings.failures, self._rand())
        return None if status is None else HTTPException(status, f"simulated {status}")

    def _is_outage(self) -> bool:
        after = self._settings.outage_after
        if after is None:
            return False
        if self._outage_ends_at is None:
            if self._stored() < after:
                return False
            self._outage_ends_at = self._clock() + self._settings.outage_for
        return self._clock() < self._outage_ends_at


def choose(failures: Mapping[int, float], drawn: float) -> int | None:
    """Return the status whose share a number from 0 to 1 falls into, or None for a request that is handled."""
    for status, share in failures.items():
        if drawn < share:
            return status
        drawn -= share
    return None
