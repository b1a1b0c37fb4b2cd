"""Segments that are read one after the other, and what is in flight of them.

What was `stored` in a reader is in one of three places, and their counts follow from three numbers that only
grow: `stored - taken` wait, `len(batch) - settled` of the taken are in flight, the rest has left. They change in
straight lines without a call, see `brockman.buffer.counters`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from brockman.buffer.counters import Counters
from brockman.buffer.spool.process_dir import ProcessDir
from brockman.buffer.spool.segment import NO_FILE, ReadResult, Segment

_GONE = (errno.ENOENT, errno.ENOTDIR, *NO_FILE)


class Reader:
    """The segments of one process, from `head` on. Whoever calls `take`, `settle` or `evict` is alone with it."""

    def __init__(self, counters: Counters, quarantine: Callable[[Segment, bytes], None]) -> None:
        """Make a reader of nothing.

        Args:
            counters: Where damage is counted, and what is found beyond what was known.
            quarantine: Given what lay at a damaged place.
        """
        self.folders: list[ProcessDir] = []  # more than one when somebody has removed the first
        self.head = self.last = Segment(None, "")
        self.stored = self.stored_bytes = 0
        self.taken = self.taken_bytes = 0
        self.batch: list[bytes] = []
        self.settled = 0
        self.is_stuck = False  # whether a file could not be removed
        self.lost = 0  # how many were found damaged since `notify_lost`
        self._stops: list[int] = []  # where in the segment at the head each of the batch ends
        self._counters = counters
        self._quarantine = quarantine

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self.stored - self.taken

    @property
    def waiting_bytes(self) -> int:
        """How many bytes that is, with their frames."""
        return max(0, self.stored_bytes - self.taken_bytes) if self.stored > self.taken else 0

    @property
    def in_flight(self) -> int:
        """How many are taken and not settled."""
        return len(self.batch) - self.settled

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return self.stored == self.taken and len(self.batch) == self.settled

    def segments(self) -> Iterator[Segment]:
        """Yield all, from the one that is read to the last."""
        segment: Segment | None = self.head
        while segment is not None:
            yield segment
            segment = segment.next

    def link(self, segment: Segment) -> None:
        """Add a segment to the end; how much is in it is counted by the caller."""
        self.last.next = segment
        self.last = segment

    def take(self, max_count: int, max_bytes: int) -> list[bytes]:
        """Take the next batch, which comes from one segment; nothing when none is left.

        What is still in flight is returned again instead.

        Raises:
            OSError: When a file cannot be read, but perhaps later.
        """
        if self.in_flight:
            return self.batch[self.settled :]
        while True:
            segment = self.head
            was_open = segment.is_open  # asked before it is read: what comes later is seen the next time
            part = self._read(segment, max_count, max_bytes)
            bodies: list[bytes] = []
            stops: list[int] = []
            for span in part.spans:
                if span.body is None:
                    segment.damages += 1
                    self._quarantine(segment, segment.bytes_of(span))
                else:
                    bodies.append(span.body)
                    stops.append(span.stop)
            count, size = len(bodies), part.stop - segment.read_to
            with self._counters.guard:
                self._take(segment, bodies, stops, count, size, part.stop)
            if bodies:
                return bodies
            if segment.damages or segment.seen < segment.count:
                self._count_lost(segment)
            if segment.read_to >= segment.end and not was_open:
                self._finish(segment)
                if segment.next is None:
                    return []
                self.head = segment.next
            elif not part.spans:
                return []

    def _take(
        self, segment: Segment, bodies: list[bytes], stops: list[int], count: int, size: int, read_to: int
    ) -> None:
        surplus = segment.seen + count - segment.count  # somebody has put a file in the place of another
        if surplus > 0:
            self.stored += surplus
            self._counters.recovered += surplus
            segment.count += surplus
        segment.seen += count
        self.taken += count
        self.taken_bytes += size
        self.batch, self._stops, self.settled = bodies, stops, 0
        segment.read_to = read_to

    @staticmethod
    def _read(segment: Segment, max_count: int, max_bytes: int) -> ReadResult:
        try:
            return segment.read(max_count, max_bytes)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return ReadResult([], segment.end)  # removed under our feet, or something else is in its place

    def _count_lost(self, segment: Segment) -> None:
        """Count what was lost in a segment, if all that is in it by now is read. Twice does no harm."""
        with self._counters.guard:
            is_read = segment.read_to >= segment.end  # from here no call until it is known how many are missing
            missing = segment.count - segment.seen
        if not is_read:
            return
        lost = max(missing, segment.damages)
        beyond = lost - missing
        with self._counters.guard:
            self.stored += beyond  # from here no call until the last count
            self._counters.recovered += beyond
            self.taken += lost
            self._counters.dropped["damaged"] += lost
            segment.seen += missing
            segment.damages = 0
            self.lost += lost

    def _finish(self, segment: Segment) -> None:
        """Count what was lost in a segment that is read to its end, and remove it. Doing it twice does no harm."""
        segment.read_to = segment.end  # what was evicted, too
        self._count_lost(segment)
        self.is_stuck = not segment.remove() or self.is_stuck
        segment.folder = None

    def notify_lost(self) -> None:
        """Tell `on_drop` of what was found damaged since the last time."""
        lost, self.lost = self.lost, 0
        for _ in range(lost):
            self._counters.notify_drop("damaged", None)

    def settle(self, count: int, *, delivered: bool) -> None:
        """Count the oldest of those in flight as delivered, or as rejected."""
        with self._counters.guard:
            self.settled += count
            if delivered:
                self._counters.delivered += count
            else:
                self._counters.rejected += count

    def acknowledge(self) -> None:
        """Note in the files what is settled, and remove what is of no more use.

        Raises:
            OSError: When that cannot be written.
        """
        segment = self.head
        if segment.folder is None:
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
        """Drop the oldest segment that is neither read nor written as `overflow`, and return what was in it.

        Returns:
            None when there is no such segment; nothing also when it is being read by now.
        """
        before = self.head
        victim = before.next
        if victim is None or victim.is_open:
            return None
        part = self._read(victim, victim.count, victim.end)
        bodies = [span.body for span in part.spans if span.body is not None]
        count, size, is_mine = len(bodies), victim.end - victim.read_to, False
        with self._counters.guard:
            # Else a signal handler has flushed meanwhile, and the flusher did not wait for us.
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
        """Let go of the files and of the folder, and remove what is of no more use.

        What waits and what is in flight stays for whoever comes next, and counts as waiting here.
        """
        unsettled = self.in_flight
        self.taken, self.batch, self.settled = self.taken - unsettled, [], 0
        for segment in self.segments():
            is_read = segment.folder is not None and segment.read_to >= segment.end
            if is_read and not (segment is self.head and unsettled):
                self._finish(segment)
            segment.close()
        for folder in self.folders:
            folder.dissolve()

    def after_fork_in_child(self) -> None:
        """Close everything, and nothing else: this is a copy in a forked child."""
        for segment in self.segments():
            segment.close()
        for folder in self.folders:
            folder.close()
