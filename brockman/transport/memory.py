"""A transport that stores request bodies, for tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from brockman.exceptions import ConnectionFailed
from brockman.transport import Answer

Reply = Answer | ConnectionFailed


class MemoryTransport:
    """Stores every request body, and answers with the given replies, then with 201.

    Attributes:
        bodies: Every request body that was sent, in order, accepted or not.
    """

    def __init__(self, replies: Iterable[Reply] | Callable[[bytes], Reply] = ()) -> None:
        """Make a transport.

        Args:
            replies: Answers in order, or a function that returns the answer to a request body. A
                `ConnectionFailed` is raised.
        """
        self.bodies: list[bytes] = []
        self._function = replies if callable(replies) else None
        self._replies: Iterator[Reply] = iter(()) if callable(replies) else iter(replies)

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        """Store the body and answer. Does not block."""
        self.bodies.append(body)
        reply = self._function(body) if self._function else next(self._replies, Answer(201))
        if isinstance(reply, ConnectionFailed):
            raise reply
        return reply

    def close(self) -> None:
        """Do nothing: `bodies` stays readable."""

    @property
    def triggers(self) -> list[dict[str, Any]]:
        """Every trigger that was sent, in order, accepted or not."""
        found: list[dict[str, Any]] = []
        for body in self.bodies:
            content = json.loads(body)
            found.extend(content if isinstance(content, list) else [content])
        return found
