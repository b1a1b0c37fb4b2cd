"""Observes every request from outside of the application: counts it, and writes the access log."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from brockman.collector.access_log import AccessLog
from brockman.collector.metrics import Metrics

_STREAM = "/api/v1/stream/"  # which lasts as long as its reader likes
_SENDER = re.compile(r"(?:^|;)\s*id=([0-9a-f]{32})(?:;|$)")
_PARAMETER = re.compile(r"[a-z_]{1,40}")  # others may be a value by mistake
_MAX_CHARS = 200  # of a path in the log


class Observer:
    """The application, observed."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Iterable[BaseRoute],
        metrics: Metrics,
        access_log: AccessLog | None,
        keys: Collection[str],
    ) -> None:
        """`keys` are shown in no path of the log."""
        self._app = app
        self._metrics = metrics
        self._access_log = access_log
        self._keys = keys
        known = [route for route in routes if isinstance(route, Route)]
        self._fixed = {route.path for route in known if "{" not in route.path}
        self._patterns: dict[Any, str] = {route.endpoint: route.path for route in known if "{" in route.path}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        received = sent = 0
        status = "none"

        async def count_received() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def count_sent(message: Message) -> None:
            nonlocal sent, status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, count_received, count_sent)
        finally:
            seconds = time.perf_counter() - begin
            path = self._name_path(scope)
            self._metrics.count_request(
                scope["method"],
                path,
                status,
                received=received,
                sent=sent,
                seconds=None if path == _STREAM else seconds,
            )
            if self._access_log is not None:
                shown = self._shown_path(scope)
                self._access_log.write(_entry(scope, shown, status, received, sent, seconds))

    def _name_path(self, scope: Scope) -> str:
        """Return the path of a route, or `other`: the metrics have one line for each."""
        path: str = scope["path"]
        return path if path in self._fixed else self._patterns.get(scope.get("endpoint", ""), "other")

    def _shown_path(self, scope: Scope) -> str:
        path: str = scope["path"]
        for key in self._keys:  # in a URL by mistake
            path = path.replace(key, "(api key)")
        return path[:_MAX_CHARS]


def _entry(scope: Scope, path: str, status: str, received: int, sent: int, seconds: float) -> Mapping[str, Any]:
    """Return what the access log says of a request: no key, and no value of a parameter."""
    sender = _SENDER.search(Headers(scope=scope).get("x-fl-sender", ""))
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return {
        "time": time.time(),
        "method": scope["method"],
        "path": path,
        "parameters": sorted({name if _PARAMETER.fullmatch(name) else "other" for name, _ in query})[:20],
        "status": int(status) if status.isdigit() else None,
        "received": received,
        "sent": sent,
        "ms": round(seconds * 1000, 3),
        "sender": sender[1] if sender else None,
    }
