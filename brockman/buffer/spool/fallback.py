"""Whether triggers go to disk or wait in memory, and the way there and back."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from brockman.buffer.memory import MemoryBuffer
from brockman.buffer.moves import give_each, move
from brockman.buffer.spool.writer import Writer
from brockman.process.clock import monotonic
from brockman.process.log import Notice

_PATIENCE = 1.0  # seconds
Append = Callable[[bytes, "deque[bytes]"], bool]


class FallbackBuffer(MemoryBuffer):
    """A memory buffer of which the oldest can be moved to disk."""

    _returning: deque[bytes]  # the one that is being written: on disk and away from here in the same line of code

    def __len__(self) -> int:
        return len(self._waiting) + len(self._returning)

    def __new__(cls, *_: object, **__: object) -> FallbackBuffer:
        """Make the place before `__init__`, which measures what is here."""
        fallback = super().__new__(cls)
        fallback._returning = deque()
        return fallback

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
        if self._seqlock.is_mine:  # a signal handler in the middle of this
            return False
        # Not waited for: who is at it may wait for the writer, which a thread holds that a signal handler of ours
        # has interrupted.
        with self._seqlock.if_free() as is_free:
            if is_free:
                self._bring_back(append, count)
        self._blocked.notify()
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
        if self._seqlock.is_mine:
            return
        with self._seqlock.write():
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
        with self._seqlock.if_free(_PATIENCE) as is_free:
            if not is_free:  # the oldest is being written, to a disk that is slow: it must not go both ways
                return []
            self._back_in_line()
            return super().take(max_count, max_bytes)

    def discard(self, reason: str) -> list[bytes]:
        """Do as `MemoryBuffer.discard`."""
        with self._seqlock.write():
            move(self._returning, self._in_flight, 1)
        return super().discard(reason)

    def transfer_to_child(self, put: Callable[[bytes], object]) -> None:
        """Do as `MemoryBuffer.transfer_to_child`."""
        give_each(self._returning, put)
        super().transfer_to_child(put)

    def clear(self) -> None:
        """Do as `MemoryBuffer.clear`."""
        self._returning.clear()
        super().clear()


_RETRY = 1.0  # seconds until the disk is tried again
_IDLE = 4.0  # seconds more where nothing waits for it; long enough for a thread that nobody needs to end
_BUSY = 0.1  # seconds until it is looked again whether another thread is done with it


class DiskState:
    """The disk under a writer, and the fallback while it fails.

    Invariant: while `is_direct` is set, the disk works, and triggers go straight to the writer.
    """

    def __init__(self, writer: Writer, fallback: FallbackBuffer, notice: Notice, wake: Callable[[], None]) -> None:
        """Touch nothing yet.

        Args:
            writer: What is on disk.
            fallback: What waits in memory.
            notice: Told when the disk fails, and when it works again.
            wake: Called when there is something to say.
        """
        self.is_direct = False
        self.is_closed = False
        self._writer = writer
        self._fallback = fallback
        self._notice = notice
        self._wake = wake
        self._retry_at = -math.inf

    @property
    def cooling_down(self) -> bool:
        """Whether it is not to be touched: it has failed a moment ago, or is closed."""
        return self.is_closed or (self._notice.trouble is not None and monotonic() < self._retry_at)

    def close(self) -> None:
        """Take nothing more."""
        self.is_closed, self.is_direct = True, False

    def end(self) -> None:
        """Move what waits in memory to disk if that can be, and take nothing more."""
        try:
            if not self.is_closed and not self._fallback.is_idle and self._writer.make_room(b""):
                self._fallback.rescue(self._append_from)
                self._notice.work()
        except OSError as error:
            self._notice.fail(error)
        self.close()

    def fail(self, error: OSError) -> None:
        """Have triggers wait in memory from now on; it is said with the flusher's next round.

        Wakes nobody: the trigger that met it is nowhere yet, and late in a process waking delivers, and ends all.
        """
        self.is_direct = False
        self._retry_at = monotonic() + _RETRY
        self._notice.fail(error)
        self._writer.give_up()

    def fail_later(self, error: OSError) -> None:
        """Do as `fail` for a sync, of what was recorded before: no trigger comes to wake the flusher."""
        self.fail(error)
        self._wake()

    def bring_back(self, count: int) -> bool:
        """Move up to `count` triggers from memory to disk; return whether the next one may go there too.

        Raises:
            OSError: When the disk still fails.
        """
        if self.is_direct and not len(self._fallback):
            return True
        has_room = self._writer.make_room(b"")
        if not has_room and len(self._fallback):
            return False  # they still wait in memory
        self._notice.work()
        if not has_room:
            return True  # then the policy is asked
        if not self._fallback.bring_back(self._append_from, count):
            return False
        self.is_direct = not self.is_closed
        return True

    def _append_from(self, body: bytes, source: deque[bytes]) -> bool:
        writer = self._writer
        return writer.append(body, source) or (writer.make_room(body) and writer.append(body, source))

    def due_in(self) -> float | None:
        """Return in how many seconds `keep_up` is wanted; None when it is not."""
        if len(self._fallback):
            return self._retry_at - monotonic()
        if self._notice.trouble is not None:
            return self._retry_at + _IDLE - monotonic()
        return None

    def postpone(self) -> None:
        """Have `keep_up` wanted a little later: another thread is at it, and may wait for the disk for long."""
        self._retry_at = max(self._retry_at, monotonic() + _BUSY)

    def keep_up(self) -> None:
        """Bring everything back if it is time for that.

        Raises:
            OSError: When the disk still fails.
        """
        due = self.due_in()
        if due is not None and due <= 0:
            self._retry_at = monotonic() + _RETRY
            self.bring_back(len(self._fallback))
