"""Adopts the triggers of processes that are gone: each directory by exactly one process, the oldest first."""

from __future__ import annotations

import math
import resource
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from brockman.buffer.counters import Callbacks, Counters
from brockman.buffer.spool.directory import SpoolDir, UnsafeDirectory
from brockman.buffer.spool.process_dir import (
    ProcessDir,
    adopt_process_dir,
    open_process_dir,
    process_dir_names,
    remove_abandoned,
)
from brockman.buffer.spool.reader import Reader
from brockman.buffer.spool.segment import NotASegment, Segment, is_segment
from brockman.process.clock import monotonic
from brockman.process.log import SpoolLog

_MAX_ADOPTED = 64  # directories at a time; each keeps two to four files open
_SHARE = 16  # of the files that the process may have open; the rest is the program's


class Adopted:
    """The readers of processes that are gone. Call it with the seqlock of the buffer held, except `look`."""

    def __init__(
        self,
        spool: SpoolDir,
        counters: Counters,
        quarantine: Callable[[Segment, bytes], None],
        log: SpoolLog,
        write: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Adopt nothing yet; `write` is held while counts change."""
        self.readers: list[Reader] = []  # not a deque: it is copied in one step also without the global lock
        self.removed = 0  # triggers of readers that are closed
        self._spool = spool
        self._counters = counters
        self._quarantine = quarantine
        self._log = log
        self._write_lock = write
        self._looking = threading.RLock()
        self._is_closed = False
        self._noted: dict[str, str] = {}  # lines of this look, by name: anybody's files may be in the spool
        # Settled, but their files cannot be removed: they stay locked, or would be adopted again and again.
        self._stuck: list[Reader] = []
        self._damaged: list[Reader] = []  # `on_drop` is still to be called for their damage

    @property
    def waiting(self) -> int:
        return sum(reader.waiting for reader in list(self.readers))

    def look(self, patience: float, seconds: float = math.inf) -> None:
        """Adopt what has no owner. Blocks while it is counted.

        Args:
            patience: Seconds to wait for another thread that looks, and then skip this look. 0 for the worker: a
                signal handler may have interrupted that look, and wait for the worker.
            seconds: When to stop; one directory is adopted in any case.
        """
        deadline = monotonic() + seconds
        if not self._looking.acquire(timeout=min(patience, threading.TIMEOUT_MAX)):
            return
        try:
            self._spool.open()
        except OSError:  # the next trigger meets and reports the same
            return
        else:
            self._look(deadline)
        finally:
            self._log.note_names(self._noted)
            self._noted = {}
            self._looking.release()
        with suppress(IndexError):
            while True:
                self._damaged.pop().notify_damaged()  # calls `on_drop`, with no lock held

    def finish(self) -> None:
        """Look no more, and wait briefly for a look that goes on: it may lock a directory that is closed now."""
        self._is_closed = True
        if self._looking.acquire(timeout=1.0):
            self._looking.release()

    def _look(self, deadline: float) -> None:
        try:
            remove_abandoned(self._spool)
            names = process_dir_names(self._spool)
        except OSError as error:
            if not self._spool.is_closed:  # by another thread, meanwhile
                self._log.note(f"cannot be searched for the triggers of other processes: {error.strerror}")
            return
        for name in names:
            if self._is_closed or len(self.readers) + len(self._stuck) >= _max_adopted():
                return
            try:
                process_dir = adopt_process_dir(self._spool, name)
            except UnsafeDirectory as error:
                self._noted[name] = f"{name}: {error.strerror}; ignored"
                continue
            except OSError as error:
                self._noted[name] = f"{name} cannot be adopted: {error.strerror}"
                continue
            if process_dir is not None:
                self._adopt(process_dir)
                if monotonic() > deadline:
                    return

    def _adopt(self, process_dir: ProcessDir) -> None:
        reader = Reader(self._counters, self._quarantine)
        try:
            link_segments(reader, process_dir, self._note_ignored)
        except OSError as error:  # too many open files, or a disk that fails: at the next look
            self._noted[process_dir.name] = f"{process_dir.name} cannot be read: {error.strerror}"
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
            if count == 0:  # nothing, or damage without even the start of a frame
                reader.take_more(1, 1)
                self.close_reader(reader)
        if reader.damaged:
            self._damaged.append(reader)

    def _note_ignored(self, process_dir: ProcessDir, error: NotASegment) -> None:
        name = f"{process_dir.name}/{error.filename}"
        self._noted[name] = f"{name}: {error.strerror}; ignored"

    def close_reader(self, reader: Reader) -> None:
        with self._counters.guard:
            self.removed += reader.taken
            reader.taken = reader.stored = 0
        self.readers.remove(reader)
        if reader.is_stuck:
            self._stuck.append(reader)
        else:
            reader.close()

    def close(self) -> None:
        """Close all readers, for other processes to adopt, and adopt nothing more."""
        self._is_closed = True
        for reader in (*self.readers, *self._stuck):
            reader.close()

    def after_fork_in_child(self) -> None:
        self._is_closed = True
        for reader in (*self.readers, *self._stuck):
            reader.after_fork_in_child()


def _max_adopted() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MAX_ADOPTED if limit == resource.RLIM_INFINITY else max(1, min(_MAX_ADOPTED, limit // _SHARE))


def link_segments(
    reader: Reader, process_dir: ProcessDir, ignored: Callable[[ProcessDir, NotASegment], object]
) -> None:
    """Add a directory and its segments to a reader; call `ignored` for files that only have the name of one."""
    reader.process_dirs.append(process_dir)
    for name in filter(is_segment, process_dir.names()):
        segment = Segment(process_dir, name)
        try:
            segment.load()
        except NotASegment as error:
            ignored(process_dir, error)
            continue
        except FileNotFoundError:  # removed meanwhile
            continue
        segment.close_reader()
        reader.link(segment)


def transfer_from(path: str, names: list[str], put: Callable[[bytes], object]) -> None:
    """Pass the triggers in a live parent's directories to `put`, and acknowledge them."""
    spool = SpoolDir(path)
    with suppress(OSError):
        spool.open()
        for name in names:
            reader = Reader(Counters(Callbacks(None, None)), lambda segment, content: None)
            try:
                link_segments(reader, open_process_dir(spool, name), lambda process_dir, error: None)
                for segment in reader.segments():
                    _transfer_segment(segment, put)
            finally:
                reader.after_fork_in_child()
    spool.close()


def _transfer_segment(segment: Segment, put: Callable[[bytes], object]) -> None:
    spans = segment.read(segment.count, segment.end).spans
    for span in spans:
        if span.body is not None:
            put(span.body)
    if spans:
        segment.acknowledge(spans[-1].stop)  # not the end of the file: its owner may go on there
