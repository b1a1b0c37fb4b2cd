"""Reads the segments of one process in order, and knows which of their triggers are in flight.

The counts follow from three numbers that only grow: of the triggers `stored`, `stored - taken` wait,
`len(batch) - settled` are in flight, and the rest is settled. They change in straight lines without a call, see
`brockman.buffer.counters`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import suppress

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
        self.settled = 0  # of the batch
        self.is_stuck = False  # whether a file could not be removed
        self.damaged = 0  # triggers found damaged since `notify_damaged`
        self._reading = self.head  # where the next triggers are
        self._places: list[tuple[Segment, int]] = []  # where each trigger of the batch ends
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

    @property
    def unsettled(self) -> list[bytes]:
        """The triggers in flight, oldest first."""
        return self.batch[self.settled :]

    def take_more(self, max_count: int, max_bytes: int) -> list[bytes]:
        """Take the next triggers in flight, from one segment, and return them; none when there are none.

        Raises:
            OSError: When a file cannot be read at present.
        """
        while True:
            segment = self._reading
            was_open = segment.is_open  # before it is read: triggers appended later are seen the next time
            result = self._read(segment, max_count, max_bytes)
            bodies: list[bytes] = []
            places: list[tuple[Segment, int]] = []
            for span in result.spans:
                if span.body is None:
                    segment.damages += 1
                    self._quarantine(segment, segment.bytes_of(span))
                else:
                    bodies.append(span.body)
                    places.append((segment, span.stop))
            count, size = len(bodies), result.stop - segment.read_to
            unsettled = self.in_flight
            if unsettled:
                batch, places, settled = self.batch + bodies, self._places + places, self.settled
            else:
                batch, settled = bodies, 0
            with self._counters.guard:
                self._take(segment, batch, places, settled, count, size, result.stop)
            if bodies:
                return bodies
            if segment.damages or segment.seen < segment.count:
                self._count_damaged(segment)
            if segment.read_to >= segment.end and not was_open:
                if not unsettled:
                    self._finish_before(segment)
                    self._finish(segment)
                if segment.next is None:
                    return []
                self._reading = segment.next
            elif not result.spans:
                return []

    def _take(
        self,
        segment: Segment,
        batch: list[bytes],
        places: list[tuple[Segment, int]],
        settled: int,
        count: int,
        size: int,
        read_to: int,
    ) -> None:
        surplus = segment.seen + count - segment.count  # someone has replaced the file by another
        if surplus > 0:
            self.stored += surplus
            self._counters.recovered += surplus
            segment.count += surplus
        segment.seen += count
        self.taken += count
        self.taken_bytes += size
        self.batch, self._places, self.settled = batch, places, settled
        segment.read_to = read_to

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
        """Write the acknowledged offsets, and remove the segments that are settled."""
        if self.in_flight:
            if self.settled:
                segment, stop = self._places[self.settled - 1]
                self._finish_before(segment)
                segment.acknowledge(stop)
            return
        segment = self._reading
        was_open = segment.is_open
        self._finish_before(segment)
        if segment.process_dir is None:
            return
        segment.acknowledge(segment.read_to)
        if segment.read_to >= segment.end and not was_open:
            self._finish(segment)
            if segment.next is not None:
                self._reading = self.head = segment.next

    def _finish_before(self, segment: Segment) -> None:
        """Remove the segments before this one, which are settled."""
        while self.head is not segment and self.head.next is not None:
            if self.head.process_dir is not None:
                with suppress(OSError):  # of use only if it cannot be removed
                    self.head.acknowledge(self.head.read_to)
            self._finish(self.head)
            self.head = self.head.next

    def evict(self) -> list[bytes] | None:
        """Drop the oldest segment that is neither read nor written as `overflow`, and return its triggers.

        Returns:
            None when there is no such segment; an empty list when it is being read by now.
        """
        before = self._reading
        victim = before.next
        if victim is None or victim.is_open:
            return None
        result = self._read(victim, victim.count, victim.end)
        bodies = [span.body for span in result.spans if span.body is not None]
        count, size, is_mine = len(bodies), victim.end - victim.read_to, False
        with self._counters.guard:
            # Not if a signal handler has flushed meanwhile: the worker did not wait for this thread.
            if self._reading is before and before.next is victim:  # from here no call
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
        needed = {id(segment) for segment, _ in self._places[self.settled :]}
        unsettled = self.in_flight
        self.taken, self.batch, self._places, self.settled = self.taken - unsettled, [], [], 0
        for segment in self.segments():
            is_read = segment.process_dir is not None and segment.read_to >= segment.end
            if is_read and id(segment) not in needed:
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
