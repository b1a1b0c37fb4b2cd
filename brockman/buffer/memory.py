"""Triggers that wait in memory.

`record_trigger` can be interrupted anywhere, by a signal handler, a finalizer or an exception from another thread,
and any of these may record a trigger, flush or close. So there is no lock on the way in. A trigger moves from
place to place by one C call that takes it out and puts it in (`move`), and is always in exactly one of them::

    put -> waiting -> in flight -> settled (counted in the counters)
              `-> evicted -> dropped (counted in the counters)

How many there are is read off the places, never kept beside them. `_bytes` and the counters's counts change in
straight lines of code, see `counters`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from brockman.buffer.base import EndsWithItsProcess
from brockman.buffer.counters import Counters
from brockman.buffer.moves import READ_TRIES, SeqLock, give_each, move
from brockman.exceptions import BufferFull
from brockman.process.sync import Condition
from brockman.process.threads import HAS_GIL
from brockman.trigger.batch import count_fitting

NEVER = 2**62  # a threshold that no buffer reaches


class MemoryBuffer(EndsWithItsProcess):
    """A first-in first-out buffer, bounded by count and by bytes.

    Any thread may `put`. `take` and `settle` belong to the one thread that has the flusher's role. Threads that
    put at the same instant may overshoot the bounds by one trigger each.
    """

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
            max_count: How many triggers may wait.
            max_bytes: How many bytes may wait.
            overflow: One of the policies of `Options.overflow`.
            block_timeout: Seconds that `put` may wait under the policy "block".
            wake: Called by `put` when as many wait as `set_wake_threshold` was told, and when there is no room.
            may_wait: Whether the calling thread may wait for room: not the one that makes it.
        """
        self._waiting: deque[bytes] = deque()
        self._in_flight: deque[bytes] = deque()
        self._evicted: deque[bytes] = deque()
        self._bytes = 0  # of what waits
        self._wake_count = 1
        self._wake_bytes = NEVER
        self._overflowed = False  # there was no room for a trigger since the last take
        self._counters = counters
        self._guard = counters.guard
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._overflow = overflow
        self._block_timeout = block_timeout
        self._wake = wake
        self._may_wait = may_wait
        self._blocked = Condition()
        self._discarded = False
        self._seqlock = SeqLock()  # take, settle and discard; never put
        self.removed = 0  # how many that once waited are settled or dropped; the flush watermark

    @property
    def version(self) -> int:
        """What was read is one moment's when this was even before, and is the same after."""
        return self._seqlock.version

    def __len__(self) -> int:
        """Return how many wait, those in flight not counted."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """How many are taken and not settled."""
        return len(self._in_flight)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not self._waiting and not self._in_flight

    @property
    def waiting_bytes(self) -> int:
        """Encoded size of what waits, in bytes."""
        return max(0, self._bytes) if self._waiting else 0

    @property
    def evicted(self) -> int:
        """How many are on their way from `waiting` to the counters."""
        return len(self._evicted)

    @property
    def admitted(self) -> int:
        """How many were ever put in; `removed` has reached this when all of them are settled."""
        for _ in range(READ_TRIES):
            version, removed = self.version, self.removed
            total = removed + len(self) + len(self._in_flight)
            still = version == self.version and removed == self.removed
            if still and version % 2 == 0 and not self._evicted:
                break
        return total

    @property
    def is_discarded(self) -> bool:
        """Whether `discard` was called: what is put afterwards will never be taken."""
        return self._discarded

    @property
    def oldest(self) -> bytes | None:
        """The oldest trigger that is not settled."""
        for place in (self._in_flight, self._waiting):
            try:
                return place[0]
            except IndexError:
                continue
        return None

    @property
    def is_due(self) -> bool:
        """Whether as much waits as `set_wake_threshold` was told, or there was no room for a trigger."""
        return self._overflowed or len(self._waiting) >= self._wake_count or self._bytes >= self._wake_bytes

    def holds(self, count: int, size: int) -> bool:
        """Return whether at least so many triggers, or bytes, wait."""
        return len(self) >= count or self.waiting_bytes >= size

    def set_wake_threshold(self, count: int, size: int) -> None:
        """Set how many triggers, or bytes, make `put` call `wake`. Only the flusher's role sets it."""
        self._wake_count, self._wake_bytes = count, size

    def put(self, body: bytes) -> bool:
        """Add a trigger; False when it was dropped for want of room (and counted as `overflow`).

        Blocks only under the policy "block". The trigger is committed by the one call of `append`.

        Raises:
            BufferFull: Under the policy "raise".
        """
        size, waiting = len(body), self._waiting
        if (len(waiting) >= self._max_count or self._bytes + size > self._max_bytes) and not self._make_room(size):
            self._counters.drop("overflow", body)
            if self._wake_count < NEVER:  # it sleeps, and is to tell of the drop
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
        if self._has_room(size):  # `_bytes` is a little ahead when the last one was taken at once
            return True
        self._overflowed = True
        if self._wake_count < NEVER:  # the flusher sleeps: the bounds are below a full batch
            self._wake()
        if size > self._max_bytes:
            return False
        if self._overflow == "drop_oldest":
            while not self._has_room(size) and move(self._waiting, self._evicted, 1):
                self._bury()
            return True
        if self._overflow != "block" or not self._may_wait():
            return False
        return self._blocked.wait(lambda: self._has_room(size), self._block_timeout, lambda: self._discarded)

    def _bury(self) -> None:
        """Count what was evicted. A signal handler may do the same in the middle: each is counted once."""
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
        """Move the oldest triggers in flight and return them: as many as the limits allow, at least one.

        What is still in flight, because its delivery was cut short by an error, is returned again instead.
        """
        self._overflowed = False
        with self._seqlock.write():
            if not self._in_flight and not self._discarded:
                # What a thread evicts between these two lines makes the batch another one, and at worst too large
                # for one request, which delivery then cuts.
                fitting = count_fitting(self._peek(min(max_count, self._likely(max_bytes))), max_bytes)
                move(self._waiting, self._in_flight, fitting)
                size = sum(map(len, self._in_flight))  # not in the next line: no call between its read and store
                with self._guard:
                    self._bytes -= size
                if HAS_GIL and not self._waiting:
                    self._bytes = 0  # an exception between append and += left it wrong: mended here
            batch = list(self._in_flight)
        self._blocked.notify()
        return batch

    def _likely(self, size: int) -> int:
        """Return about how many of those that wait have so many bytes together, and a quarter more.

        To look at all of a long backlog, in order to take a part of it, is work for nothing.
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
        """Count the oldest of those in flight as delivered, or as rejected; after `discard` only return False."""
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
        """Give all that is here to `put`, uncounted: for the child of a fork that takes over. Takes no lock."""
        give_each(self._in_flight, put)
        give_each(self._waiting, put)

    def clear(self) -> None:
        """Forget all that is here, uncounted: for a child, which begins with nothing of the parent's."""
        self._waiting.clear()
        self._in_flight.clear()

    def discard(self, reason: str) -> list[bytes]:
        """Drop all that waits and all in flight, and return it: the caller tells `on_drop`."""
        self._discarded = True
        dropped: list[bytes] = []
        with self._seqlock.write():
            move(self._waiting, self._in_flight, NEVER)
            while self._in_flight:
                dropped.append(self._in_flight[0])
                with self._guard:
                    self.removed += 1  # from here to the `del`, no call: see `counters`
                    self._counters.dropped[reason] += 1
                    del self._in_flight[0]
            self._bytes = 0
            self.set_wake_threshold(1, NEVER)  # a put that comes after this rings
        self._blocked.notify()
        return dropped
