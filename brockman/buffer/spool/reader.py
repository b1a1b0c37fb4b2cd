"""Reads the segments of one process in order, and knows which of their triggers are in flight.

The counts follow from three numbers that only grow: of the triggers `stored`, `stored - taken` wait,
`len(batch) - settled` are in flight, and the rest is settled. They change in straight lines without a call, see
`brockman.buffer.counters`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from brockman.buffer.counters import Counters
from brockman.buffer.spool.process_dir import ProcessDir
from brockman.buffer.spool.segment import NO_FILE, ReadResult, Segment

_GONE = (errno.ENOENT, errno.ENOTDIR, *NO_FILE)


class Reader:
    """The segments of one process, from `head` on. One caller at a time may `take`, `settle` or `evict`."""

    def __init__(self, counters: Counters, quarantine: Callable[[Segment, bytes], None]) -> None:
        """Make a reader without segments; `quarantine` keeps the bytes of a damaged place."""
        self.process_dirs: list[ProcessDir] = []  # more than one when someone has removed the first
        self.head = self.last = Segment(None, "")
        self.stored = self.stored_bytes = 0
        self.taken = self.taken_bytes = 0
        self.batch: list[bytes] = []
        self.settled = 0
        self.is_stuck = False  # whether a file could not be removed
        self.damaged = 0  # triggers found damaged since `notify_damaged`
        self._stops: list[int] = []  # where in the segment at the head each trigger of the batch ends
        self._start = 0  # where in it the batch begins
        self._is_whole = True  # whether nothing in the batch was damaged
        self._counters = counters
        self._quarantine = quarantine

    @property
    def waiting(self) -> int:
        return self.stored - self.taken

    @property
    def waiting_bytes(self) -> int:
        """Their size in bytes, with the frames."""
        return max(0, self.stored_bytes - self.taken_bytes) if self.stored > self.taken else 0

    @property
    def in_flight(self) -> int:
        return len(self.batch) - self.settled

    @property
    def is_empty(self) -> bool:
        """True while no trigger waits and none is in flight."""
        return self.stored == self.taken and len(self.batch) == self.settled

    def segments(self) -> Iterator[Segment]:
        segment: Segment | None = self.head
        while segment is not None:
            yield segment
            segment = segment.next

    def link(self, segment: Segment) -> None:
        """Add a segment to the end; the caller counts its triggers."""
        self.last.next = segment
        self.last = segment

    def take(self, max_count: int, max_bytes: int) -> list[bytes]:
        """Take the next batch, from one segment, and return it; an empty one when no trigger is left.

        Triggers that are still in flight are returned again instead.

        Raises:
            OSError: When a file cannot be read at present.
        """
        if self.in_flight:
            return self.batch[self.settled :]
        while True:
            segment = self.head
            was_open = segment.is_open  # before it is read: triggers appended later are seen the next time
            result = self._read(segment, max_count, max_bytes)
            bodies: list[bytes] = []
            stops: list[int] = []
            for span in result.spans:
                if span.body is None:
                    segment.damages += 1
                    self._quarantine(segment, segment.bytes_of(span))
                else:
                    bodies.append(span.body)
                    stops.append(span.stop)
            count, size = len(bodies), result.stop - segment.read_to
            self._start, self._is_whole = segment.read_to, count == len(result.spans)
            with self._counters.guard:
                self._take(segment, bodies, stops, count, size, result.stop)
            if bodies:
                return bodies
            if segment.damages or segment.seen < segment.count:
                self._count_damaged(segment)
            if segment.read_to >= segment.end and not was_open:
                self._finish(segment)
                if segment.next is None:
                    return []
                self.head = segment.next
            elif not result.spans:
                return []

    def _take(
        self, segment: Segment, bodies: list[bytes], stops: list[int], count: int, size: int, read_to: int
    ) -> None:
        surplus = segment.seen + count - segment.count  # someone has replaced the file by another
        if surplus > 0:
            self.stored += surplus
            self._counters.recovered += surplus
            segment.count += surplus
        segment.seen += count
        self.taken += count
        self.taken_bytes += size
        self.batch, self._stops, self.settled = bodies, stops, 0
        segment.read_to = read_to

    def put_back(self) -> None:
        """Return the triggers in flight to those that wait, unless there was damage between them."""
        segment, count, settled = self.head, self.in_flight, self.settled
        start = self._stops[settled - 1] if settled else self._start
        size = segment.read_to - start
        if not count or not self._is_whole:
            return
        with self._counters.guard:
            segment.seen -= count  # from here no call
            self.taken -= count
            self.taken_bytes -= size
            self.batch, self._stops, self.settled = [], [], 0
            segment.read_to = start

    @staticmethod
    def _read(segment: Segment, max_count: int, max_bytes: int) -> ReadResult:
        try:
            return segment.read(max_count, max_bytes)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return ReadResult([], segment.end)  # removed or replaced meanwhile

    def _count_damaged(self, segment: Segment) -> None:
        """Count the damaged triggers of a segment, if it is read to its present end. Idempotent."""
        with self._counters.guard:
            is_read = segment.read_to >= segment.end  # from here no call until `missing` is known
            missing = segment.count - segment.seen
        if not is_read:
            return
        damaged = max(missing, segment.damages)
        beyond = damaged - missing
        with self._counters.guard:
            self.stored += beyond  # from here no call until the last count
            self._counters.recovered += beyond
            self.taken += damaged
            self._counters.dropped["damaged"] += damaged
            segment.seen += missing
            segment.damages = 0
            self.damaged += damaged

    def _finish(self, segment: Segment) -> None:
        """Count the damage of a segment that is read, or evicted, and remove it. Idempotent."""
        segment.read_to = segment.end
        self._count_damaged(segment)
        self.is_stuck = not segment.remove() or self.is_stuck
        segment.process_dir = None

    def notify_damaged(self) -> None:
        """Call `on_drop` for the triggers found damaged since the last time."""
        damaged, self.damaged = self.damaged, 0
        for _ in range(damaged):
            self._counters.notify_drop("damaged", None)

    def settle(self, count: int, *, delivered: bool) -> None:
        """Count the oldest of those in flight as delivered or rejected."""
        with self._counters.guard:
            self.settled += count
            if delivered:
                self._counters.delivered += count
            else:
                self._counters.rejected += count

    def acknowledge(self) -> None:
        """Write the acknowledged offset, and remove a segment that is settled."""
        segment = self.head
        if segment.process_dir is None:
            return
        if self.in_flight:
            if self.settled:
                segment.acknowledge(self._stops[self.settled - 1])
            return
        was_open = segment.is_open
        segment.acknowledge(segment.read_to)
        if segment.read_to >= segment.end and not was_open:
            self._finish(segment)
            if segment.next is not None:
                self.head = segment.next

    def evict(self) -> list[bytes] | None:
        """Drop the oldest segment that is neither read nor written as `overflow`, and return its triggers.

        Returns:
            None when there is no such segment; an empty list when it is being read by now.
        """
        before = self.head
        victim = before.next
        if victim is None or victim.is_open:
            return None
        result = self._read(victim, victim.count, victim.end)
        bodies = [span.body for span in result.spans if span.body is not None]
        count, size, is_mine = len(bodies), victim.end - victim.read_to, False
        with self._counters.guard:
            # Not if a signal handler has flushed meanwhile: the worker did not wait for this thread.
            if self.head is before and before.next is victim:  # from here no call
                before.next = victim.next
                self.taken += count
                self.taken_bytes += size
                self._counters.dropped["overflow"] += count
                victim.seen += count
                is_mine = True
                if self.last is victim:
                    self.last = before
        if not is_mine:
            return []
        self._finish(victim)
        return bodies

    @property
    def oldest(self) -> bytes | None:
        """The oldest trigger that is not settled; None when there is none, or it cannot be read."""
        batch, settled = self.batch, self.settled
        if settled < len(batch):
            return batch[settled]
        for segment in self.segments():
            if segment.read_to < segment.end:
                body = segment.peek()
                if body is not None:
                    return body
        return None

    def close(self) -> None:
        """Close the files and the directory, and remove what is settled.

        Triggers that wait or are in flight stay for the process that adopts them, and count as waiting.
        """
        unsettled = self.in_flight
        self.taken, self.batch, self.settled = self.taken - unsettled, [], 0
        for segment in self.segments():
            is_read = segment.process_dir is not None and segment.read_to >= segment.end
            if is_read and not (segment is self.head and unsettled):
                self._finish(segment)
            segment.close()
        for process_dir in self.process_dirs:
            process_dir.remove_if_empty()

    def after_fork_in_child(self) -> None:
        """Close this copy of the parent's files, and change nothing in them."""
        for segment in self.segments():
            segment.close()
        for process_dir in self.process_dirs:
            process_dir.close()
