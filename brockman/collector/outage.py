"""A rehearsed outage: for people who want to see what their application does while the service is away."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from brockman.collector.errors import Refusal
from brockman.collector.responses import refuse


class RehearsedOutage:
    """ASGI middleware: once, after so many triggers, answers 503 to every POST for a while."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        stored: Callable[[], int],
        after: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wrap an application.

        Args:
            app: Gets every request outside the outage, and those that are not POST within.
            stored: Returns how many triggers have been stored.
            after: The first POST that finds this many stored begins the outage.
            seconds: How long it lasts.
            clock: Seconds that only move forward.
        """
        self._app = app
        self._stored = stored
        self._after = after
        self._seconds = seconds
        self._clock = clock
        self._ends_at: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and self._is_away():
            refusal = Refusal(503, f"this is a rehearsed outage of {self._seconds:g} s")
            await refuse(Request(scope), refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_away(self) -> bool:
        if self._ends_at is None:
            if self._stored() < self._after:
                return False
            self._ends_at = self._clock() + self._seconds
        return self._clock() < self._ends_at
