"""A scriptable endpoint: answers for the recording server that a test changes, holds back and releases."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.support.server import RecordingServer, Reply, Request

MAX_HOLD = 30.0  # seconds after which a held request is answered all the same


class Endpoint:
    """Answers the requests of a recording server, and remembers those it accepted.

    Attributes:
        answer: The status of every answer, or a function from a request to a status or `Reply`.
        arrived: The number of requests received, including those still held.
        accepted: The requests answered with a 2xx, in order.
    """

    def __init__(self, server: RecordingServer, answer: int | Callable[[Request], int | Reply] = 201) -> None:
        """Answer the server's requests from now on."""
        self.answer = answer
        self.arrived = 0
        self.accepted: list[Request] = []
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._released.set()
        server.respond = self

    def __call__(self, request: Request) -> Reply:
        """Return the reply to a request, after `release` if requests are held."""
        with self._lock:
            self.arrived += 1
        self._released.wait(MAX_HOLD)
        reply = self.answer(request) if callable(self.answer) else self.answer
        if isinstance(reply, int):
            reply = Reply(reply)
        if reply.act is None and 200 <= reply.status < 300:
            self.accepted.append(request)
        return reply

    def hold(self) -> None:
        """Hold back the answer to every request until `release`."""
        self._released.clear()

    def release(self) -> None:
        """Answer the requests that are held, and later ones at once."""
        self._released.set()

    @property
    def triggers(self) -> list[dict[str, Any]]:
        """All accepted triggers, in order."""
        return [trigger for request in list(self.accepted) for trigger in request.triggers]

    def ids(self) -> Counter[str]:
        """Return how often each id was accepted."""
        return Counter(trigger["id"] for trigger in self.triggers)

    def numbers(self) -> list[int]:
        """Return the variable `n` of all accepted triggers, in order."""
        return [trigger["variables"]["n"] for trigger in self.triggers]
