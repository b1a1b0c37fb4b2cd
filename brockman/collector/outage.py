"""A simulated outage, to see what an application does while the service is unavailable."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from brockman.collector.responses import error_response


class SimulatedOutage:
    """ASGI middleware that once, after a number of triggers, responds 503 to every POST for some seconds.

    The first POST that finds `after` triggers stored starts the outage.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        stored: Callable[[], int],
        after: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._stored = stored
        self._after = after
        self._seconds = seconds
        self._clock = clock
        self._ends_at: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and self._is_active():
            error = HTTPException(503, f"simulated outage of {self._seconds:g} s")
            await error_response(Request(scope), error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_active(self) -> bool:
        if self._ends_at is None:
            if self._stored() < self._after:
                return False
            self._ends_at = self._clock() + self._seconds
        return self._clock() < self._ends_at
