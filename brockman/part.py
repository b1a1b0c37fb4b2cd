"""What works in a process for its clients, and how they hold it. A pipeline is one."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol, TypeVar


class Part(Protocol):
    """What works in a process for the clients that hold it."""

    mark: Any  # see `brockman.process.fork`: item 0 is 1 in the process that it works in, while it works
    is_late: bool  # whether no exit hook may come any more, so that nothing should wait
    key: Hashable  # clients with an equal key share the part
    holders: set[Hold]

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that closing may take."""

    @property
    def is_used(self) -> bool:
        """Whether there is anything to close."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""

    def disown(self) -> None:
        """Stop working: this is a forked child. Called in the fork hook: takes no lock, logs nothing."""

    def succeed(self) -> Any:
        """Return a part for what comes when this one has ended, which goes on with its counts."""

    def hand_over(self) -> None:
        """In a child of the process that this worked in: have what waits here delivered by the child."""

    def unheld(self) -> None:
        """The last client has let go."""

    def hurry(self) -> None:
        """Make an attempt at what waits now. Does not block."""

    def begin_close(self, timeout: float) -> None:
        """Start closing, without waiting."""

    def flush(self, timeout: float) -> object:
        """Wait until all that was recorded is settled, or for so many seconds."""

    def close(self, timeout: float) -> object:
        """Wait until closed, or for so many seconds."""

    def after_request(self, *, now: bool) -> None:
        """Deliver what is due, or all there is: a request has just ended."""


AnyPart = TypeVar("AnyPart", bound=Part)


class Hold:
    """A client's hold on the part that it uses. Outlives the client, to be let go of."""

    __slots__ = ("part",)

    def __init__(self) -> None:
        self.part: Part | None = None
