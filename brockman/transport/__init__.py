"""How a request body reaches the server: one method, `send`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Answer:
    """What the server said.

    Attributes:
        status: The HTTP status.
        body: The body as it came, 64 KiB of it at most.
        content_type: The header, or an empty text.
        retry_after: The header, or None.
        date: The header, or None: the server's clock.
        location: The header, or None: where a redirect points.
    """

    status: int
    body: bytes = b""
    content_type: str = ""
    retry_after: str | None = None
    date: str | None = None
    location: str | None = None

    @property
    def words(self) -> str:
        """The body as text for a person, at most 300 characters."""
        return " ".join(self.body[:1200].decode("utf-8", "replace").split())[:300]


class Transport(Protocol):
    """What the client needs of a transport. A class with these two methods is one."""

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        """Make one attempt to hand a request body over, and return the answer. Blocks.

        Args:
            body: JSON: an object, or an array of objects.
            timeout: Seconds that the attempt may take at the most; None leaves it to the transport.

        Raises:
            ConnectionFailed: When no answer came back. Nothing else.
        """

    def close(self) -> None:
        """Let go of connections. `send` afterwards may open them again."""
