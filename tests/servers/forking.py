"""Names from `tests.support`, until all tests import them from there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.support.scripts import BEGIN, hold_until, run
from tests.support.server import Reply, Request

__all__ = ["BEGIN", "Taking", "hold_until", "run"]


class Taking:
    """Answers as a function says, and remembers the requests it accepted. `Endpoint` takes its place."""

    def __init__(self, status_of: Callable[[Request], int]) -> None:
        self._status_of = status_of
        self._taken: list[Request] = []

    def __call__(self, request: Request) -> Reply:
        status = self._status_of(request)
        if status == 201:
            self._taken.append(request)
        return Reply(status)

    @property
    def triggers(self) -> list[dict[str, Any]]:
        return [trigger for request in self._taken for trigger in request.triggers]

    def ids(self) -> Counter[str]:
        return Counter(trigger["id"] for trigger in self.triggers)
