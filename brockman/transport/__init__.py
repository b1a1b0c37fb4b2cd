"""The interface of a transport, which sends a request body and returns the server's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Answer:
    """An HTTP response.

    Attributes:
        status: The HTTP status.
        body: At most 64 KiB of the body, not decoded.
        content_type: The header, or "".
        retry_after: The header, or None.
        date: The header, or None.
        location: The header, or None.
    """

    status: int
    body: bytes = b""
    content_type: str = ""
    retry_after: str | None = None
    date: str | None = None
    location: str | None = None

    @property
    def words(self) -> str:
        """The first 300 characters of the body, for a log or an exception."""
        return " ".join(self.body[:1200].decode("utf-8", "replace").split())[:300]


class Transport(Protocol):
    """A class with these two methods can be a client's transport."""

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
