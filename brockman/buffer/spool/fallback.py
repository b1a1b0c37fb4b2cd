"""The memory buffer for a disk that fails, and the state of that disk."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from brockman.buffer.memory import MemoryBuffer
from brockman.buffer.moves import give_each, move
from brockman.buffer.spool.writer import Writer
from brockman.process.clock import monotonic
from brockman.process.log import SpoolLog
from brockman.trigger.batch import count_fitting

_PATIENCE = 1.0  # seconds
_SLICE, _SLICE_BYTES = 100, 64 * 1024  # moved at once: readers of the counts wait that long
Store = Callable[["deque[bytes]"], bool]


class FallbackBuffer(MemoryBuffer):
    """A memory buffer whose triggers can be moved to disk, the oldest first.

    Attributes:
        lost: The `id` of each trigger that was dropped by `discard`: of use to who holds it since it was put.
    """

    def __init__(self, *args: Any, **bounds: Any) -> None:
        """Take the arguments of `MemoryBuffer`."""
        super().__init__(*args, **bounds)
        self.lost: set[int] = set()
        self._moving: deque[bytes] = deque()  # being stored; empty again afterwards, unless an exception struck

    def __len__(self) -> int:
        # The last is for a reader that looked just before they were moved, and just after they were put back.
        return len(self._waiting) + len(self._moving) or len(self._waiting)

    def bring_back(self, store: Store) -> int:
        """Move up to ten slices of the oldest to disk, and return the number of triggers.

        `store` stores all triggers of a deque and empties it in the same straight line, or returns False.
        """
        moved, stored = 0, 1
        for _ in range(10):
            # Not within a move (a signal handler), and no waiting: the thread that has the lock may wait for the
            # writer, whose lock a thread holds that a signal handler has interrupted.
            if stored and not self._seqlock.is_mine:
                with self._seqlock.if_free() as is_free:
                    stored = self._store_slice(store) if is_free else 0
                moved += stored
        self._blocked.notify()
        return moved

    def rescue(self, store: Store) -> None:
        """Move all, also what is in flight, to disk for the next process."""
        if not self._seqlock.is_mine:
            with self._seqlock.write():
                self._discarded = True  # a batch that is sent meanwhile is not settled here any more
                self._return_to_front(self._moving)
                self._return_to_front(self._in_flight)
                while self._store_slice(store):
                    pass

    def _return_to_front(self, place: deque[bytes]) -> None:
        size = sum(map(len, place))
        with suppress(IndexError):  # it ran out
            self._waiting.extendleft(iter(place.pop, None))  # one C call, as in `move`
        with self._guard:
            self._bytes += size

    def _store_slice(self, store: Store) -> int:
        self._return_to_front(self._moving)
        for most in (_SLICE, 1):  # the room that is left may be enough for one
            move(self._waiting, self._moving, count_fitting(self._peek(most), _SLICE_BYTES))
            count, size = len(self._moving), sum(map(len, self._moving))
            with self._guard:
                self._bytes -= size
            try:
                if not count or store(self._moving):
                    return count
            finally:
                self._return_to_front(self._moving)
        return 0

    def take_more(self, max_count: int, max_bytes: int) -> Sequence[bytes]:
        """Do as `MemoryBuffer.take_more`; return nothing while another thread stores the oldest on a slow disk."""
        with self._seqlock.if_free(_PATIENCE) as is_free:
            if not is_free:  # otherwise they would be stored and sent
                return []
            self._return_to_front(self._moving)
            return super().take_more(max_count, max_bytes)

    @property
    def unsettled(self) -> Sequence[bytes]:
        """The triggers in flight, oldest first."""
        return list(self._in_flight)

    def discard(self, reason: str) -> list[bytes]:
        with self._seqlock.write():
            self._return_to_front(self._moving)
            dropped = super().discard(reason)
            self.lost.update(map(id, dropped))
        return dropped

    def transfer_to_child(self, put: Callable[[bytes], object]) -> None:
        give_each(self._moving, put)
        super().transfer_to_child(put)

    def clear(self) -> None:
        self._moving.clear()
        super().clear()


class DiskState:
    """The state of the disk under a writer, and the way back from the fallback.

    Only the worker moves triggers from the fallback to disk, in `keep_up`; until it is empty, callers put into it.

    Attributes:
        cooldown: Seconds until a disk that failed is tried again.
        idle_cooldown: Seconds more while no trigger waits for it; long enough for an unused worker to end.
        is_direct: Whether the disk works, and triggers go straight to the writer.
        is_overtaken: Whether callers put into the fallback faster than the worker moves it to disk.
    """

    cooldown = 1.0
    idle_cooldown = 4.0

    def __init__(self, writer: Writer, fallback: FallbackBuffer, log: SpoolLog, wake: Callable[[], None]) -> None:
        self.is_direct = self.is_overtaken = self.is_closed = False
        self._writer = writer
        self._fallback = fallback
        self._log = log
        self._wake = wake
        self._retry_at = -math.inf

    @property
    def takes_triggers(self) -> bool:
        """True while a caller may try the disk: no cooldown, not closed, no older trigger in the fallback."""
        in_cooldown = self._log.problem is not None and monotonic() < self._retry_at
        return not (in_cooldown or self.is_closed or len(self._fallback))

    def work(self) -> bool:
        """Have triggers go straight to the writer, unless the fallback has older ones; return whether they do."""
        self._log.work()
        self.is_direct = not (self.is_closed or len(self._fallback))
        self.is_overtaken = self.is_overtaken and not self.is_direct
        return self.is_direct

    def fail(self, error: OSError) -> None:
        """Have triggers go to the fallback; the worker logs it in its next pass.

        Wakes nobody: the trigger that met the error is not stored yet, and late in a process a wakeup delivers,
        and ends everything.
        """
        self.is_direct = self.is_overtaken = False
        self._retry_at = monotonic() + self.cooldown
        self._log.fail(error)
        self._writer.seal()

    def fail_sync(self, error: OSError) -> None:
        """Do as `fail`, and wake the worker: no trigger comes that would."""
        self.fail(error)
        self._wake()

    def due_in(self) -> float | None:
        """Return the seconds until `keep_up` is due; None when it is not."""
        if len(self._fallback):
            return self._retry_at - monotonic()
        if self._log.problem is not None:
            return self._retry_at + self.idle_cooldown - monotonic()
        return None

    def postpone(self) -> None:
        """Have `keep_up` due a little later: another thread holds the writer, perhaps for long."""
        self._retry_at = max(self._retry_at, monotonic() + 0.1)

    def keep_up(self) -> int:
        """Move triggers from the fallback to disk if that is due, and return their number."""
        due = self.due_in()
        if due is None or due > 0:
            return 0
        self._retry_at = monotonic() + self.cooldown
        has_room = self._writer.make_room(b"")
        if not has_room:
            if not len(self._fallback):  # the disk works, though the spool is full
                self._log.work()
            return 0
        self._log.work()
        moved, before = 0, len(self._fallback)
        most = 2 * before  # then delivery goes on
        while moved < most and (count := self._fallback.bring_back(self._writer.append_all)):
            moved += count
            self.is_overtaken = self.is_overtaken or len(self._fallback) >= before
            before = len(self._fallback)
        if not self.work() and moved:
            self._retry_at = monotonic()  # goes on in the next pass
        return moved

    def close(self) -> None:
        self.is_closed, self.is_direct, self.is_overtaken = True, False, False

    def end(self) -> None:
        """Move the fallback to disk if that works, and accept nothing more."""
        try:
            if not self.is_closed and not self._fallback.is_idle and self._writer.make_room(b""):
                self._fallback.rescue(self._writer.append_all)
                self._log.work()
        except OSError as error:
            self._log.fail(error)
        self.close()
