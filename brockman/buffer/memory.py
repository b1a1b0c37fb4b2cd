"""The buffer in memory.

`record_trigger` can be interrupted anywhere, by a signal handler, a finalizer or an exception from another thread,
and any of these may record a trigger, flush or close. So `put` takes no lock. A trigger moves from place to place
by one C call that takes it out and puts it in (`move`), and is always in exactly one of them::

    put -> waiting -> in flight -> settled (counted in `Counters`)
              `-> evicted -> dropped (counted in `Counters`)

The number of triggers is read off the places, never kept beside them. `_bytes` and the counters change in straight
lines of code, see `counters`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from brockman.buffer.base import Buffer
from brockman.buffer.counters import Counters
from brockman.buffer.moves import READ_TRIES, SeqLock, give_each, move
from brockman.exceptions import BufferFull
from brockman.process.sync import Condition
from brockman.process.threads import HAS_GIL
from brockman.trigger.batch import count_fitting

NEVER = 2**62  # a threshold that no buffer reaches


class MemoryBuffer(Buffer):
    """A buffer in memory, bounded by count and by bytes.

    Threads that put at the same instant may overshoot the bounds by one trigger each.
    """

    removed = 0

    def __init__(
        self,
        counters: Counters,
        *,
        max_count: int,
        max_bytes: int,
        overflow: str,
        block_timeout: float,
        wake: Callable[[], None],
        may_wait: Callable[[], bool],
    ) -> None:
        """Make an empty buffer.

        Args:
            counters: Where settled and dropped triggers are counted.
            max_count: The number of triggers that may wait.
            max_bytes: The number of bytes that may wait.
            overflow: As `Options.overflow`.
            block_timeout: As `Options.block_timeout`.
            wake: Called by `put` at the wake threshold, and when there is no room.
            may_wait: Returns whether the calling thread may wait for room: not the worker, which makes it.
        """
        super().__init__()
        self._waiting: deque[bytes] = deque()
        self._in_flight: deque[bytes] = deque()
        self._evicted: deque[bytes] = deque()
        self._bytes = 0  # of what waits
        self._counters = counters
        self._guard = counters.guard
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._overflow = overflow
        self._block_timeout = block_timeout
        self._wake = wake
        self._may_wait = may_wait
        self._blocked = Condition()
        self._seqlock = SeqLock()  # held by take, settle and discard; never by put

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def version(self) -> int:
        return self._seqlock.version

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def evicted(self) -> int:
        return len(self._evicted)

    @property
    def waiting_bytes(self) -> int:
        return max(0, self._bytes) if self._waiting else 0

    @property
    def oldest(self) -> bytes | None:
        for place in (self._in_flight, self._waiting):
            try:
                return place[0]
            except IndexError:
                continue
        return None

    def put(self, body: bytes) -> bool:
        """Do as `Buffer.put`. The trigger is committed by the one call of `append`."""
        size, waiting = len(body), self._waiting
        if (len(waiting) >= self._max_count or self._bytes + size > self._max_bytes) and not self._make_room(size):
            self._counters.drop("overflow", body)
            if self._wake_count < NEVER:  # the worker sleeps, and has to report the drop
                self._wake()
            if self._overflow == "raise":
                raise BufferFull(
                    f"{len(self._waiting)} triggers of {self._bytes} bytes wait; there is no room:"
                    " raise max_queue_size or max_queue_bytes, or choose another overflow policy"
                )
            return False
        waiting.append(body)
        if HAS_GIL:
            self._bytes += size
        else:
            with self._guard:
                self._bytes += size
        if len(waiting) >= self._wake_count or self._bytes >= self._wake_bytes:
            self._wake()
        return True

    def _has_room(self, size: int) -> bool:
        return len(self._waiting) < self._max_count and self.waiting_bytes + size <= self._max_bytes

    def _make_room(self, size: int) -> bool:
        if self._has_room(size):  # `_bytes` is ahead for a moment when the last one was taken at once
            return True
        self._overflowed = True
        if self._wake_count < NEVER:  # the worker sleeps: the bounds are below a full batch
            self._wake()
        if size > self._max_bytes:
            return False
        if self._overflow == "drop_oldest":
            while not self._has_room(size) and move(self._waiting, self._evicted, 1):
                self._count_evicted()
            return True
        if self._overflow != "block" or not self._may_wait():
            return False
        return self._blocked.wait(lambda: self._has_room(size), self._block_timeout, lambda: self._discarded)

    def _count_evicted(self) -> None:
        """Count what was evicted. A signal handler may do the same within it: each trigger is counted once."""
        while self._evicted:
            try:
                body = self._evicted[0]
            except IndexError:
                return
            size = len(body)
            mine = False
            with self._guard:
                if self._evicted and self._evicted[0] is body:  # from here to the `del`, no call: see `counters`
                    self._bytes -= size
                    self.removed += 1
                    self._counters.dropped["overflow"] += 1
                    del self._evicted[0]
                    mine = True
            if mine:
                self._counters.notify_drop("overflow", body)

    def take(self, max_count: int, max_bytes: int) -> Sequence[bytes]:
        self._overflowed = False
        with self._seqlock.write():
            if not self._in_flight:
                self._move_in_flight(max_count, max_bytes)
            batch = list(self._in_flight)
        self._blocked.notify()
        return batch

    def take_more(self, max_count: int, max_bytes: int) -> Sequence[bytes]:
        with self._seqlock.write():
            before = len(self._in_flight)
            self._move_in_flight(max_count, max_bytes)
            more = list(islice(self._in_flight, before, None))
        self._blocked.notify()
        return more

    def _move_in_flight(self, max_count: int, max_bytes: int) -> None:
        if self._discarded:
            return
        before = len(self._in_flight)
        # A thread may evict between these two lines: then the batch is another one, and at worst too large for one
        # request, which the engine cuts.
        fitting = count_fitting(self._peek(min(max_count, self._estimate(max_bytes))), max_bytes)
        move(self._waiting, self._in_flight, fitting)
        size = sum(map(len, islice(self._in_flight, before, None)))  # no call between read and store below
        with self._guard:
            self._bytes -= size
        if HAS_GIL and not self._waiting:
            self._bytes = 0  # an exception between append and += left it wrong: corrected here

    def _estimate(self, size: int) -> int:
        """Return about how many waiting triggers have `size` bytes together, and a quarter more.

        So that not all of a long backlog is measured to take a part of it.
        """
        average = self.waiting_bytes // (len(self._waiting) or 1)
        return size * 5 // 4 // max(1, average) + 1

    def _peek(self, count: int) -> list[bytes]:
        for _ in range(READ_TRIES):
            try:
                return list(islice(self._waiting, count))
            except RuntimeError:  # a thread put between the two calls
                continue
        return list(self._waiting.copy())[:count]

    def settle(self, count: int, *, delivered: bool) -> bool:
        with self._seqlock.write():
            if self._discarded:
                return False
            for _ in range(count):
                self._in_flight.popleft()
            with self._guard:
                self.removed += count
                if delivered:
                    self._counters.delivered += count
                else:
                    self._counters.rejected += count
        return True

    def transfer_to_child(self, put: Callable[[bytes], object]) -> None:
        give_each(self._in_flight, put)
        give_each(self._waiting, put)

    def clear(self) -> None:
        self._waiting.clear()
        self._in_flight.clear()

    def discard(self, reason: str) -> list[bytes]:
        self._discarded = True
        dropped: list[bytes] = []
        # The guard around all: it takes longer than the rest, and close waits for it.
        with self._seqlock.write(), self._guard:
            move(self._waiting, self._in_flight, NEVER)
            while self._in_flight:
                dropped.append(self._in_flight[0])
                self.removed += 1  # from here to the `del`, no call: see `counters`
                self._counters.dropped[reason] += 1
                del self._in_flight[0]
            self._bytes = 0
            self.set_wake_threshold(1, NEVER)  # a later put wakes
        self._blocked.notify()
        return dropped
