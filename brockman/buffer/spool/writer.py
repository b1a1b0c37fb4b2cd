"""This process's log: any thread appends, the worker reads.

No lock on the way in, as in `buffer.memory`. A frame is copied into the mapped segment and counted in a straight
line of code without a call, so nothing comes in between, no signal handler and no other thread; see `counters`.
Where files are not mapped, `pwrite` under a lock replaces the copy: the frame counts from the same line on, and
what an interrupted write has left is overwritten.
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
from brockman.buffer.spool.frame import FRAME_BYTES, HEADER, make_frame
from brockman.buffer.spool.process_dir import make_process_dir
from brockman.buffer.spool.quota import Quota
from brockman.buffer.spool.reader import Reader
from brockman.buffer.spool.segment import MAX_BYTES, Segment, check_written, name_of
from brockman.process.clock import monotonic
from brockman.process.threads import HAS_GIL

_NOWHERE = Segment(None, "")  # full and closed


class Writer(Reader):
    """The reader of this process, whose last segment is written while it is `active`.

    Invariant: a thread writes to a segment only after checking, in the same straight line, that it is active.
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
        super().__init__(counters, quarantine)
        self.active = _NOWHERE
        self.started = 0.0  # when the active segment was created
        self._guard = counters.guard
        self._spool = spool
        self._quota = quota
        self._segment_bytes = segment_bytes
        self._durable = fsync == "always"
        self.unsynced: deque[Segment] | None = deque() if fsync == "interval" else None
        self._numbers = count(1)
        # Held to change the active segment, and for one write where it is not mapped. Reentrant: a signal handler
        # may come at any call.
        self.changing = threading.RLock()
        self._is_closed = False

    def append(self, body: bytes) -> bool:
        """Store a trigger; return False when it needs a new segment. Blocks only where files are not mapped.

        Raises:
            OSError: Where they are not, when it could not be written.
        """
        frame = b"\x1e%d %b\n" % (zlib.crc32(body), body)  # `make_frame` inlined: every trigger comes here
        size = len(frame)
        while True:
            segment = self.active
            start = segment.end
            stop = start + size
            place = slice(start, stop)  # made here: it may run a finalizer, which may record a trigger
            if stop > segment.limit:
                return False
            if segment.map is None:
                return self._write(frame, 1)
            if not HAS_GIL:
                return self._copy_guarded(frame, 1)
            if segment is self.active and segment.end == start:  # from here no call
                segment.map[place] = frame
                segment.end = stop
                segment.count += 1
                self.stored += 1
                self.stored_bytes += size
                return True

    def append_all(self, source: deque[bytes]) -> bool:
        """Store all triggers of a deque, and empty it in the same line; return False when the spool is full."""
        bodies = list(source)
        frames = b"".join(map(make_frame, bodies))
        with self.changing:
            if not self._begin_unless_room(len(frames)):
                return False
            if self.active.map is None:
                return self._write(frames, len(bodies), source)
            return self._copy_guarded(frames, len(bodies), source)

    def _copy_guarded(self, frames: bytes, count: int, source: deque[bytes] | None = None) -> bool:
        """Do as `append`, which repeats this because of its cost."""
        size = len(frames)
        while True:
            with self._guard:  # reentrant: a signal handler may append within it
                segment = self.active
                start = segment.end
                stop = start + size
                place = slice(start, stop)
                if stop > segment.limit or segment.map is None:
                    return False
                if segment is self.active and segment.end == start:  # from here no call but the last
                    segment.map[place] = frames
                    segment.end = stop
                    segment.count += count
                    self.stored += count
                    self.stored_bytes += size
                    if source is not None:
                        source.clear()
                    return True

    def _write(self, frames: bytes, count: int, source: deque[bytes] | None = None) -> bool:
        size = len(frames)
        with self.changing:
            while True:
                segment = self.active
                start = segment.end
                stop = start + size
                # No Python function, and no jump, which in 3.10 is as bad: a signal handler may come at its start,
                # and what that stored would be overwritten.
                if stop <= segment.limit:
                    written = os.pwrite(segment.descriptor, frames, start)
                else:
                    return False
                check_written(written, frames)
                with self._guard:
                    # A signal handler may have come after the write, with a trigger of its own, or with a change.
                    if segment is self.active and segment.end == start:  # from here no call but the last
                        segment.end = stop
                        segment.count += count
                        self.stored += count
                        self.stored_bytes += size
                        if source is not None:
                            source.clear()
                        return True

    def make_room(self, body: bytes) -> bool:
        """Begin a new segment, unless there is room for a trigger by now; return False when the spool is full."""
        with self.changing:
            return self._begin_unless_room(len(body) + FRAME_BYTES)

    def _begin_unless_room(self, size: int) -> bool:
        seen = self.active
        if seen.end + size <= seen.limit:
            return True
        if self._is_closed:
            return False
        self._spool.open()
        room = max(self._segment_bytes, len(HEADER) + size)
        if room > MAX_BYTES or not self._quota.has_room(room):
            return False
        self._begin(room, seen)
        return True

    def may_hold(self, body: bytes) -> bool:
        """Return whether there would be room for a trigger in an empty spool."""
        return len(HEADER) + len(body) + FRAME_BYTES <= min(MAX_BYTES, self._quota.max_bytes)

    def wants_rotation(self, max_age: float) -> bool:
        """Return whether the active segment was removed by someone, or holds something and is old.

        Call it with `changing` held: otherwise the segment could be sealed meanwhile, and its descriptor be
        another file's.
        """
        active = self.active
        is_old = active.count > 0 and monotonic() - self.started > max_age
        return active is not _NOWHERE and (is_old or active.is_removed)

    def rotate(self) -> None:
        """Begin a new segment though there is room in this one; if that fails, go on with the old one.

        Raises:
            OSError: When the disk does not take it, and the old one was removed.
        """
        with self.changing:
            seen = self.active
            if self._is_closed:
                return
            try:
                self._spool.open()
                if self._quota.has_room(self._segment_bytes):
                    self._begin(self._segment_bytes, seen)
            except OSError:
                if self.active is not seen or seen.is_removed:
                    raise
                self.started = monotonic()  # the next try is at `max_age` again

    def _begin(self, room: int, seen: Segment) -> None:
        new, is_linked = self._name_next(), False
        try:
            self._create(new, room)
            with self._guard:
                if self.active is seen:  # not if a signal handler has begun another one meanwhile; no call here
                    self.last.next = new
                    self.last = self.active = new
                    seen.is_open = False
                    is_linked = True
        finally:
            if not is_linked:  # nobody else would remove it while this process lives
                new.remove()
        if not is_linked:
            return
        self.started = monotonic()
        self._quota.add(room)
        if self.unsynced is not None:
            self.unsynced.append(new)
        self._seal(seen)

    def _name_next(self) -> Segment:
        if not self.process_dirs or self.process_dirs[-1].is_removed:
            self.process_dirs.append(make_process_dir(self._spool, os.urandom))
            self._close_removed_dirs()
        process_dir = self.process_dirs[-1]
        while True:
            segment = Segment(process_dir, name_of(next(self._numbers)))
            if not process_dir.has(segment.name):  # a copy made by someone stays for the process that adopts this
                return segment

    def _create(self, segment: Segment, room: int) -> None:
        try:
            segment.create(room, mapped=self._spool.may_map)
        except FileExistsError:
            segment.process_dir = None  # it is not removed
            raise
        if self._durable and segment.process_dir is not None:
            segment.sync()
            segment.process_dir.sync()

    def _close_removed_dirs(self) -> None:
        """Close directories that someone has removed, as soon as nothing is left to be read from them."""
        used = {id(segment.process_dir) for segment in self.segments()}
        for process_dir in self.process_dirs[:-1]:
            if id(process_dir) not in used:
                self.process_dirs.remove(process_dir)
                process_dir.close()

    def _seal(self, segment: Segment) -> None:
        if segment is _NOWHERE:
            return
        size = segment.limit
        try:
            if self._durable and segment.descriptor >= 0:  # else it is settled already
                segment.sync()
        finally:
            segment.seal()
            self._quota.add(segment.end - size)

    def seal(self) -> None:
        """Write no more to the active segment; the next trigger needs a new one."""
        with self.changing:
            seen = self.active
            with self._guard:
                self.active = _NOWHERE
                seen.is_open = False
            with suppress(OSError):  # called because the disk fails
                self._seal(seen)

    def sync(self) -> None:
        """Flush the active segment to the disk. Blocks."""
        with self.changing:
            if self.active is not _NOWHERE:
                self.active.sync()

    def _finish(self, segment: Segment) -> None:
        size = 0 if segment.process_dir is None else segment.end
        super()._finish(segment)
        self._quota.add(-size)

    def after_fork_in_child(self) -> None:
        """Also keep a call that the fork interrupted from writing."""
        self.active = _NOWHERE
        super().after_fork_in_child()

    def close(self) -> None:
        with self.changing:  # no thread begins a segment afterwards, which would stay locked
            self._is_closed = True
            self.seal()
        super().close()
