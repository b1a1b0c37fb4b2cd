"""The interface of a buffer, and the parts that all buffers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from brockman.buffer.moves import READ_TRIES

Value = TypeVar("Value")


class Buffer(ABC):
    """A first-in first-out buffer. Any thread may `put`; `take` and `settle` belong to the worker.

    The methods that do nothing here are those of buffers without files.
    """

    def __init__(self) -> None:
        self._wake_count = self._wake_bytes = 1
        self._overflowed = False  # there was no room for a trigger since the last take
        self._discarded = False

    # --- counts ---

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of waiting triggers, without those in flight."""

    @property
    @abstractmethod
    def version(self) -> int:
        """Seqlock counter: a read is consistent if it was even and did not change."""

    @property
    @abstractmethod
    def removed(self) -> int:
        """The number of triggers that waited here and are settled or dropped; the flush watermark."""

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """The number of triggers that are taken and not settled."""

    @property
    @abstractmethod
    def evicted(self) -> int:
        """The number of triggers on their way from waiting to dropped."""

    @property
    @abstractmethod
    def waiting_bytes(self) -> int:
        """Size of the waiting triggers in bytes; on disk with their frames."""

    @property
    @abstractmethod
    def oldest(self) -> bytes | None:
        """The oldest trigger that is not settled."""

    def read_consistently(self, read: Callable[[], Value]) -> Value:
        """Return the value of `read`, called again until no trigger moved meanwhile. Takes no lock."""
        for _ in range(READ_TRIES):
            version, removed = self.version, self.removed
            value = read()
            unchanged = version == self.version and removed == self.removed
            if unchanged and version % 2 == 0 and not self.evicted:
                break
        return value

    @property
    def admitted(self) -> int:
        """The number of triggers ever put in; `removed` reaches it when all of them are settled."""
        return self.read_consistently(lambda: self.removed + len(self) + self.in_flight)

    @property
    def is_idle(self) -> bool:
        """True while no trigger waits and none is in flight."""
        return self.read_consistently(lambda: not len(self) and not self.in_flight)

    @property
    def is_discarded(self) -> bool:
        """True once `discard` was called: a trigger put afterwards is never taken."""
        return self._discarded

    @property
    def is_due(self) -> bool:
        """True when the wake threshold is reached, or there was no room for a trigger."""
        return self._overflowed or self.holds(self._wake_count, self._wake_bytes)

    def set_wake_threshold(self, count: int, size: int) -> None:
        """Set the number of waiting triggers, and of bytes, at which `put` wakes the worker."""
        self._wake_count, self._wake_bytes = count, size

    def holds(self, count: int, size: int) -> bool:
        """Return whether at least `count` triggers or `size` bytes wait."""
        return len(self) >= count or self.waiting_bytes >= size

    # --- the way of a trigger ---

    @abstractmethod
    def put(self, body: bytes) -> bool:
        """Add a trigger; return False when there was no room and it was dropped (and counted as `overflow`).

        Raises:
            BufferFull: Under the policy "raise".
        """

    @abstractmethod
    def take(self, max_count: int, max_bytes: int) -> Sequence[bytes]:
        """Move the oldest triggers in flight and return them: as many as the limits allow, at least one.

        Triggers that are still in flight, because an error cut their delivery short, are returned again instead.

        Raises:
            OSError: When files cannot be read at present, and there is nothing else.
        """

    @abstractmethod
    def settle(self, count: int, *, delivered: bool) -> bool:
        """Count the oldest of those in flight as delivered or rejected; after `discard` only return False."""

    @abstractmethod
    def take_more(self, max_count: int, max_bytes: int) -> Sequence[bytes]:
        """Move the next triggers in flight, behind those that are, and return them; none when there are none."""

    @abstractmethod
    def discard(self, reason: str) -> list[bytes]:
        """Accept nothing more, drop the triggers that would end with the process, and return them.

        They are counted; the caller reports them to `on_drop`.
        """

    @abstractmethod
    def transfer_to_child(self, put: Callable[[bytes], object]) -> None:
        """Pass every trigger to `put`, uncounted: for a forked child that takes over. Takes no lock."""

    @abstractmethod
    def clear(self) -> None:
        """Remove the triggers in memory, uncounted: for a forked child, which starts empty."""

    # --- files ---

    @property
    def trouble(self) -> str | None:
        """Why the disk takes no triggers at present; None while it does, and without a spool."""
        return None

    def release_files(self) -> int:
        """Close the files, and return the number of triggers left on disk for other processes to adopt."""
        return 0

    def adopt(self, seconds: float) -> None:
        """Adopt the triggers of processes that are gone: one process at least, more within `seconds`."""
        return

    def due_in(self) -> float | None:
        """Return the seconds until `keep_up` is due; None when it is not."""
        return None

    def keep_up(self) -> None:
        """Do the periodic work. Called by the worker."""
        return

    def after_fork_in_child(self) -> None:
        """Close the copies of the parent's files, and change nothing in them."""
        return
