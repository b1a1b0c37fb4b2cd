"""What every buffer offers to the flusher and to those who look at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class Buffer(Protocol):
    """A first-in first-out buffer. Any thread may `put`; `take` and `settle` belong to the flusher's role."""

    def __len__(self) -> int:
        """Return how many wait, those in flight not counted."""

    @property
    def version(self) -> int:
        """What was read is one moment's when this was even before, and is the same after."""

    @property
    def removed(self) -> int:
        """How many that once waited are settled or dropped; the flush watermark."""

    @property
    def admitted(self) -> int:
        """How many were ever put in; `removed` has reached this when all of them are settled."""

    @property
    def in_flight(self) -> int:
        """How many are taken and not settled."""

    @property
    def evicted(self) -> int:
        """How many have left and are not counted as dropped yet."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""

    @property
    def is_discarded(self) -> bool:
        """Whether `discard` was called: what is put afterwards will never be taken."""

    @property
    def waiting_bytes(self) -> int:
        """Size of what waits, in bytes."""

    @property
    def oldest(self) -> bytes | None:
        """The oldest trigger that is not settled."""

    @property
    def trouble(self) -> str | None:
        """Why the disk takes no triggers at present, where one should; None while all is well."""

    @property
    def is_due(self) -> bool:
        """Whether as much waits as `set_wake_threshold` was told, or there was no room for a trigger."""

    def set_wake_threshold(self, count: int, size: int) -> None:
        """Set how many triggers, or bytes, make `put` wake the flusher."""

    def holds(self, count: int, size: int) -> bool:
        """Return whether at least so many triggers, or bytes, wait."""

    def put(self, body: bytes) -> bool:
        """Add a trigger; False when it was dropped for want of room."""

    def take(self, max_count: int, max_bytes: int) -> Sequence[bytes]:
        """Move the oldest triggers in flight and return them."""

    def settle(self, count: int, *, delivered: bool) -> bool:
        """Count the oldest of those in flight; after `discard` only return False."""

    def discard(self, reason: str) -> list[bytes]:
        """Take no more in, drop what would be lost with the process, and return it."""

    def release_files(self) -> int:
        """Let go of what outlives the process, and return how many that are."""

    def transfer_to_child(self, put: Callable[[bytes], object]) -> None:
        """Give all that is here to `put`, uncounted: for the child of a fork that takes over."""

    def after_fork_in_child(self) -> None:
        """Let go of all that is the parent's, and touch nothing of it: this is a forked child."""

    def clear(self) -> None:
        """Forget all that is here, uncounted: for a child, which begins with nothing of the parent's."""

    def adopt(self, seconds: float) -> None:
        """Take over what processes that are gone have left: one at least, and more within so many seconds."""

    def due_in(self) -> float | None:
        """Return in how many seconds `keep_up` is wanted; None when it is not."""

    def keep_up(self) -> None:
        """Do what is to be done now and then."""


class EndsWithItsProcess:
    """What of a buffer is nothing where triggers wait in memory."""

    trouble: str | None = None

    def adopt(self, seconds: float) -> None:
        """Do nothing: there is no place where others could have left anything."""

    def due_in(self) -> float | None:
        """Return None: there is nothing to keep up."""
        return None

    def keep_up(self) -> None:
        """Do nothing."""

    def after_fork_in_child(self) -> None:
        """Do nothing: what is here goes with `clear`."""

    def release_files(self) -> int:
        """Return 0: nothing outlives the process."""
        return 0
