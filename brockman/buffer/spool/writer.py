"""What this process leaves on disk: appended by any thread, read on by the flusher.

No lock on the way in, as in `buffer.memory`. A frame is copied into the mapped segment and counted in a straight
line of code without a call, so nothing comes in between, no signal handler and no other thread; see `counters`.
Where files are not mapped, a `pwrite` under a lock stands in the place of the copy: the same line makes it count,
and what was cut short before that is written over.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count

from brockman.buffer.counters import Counters
from brockman.buffer.spool.directory import SpoolDir
from brockman.buffer.spool.frame import FRAME_BYTES, HEADER
from brockman.buffer.spool.process_dir import make_process_dir
from brockman.buffer.spool.quota import Quota
from brockman.buffer.spool.reader import Reader
from brockman.buffer.spool.segment import MAX_BYTES, Segment, check_written, name_of
from brockman.process.clock import monotonic
from brockman.process.threads import HAS_GIL

_NOWHERE = Segment(None, "")  # full and closed


class Writer(Reader):
    """The reader of this process, whose last segment is written while it is `active`.

    Invariant: a segment is written only by who has seen, in the same straight line, that it is the active one.
    """

    def __init__(
        self,
        counters: Counters,
        quarantine: Callable[[Segment, bytes], None],
        spool: SpoolDir,
        quota: Quota,
        *,
        segment_bytes: int,
        fsync: str,
    ) -> None:
        """Open nothing yet.

        Args:
            counters: As for a reader.
            quarantine: As for a reader.
            spool: The spool's folder.
            quota: How much may lie there.
            segment_bytes: Room in a segment.
            fsync: As `Options.spool_fsync`.
        """
        super().__init__(counters, quarantine)
        self.active = _NOWHERE
        self.born = 0.0  # when the active segment was begun
        self._guard = counters.guard
        self._spool = spool
        self._quota = quota
        self._segment_bytes = segment_bytes
        self._durable = fsync == "always"
        self.unsynced: deque[Segment] | None = deque() if fsync == "interval" else None
        self._numbers = count(1)
        # Held to change the active segment, and for one write where it is not mapped. It lets its own thread in
        # again: a signal handler may come at any call.
        self.changing = threading.RLock()

    def append(self, body: bytes, source: deque[bytes] | None = None) -> bool:
        """Store a trigger; False when it needs a new segment first. Blocks only where files are not mapped.

        Args:
            body: The trigger.
            source: Where it waits until it is stored, as the first.

        Raises:
            OSError: Where they are not, when it could not be written.
        """
        frame = b"\x1e%d %b\n" % (zlib.crc32(body), body)  # `make_frame`, written out: this is on the way of each
        size = len(frame)
        while True:
            segment = self.active
            start = segment.end
            stop = start + size
            place = slice(start, stop)  # made here: it may run a finalizer, which may record a trigger
            if stop > segment.limit:
                return False
            if segment.map is None:
                return self._write(frame, source)
            if not HAS_GIL:
                return self._copy_guarded(frame, source)
            if segment is self.active and segment.end == start:  # from here no call
                segment.map[place] = frame
                segment.end = stop
                segment.count += 1
                self.stored += 1
                self.stored_bytes += size
                if source is not None:
                    del source[0]
                return True

    def _copy_guarded(self, frame: bytes, source: deque[bytes] | None) -> bool:
        size = len(frame)
        with self._guard:  # from here no call: a signal handler of this thread is let in again
            segment = self.active
            stop = segment.end + size
            if stop > segment.limit or segment.map is None:
                return False
            segment.map[segment.end : stop] = frame
            segment.end = stop
            segment.count += 1
            self.stored += 1
            self.stored_bytes += size
            if source is not None:
                del source[0]
            return True

    def _write(self, frame: bytes, source: deque[bytes] | None) -> bool:
        size = len(frame)
        with self.changing:
            while True:
                segment = self.active
                start = segment.end
                stop = start + size
                # No Python function, and no jump, which in 3.10 is as bad: a signal handler may come at its start,
                # and what that stored would be written over.
                if stop <= segment.limit:
                    written = os.pwrite(segment.descriptor, frame, start)
                else:
                    return False
                check_written(written, frame)
                with self._guard:
                    # A signal handler may have come after the write, with a trigger of its own, or with a change.
                    if segment is self.active and segment.end == start:  # from here no call
                        segment.end = stop
                        segment.count += 1
                        self.stored += 1
                        self.stored_bytes += size
                        if source is not None:
                            del source[0]
                        return True

    def make_room(self, body: bytes) -> bool:
        """Begin a new segment, unless there is room for a trigger by now; False when the spool is full.

        Raises:
            OSError: When the disk does not take it.
        """
        size = len(body) + FRAME_BYTES
        with self.changing:
            seen = self.active
            if seen.end + size <= seen.limit:
                return True  # another thread was first
            self._spool.open()
            room = max(self._segment_bytes, len(HEADER) + size)
            if room > MAX_BYTES or not self._quota.has_room(room):
                return False
            self._begin(room, seen)
        return True

    def may_hold(self, body: bytes) -> bool:
        """Return whether there would be room for a trigger if nothing else were there."""
        return len(HEADER) + len(body) + FRAME_BYTES <= min(MAX_BYTES, self._quota.max_bytes)

    def wants_rotation(self, max_age: float) -> bool:
        """Whether the active segment was removed by somebody, or holds something and is old.

        To be asked while `changing` is held: else it could be sealed meanwhile, and its number be another file's.
        """
        active = self.active
        is_old = active.count > 0 and monotonic() - self.born > max_age
        return active is not _NOWHERE and (is_old or active.is_removed)

    def rotate(self) -> None:
        """Begin a new segment, whatever room there is in this one; where that cannot be, the old one goes on.

        Raises:
            OSError: When the disk does not take it, and the old one was removed.
        """
        with self.changing:
            seen = self.active
            try:
                self._spool.open()
                if self._quota.has_room(self._segment_bytes):
                    self._begin(self._segment_bytes, seen)
            except OSError:
                if self.active is not seen or seen.is_removed:
                    raise
                self.born = monotonic()  # another time

    def _begin(self, room: int, seen: Segment) -> None:
        new, is_linked = self._name_next(), False
        try:
            self._make(new, room)
            with self._guard:
                if self.active is seen:  # else a signal handler has begun another one meanwhile; no call here
                    self.last.next = new
                    self.last = self.active = new
                    seen.is_open = False
                    is_linked = True
        finally:
            if not is_linked:  # nor would anybody else remove it while this process lives
                new.remove()
        if not is_linked:
            return
        self.born = monotonic()
        self._quota.changed(room)
        if self.unsynced is not None:
            self.unsynced.append(new)
        self._seal(seen)

    def _name_next(self) -> Segment:
        if not self.folders or self.folders[-1].is_removed:
            self.folders.append(make_process_dir(self._spool, os.urandom))
            self._close_removed_folders()
        folder = self.folders[-1]
        while True:
            segment = Segment(folder, name_of(next(self._numbers)))
            if not folder.has(segment.name):  # else somebody's copy: it is left for who adopts the folder
                return segment

    def _make(self, segment: Segment, room: int) -> None:
        try:
            segment.make(room, mapped=self._spool.may_map)
        except FileExistsError:
            segment.folder = None  # not ours to remove
            raise
        if self._durable and segment.folder is not None:
            segment.sync()
            segment.folder.sync()

    def _close_removed_folders(self) -> None:
        """Let go of folders that somebody has removed, as soon as nothing of them is left to be read."""
        used = {id(segment.folder) for segment in self.segments()}
        for folder in self.folders[:-1]:
            if id(folder) not in used:
                self.folders.remove(folder)
                folder.close()

    def _seal(self, segment: Segment) -> None:
        if segment is _NOWHERE:
            return
        size = segment.limit
        try:
            if self._durable and segment.descriptor >= 0:  # else it is settled already
                segment.sync()
        finally:
            segment.seal()
            self._quota.changed(segment.end - size)

    def give_up(self) -> None:
        """Write no more to the active segment; the next trigger needs a new one."""
        with self.changing:
            seen = self.active
            with self._guard:
                self.active = _NOWHERE
                seen.is_open = False
            with suppress(OSError):  # a disk that fails is the reason for this
                self._seal(seen)

    def sync(self) -> None:
        """Have what was appended reach the disk. Blocks.

        Raises:
            OSError: When the disk fails.
        """
        with self.changing:
            if self.active is not _NOWHERE:
                self.active.sync()

    def _finish(self, segment: Segment) -> None:
        size = 0 if segment.folder is None else segment.end
        super()._finish(segment)
        self._quota.changed(-size)

    def after_fork_in_child(self) -> None:
        """Also keep a call that the fork interrupted from writing any more."""
        self.active = _NOWHERE
        super().after_fork_in_child()

    def close(self) -> None:
        """Write no more, and do as `Reader.close`."""
        self.give_up()
        super().close()
