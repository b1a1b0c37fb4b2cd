"""Where triggers wait while the disk takes none: in memory, until they can go back in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from brockman.buffer.memory import MemoryBuffer
from brockman.buffer.moves import give_each, move

_PATIENCE = 1.0  # seconds
Append = Callable[[bytes, "deque[bytes]"], bool]


class Refuge(MemoryBuffer):
    """A memory buffer of which the oldest can be moved to disk."""

    _returning: deque[bytes]  # the one that is being written: on disk and away from here in the same line of code

    def __len__(self) -> int:
        return len(self._waiting) + len(self._returning)

    def __new__(cls, *_: object, **__: object) -> Refuge:
        """Make the place before `__init__`, which measures what is here."""
        refuge = super().__new__(cls)
        refuge._returning = deque()
        return refuge

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return super().is_idle and not self._returning

    def bring_back(self, append: Append, count: int) -> bool:
        """Move up to `count` of the oldest; return whether none is left.

        Args:
            append: Stores a trigger, and takes it out of the deque in the same line; False when there is no room.
            count: How many to move. It is done in the caller's time.

        Raises:
            OSError: As `append` does.
        """
        if self._moves.is_mine:  # a signal handler in the middle of this
            return False
        # Not waited for: who is at it may wait for the journal, which a thread holds that a signal handler of ours
        # has interrupted.
        with self._moves.if_free() as is_free:
            if is_free:
                self._bring_back(append, count)
        self._blocked.ring()
        return not len(self)

    def _bring_back(self, append: Append, count: int) -> None:
        while count and self._fill():
            if not append(self._returning[0], self._returning):
                return
            count -= 1

    def rescue(self, append: Append) -> None:
        """Move all, with what is in flight: this is the end, and whoever comes next delivers it.

        Raises:
            OSError: As `append` does.
        """
        if self._moves.is_mine:
            return
        with self._moves.under_way():
            while self._in_flight:
                if not append(self._in_flight[0], self._in_flight):
                    return
            self._bring_back(append, len(self))

    def _fill(self) -> bool:
        if not self._returning and move(self._waiting, self._returning, 1):
            size = len(self._returning[0])
            with self._guard:
                self._bytes -= size
        return bool(self._returning)

    def _back_in_line(self) -> None:
        """Let the one that could not be written be the next to be taken."""
        if self._returning and not self._in_flight:
            move(self._returning, self._in_flight, 1)

    def take(self, max_count: int, max_bytes: int) -> Sequence[bytes]:
        """Do as `MemoryBuffer.take`."""
        with self._moves.if_free(_PATIENCE) as is_free:
            if not is_free:  # the oldest is being written, to a disk that is slow: it must not go both ways
                return []
            self._back_in_line()
            return super().take(max_count, max_bytes)

    def abandon(self, reason: str) -> list[bytes]:
        """Do as `MemoryBuffer.abandon`."""
        with self._moves.under_way():
            move(self._returning, self._in_flight, 1)
        return super().abandon(reason)

    def give_away(self, put: Callable[[bytes], object]) -> None:
        """Do as `MemoryBuffer.give_away`."""
        give_each(self._returning, put)
        super().give_away(put)

    def clear(self) -> None:
        """Do as `MemoryBuffer.clear`."""
        self._returning.clear()
        super().clear()
