"""The interface of a transport, which sends a request body and returns the server's answer."""

from __future__ import annotations

from typing import Protocol

from brockman.transport.answer import Answer

__all__ = ["Answer", "Transport"]


class Transport(Protocol):
    """A class with these two methods can be a client's transport.

    If `send` has a parameter `headers`, it gets a mapping by that name: who sends, and what that has counted.
    """

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        """Make one attempt to send a request body, and return the answer. Blocks.

        Args:
            body: A JSON object, or an array of objects.
            timeout: The limit for the attempt in seconds; None leaves it to the transport.

        Raises:
            ConnectionFailed: When no answer came back. The only exception.
        """

    def close(self) -> None:
        """Close the connections. `send` afterwards may open new ones."""
