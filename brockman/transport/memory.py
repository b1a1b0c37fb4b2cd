"""A transport that keeps what it is given, for tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from brockman.exceptions import ConnectionFailed
from brockman.transport import Answer

Reply = Answer | ConnectionFailed


class MemoryTransport:
    """Answers from a script, and 201 when the script has ended.

    Attributes:
        bodies: Every request body that was sent, in order, accepted or not.
    """

    def __init__(self, replies: Iterable[Reply] | Callable[[bytes], Reply] = ()) -> None:
        """Make a transport.

        Args:
            replies: Answers in order, a `ConnectionFailed` among them being raised; or a function from the
                request body to one of these.
        """
        self.bodies: list[bytes] = []
        self._function = replies if callable(replies) else None
        self._script: Iterator[Reply] = iter(()) if callable(replies) else iter(replies)

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        """Keep the body and answer. Does not block."""
        self.bodies.append(body)
        reply = self._function(body) if self._function else next(self._script, Answer(201))
        if isinstance(reply, ConnectionFailed):
            raise reply
        return reply

    def close(self) -> None:
        """Do nothing: what was sent stays readable."""

    @property
    def triggers(self) -> list[dict[str, Any]]:
        """Every trigger that was sent, in order, accepted or not."""
        found: list[dict[str, Any]] = []
        for body in self.bodies:
            content = json.loads(body)
            found.extend(content if isinstance(content, list) else [content])
        return found
