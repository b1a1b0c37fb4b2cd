"""Take over what processes have left that are gone: each folder by exactly one adopter, the oldest first."""

from __future__ import annotations

import math
import resource
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from brockman.buffer.counters import Callbacks, Counters
from brockman.buffer.spool.directory import Refused, SpoolDir
from brockman.buffer.spool.process_dir import (
    ProcessDir,
    adopt_process_dir,
    open_process_dir,
    process_dir_names,
    sweep,
)
from brockman.buffer.spool.reader import Reader
from brockman.buffer.spool.segment import NotASegment, Segment, is_segment
from brockman.process.clock import monotonic
from brockman.process.log import Notice

_AT_ONCE = 64  # folders; each keeps two to four files open
_SHARE = 16  # of the files that the process may have open; the rest is the program's


class Adopted:
    """The readers of processes that are gone. Belongs to whoever holds the moves of the buffer."""

    def __init__(
        self,
        spool: SpoolDir,
        counters: Counters,
        quarantine: Callable[[Segment, bytes], None],
        notice: Notice,
        write: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Adopt nothing yet.

        Args:
            spool: The spool's folder.
            counters: As for a reader.
            quarantine: As for a reader.
            notice: Told what is left alone, and why.
            write: Held while counts move.
        """
        self.readers: list[Reader] = []  # not a deque: readers copy it, in one step also without the global lock
        self.past = 0  # how many have left in readers that are done
        self._spool = spool
        self._counters = counters
        self._quarantine = quarantine
        self._notice = notice
        self._write_lock = write
        self._looking = threading.RLock()
        self._is_closed = False
        # Settled, but the disk does not let go of them: they stay locked, or would be adopted again and again.
        self._stuck: list[Reader] = []
        self._untold: list[Reader] = []  # damage was found in them that `on_drop` is to be told of

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(reader.waiting for reader in list(self.readers))

    def look(self, patience: float, seconds: float = math.inf) -> None:
        """Adopt what has no owner. Blocks while it is counted; one folder, whatever the time.

        Args:
            patience: Seconds to wait for a look of another thread; then there is none. The flusher has none: a
                signal handler may have interrupted that look, and wait for the flusher.
            seconds: How long to look.
        """
        until = monotonic() + seconds
        if not self._looking.acquire(timeout=min(patience, threading.TIMEOUT_MAX)):
            return
        try:
            self._spool.open()
        except OSError:  # who records meets the same, and it is said then
            return
        else:
            self._look(until)
        finally:
            self._looking.release()
        with suppress(IndexError):  # all are told
            while True:
                self._untold.pop().notify_lost()  # calls `on_drop`: nothing may be held

    def finish(self) -> None:
        """Look no more, and wait a moment for a look under way: it may lock a folder that is left now."""
        self._is_closed = True
        if self._looking.acquire(timeout=1.0):
            self._looking.release()

    def _look(self, until: float) -> None:
        try:
            sweep(self._spool)
            names = process_dir_names(self._spool)
        except OSError as error:
            if not self._spool.is_closed:  # by another thread, meanwhile
                self._notice.note(f"cannot be searched for what others have left: {error.strerror}")
            return
        for name in names:
            if self._is_closed or len(self.readers) + len(self._stuck) >= _at_once():
                return
            try:
                folder = adopt_process_dir(self._spool, name)
            except Refused as error:
                self._notice.note(f"{name}: {error.strerror}; it is left alone")
                continue
            except OSError as error:
                self._notice.note(f"{name} cannot be adopted: {error.strerror}")
                continue
            if folder is not None:
                self._adopt(folder)
                if monotonic() > until:
                    return

    def _adopt(self, folder: ProcessDir) -> None:
        reader = Reader(self._counters, self._quarantine)
        reader.folders.append(folder)
        try:
            link_segments(reader, folder, self._leave_alone)
        except OSError as error:  # too many open files, or a disk that fails: another time
            self._notice.note(f"{folder.name} cannot be read: {error.strerror}")
            reader.after_fork_in_child()
            return
        except BaseException:
            reader.after_fork_in_child()
            raise
        segments = list(reader.segments())
        count = sum(segment.count for segment in segments)
        size = sum(segment.end - segment.read_to for segment in segments)
        with self._write_lock():
            if self._is_closed:  # meanwhile
                reader.after_fork_in_child()
                return
            self.readers.append(reader)
            with self._counters.guard:
                reader.stored, reader.stored_bytes = count, size
                self._counters.recovered += count
            if count == 0:  # nothing, or damage in which not even the start of a frame is left
                reader.take(1, 1)
                self.done(reader)
        if reader.lost:
            self._untold.append(reader)

    def _leave_alone(self, folder: ProcessDir, error: NotASegment) -> None:
        self._notice.note(f"{folder.name}/{error.filename}: {error.strerror}; it is left alone")

    def done(self, reader: Reader) -> None:
        """Let go of a reader that is empty."""
        with self._counters.guard:
            self.past += reader.taken
            reader.taken = reader.stored = 0
        self.readers.remove(reader)
        if reader.is_stuck:
            self._stuck.append(reader)
        else:
            reader.close()

    def close(self) -> None:
        """Let go of all that is left, for others to adopt, and adopt nothing more."""
        self._is_closed = True
        for reader in (*self.readers, *self._stuck):
            reader.close()

    def after_fork_in_child(self) -> None:
        """Close the copies of what is the parent's."""
        self._is_closed = True
        for reader in (*self.readers, *self._stuck):
            reader.after_fork_in_child()


def _at_once() -> int:
    """Return how many folders may be adopted at a time."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _AT_ONCE if limit == resource.RLIM_INFINITY else max(1, min(_AT_ONCE, limit // _SHARE))


def link_segments(
    reader: Reader, folder: ProcessDir, leave_alone: Callable[[ProcessDir, NotASegment], object]
) -> None:
    """Add what lies in a folder to a reader; files of other kinds are passed over.

    Args:
        reader: The reader.
        folder: The folder.
        leave_alone: Told of what bears a segment's name and is not to be touched.

    Raises:
        OSError: When a segment cannot be read.
    """
    for name in folder.names():
        if is_segment(name):
            segment = Segment(folder, name)
            try:
                segment.find()
            except NotASegment as error:
                leave_alone(folder, error)
                continue
            except FileNotFoundError:  # removed meanwhile
                continue
            segment.rest()
            reader.link(segment)


def give_left(path: str, names: list[str], put: Callable[[bytes], object]) -> None:
    """Give what lies in folders to `put`, and note that it is settled: their owner lives, but leaves it to us."""
    spool = SpoolDir(path)
    with suppress(OSError):
        spool.open()
        for name in names:
            reader = Reader(Counters(Callbacks(None, None)), lambda segment, content: None)
            try:
                _give(reader, open_process_dir(spool, name), put)
            finally:
                reader.after_fork_in_child()
    spool.close()


def _give(reader: Reader, folder: ProcessDir, put: Callable[[bytes], object]) -> None:
    reader.folders.append(folder)
    link_segments(reader, folder, lambda folder, error: None)
    for segment in reader.segments():
        spans = segment.read(segment.count, segment.end).spans
        for span in spans:
            if span.body is not None:
                put(span.body)
        if spans:
            segment.acknowledge(spans[-1].stop)  # not the end of the file: its owner may go on there
