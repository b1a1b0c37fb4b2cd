"""A segment: one file of frames, written by one process, and read from its acknowledged offset on."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from contextlib import suppress
from typing import NamedTuple

from brockman.buffer.spool.directory import UnsafeFile, close_quietly
from brockman.buffer.spool.frame import (
    ACK_COVERS,
    HEADER,
    RS,
    VERSION,
    ZERO,
    Span,
    fitting,
    make_ack,
    read_ack,
    read_frames,
    read_version,
    shifted,
)
from brockman.buffer.spool.process_dir import ACK_SUFFIX, ProcessDir

MAX_BYTES = 64 * 1024 * 1024  # a larger file is not of the spool: to count its triggers, all of it is read
# Errors of opening or reading a symbolic link, a socket, a directory, a FIFO: no later try will do better.
NO_FILE = (errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ESPIPE)
_NO_SEGMENT = "not a segment of the spool"
_DIGITS = 8  # of a name, at least: a file named 2024 is someone else's
_SLACK = 4096
_PEEK = 256 * 1024


class NotASegment(OSError):
    """A file with a segment's name that is none, or of a later format. It is ignored."""


class ReadResult(NamedTuple):
    """Frames and damage that were read, and the offset where they end."""

    spans: list[Span]
    stop: int


class Segment:
    """A file of frames, valid up to `end`.

    It is written while `is_open`: through `map` where it may be mapped. It also holds the reader's state: the
    offset `read_to`, and the number of frames `seen` and of `damages` before it.
    """

    __slots__ = (
        *("_ack", "_inode", "_reader", "count", "damages", "descriptor", "end", "is_open", "limit", "map", "name"),
        *("next", "process_dir", "read_to", "seen"),
    )

    def __init__(self, process_dir: ProcessDir | None, name: str) -> None:
        """Make an empty segment that cannot be written; without a directory, a placeholder."""
        self.process_dir = process_dir
        self.name = name
        self.map: mmap.mmap | None = None
        self.next: Segment | None = None
        self.is_open = False
        self.limit = self.end = self.read_to = 0
        self.count = self.seen = self.damages = 0
        self.descriptor = self._reader = self._ack = -1  # the first one for writing

    # --- writing ---

    def create(self, size: int, *, mapped: bool) -> None:
        """Create the file, with room for `size` bytes."""
        assert self.process_dir is not None
        self.descriptor = self.process_dir.create(self.name)
        self._inode = os.fstat(self.descriptor).st_ino
        try:
            if mapped:
                # First: writing to a hole that the disk has no room for is a SIGBUS.
                os.posix_fallocate(self.descriptor, 0, size)
                self.map = mmap.mmap(self.descriptor, size)
                self.map[: len(HEADER)] = HEADER
            else:
                check_written(os.pwrite(self.descriptor, HEADER, 0), HEADER)
        except BaseException:
            self.remove()
            raise
        self.limit, self.is_open = size, True
        self.end = self.read_to = len(HEADER)

    def sync(self) -> None:
        """Flush the file to the disk. Blocks."""
        os.fdatasync(self.descriptor)

    @property
    def is_removed(self) -> bool:
        """True when the file that is being written was unlinked or replaced: then it ends with the process."""
        if self.descriptor < 0 or self.process_dir is None:
            return False
        try:
            named = os.stat(self.name, dir_fd=self.process_dir.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return True
        return not os.path.samestat(named, os.fstat(self.descriptor))

    def seal(self) -> None:
        """Write no more, and cut off the unused room."""
        mapped, self.map, self.limit = self.map, None, 0
        if mapped is not None:
            mapped.close()
        copy = self._copy_own()  # the reader may close it meanwhile, and its descriptor be another file's
        with suppress(OSError):
            os.ftruncate(copy, self.end)
        close_quietly(copy)
        with suppress(OSError):
            if self.is_removed:
                return  # it can be read by this descriptor only
        opened, self.descriptor = self.descriptor, -1  # first: an exception between would have it closed twice
        close_quietly(opened)

    # --- reading ---

    def load(self) -> None:
        """Find the acknowledged offset and the number of frames after it, in a file of another process.

        Raises:
            NotASegment: When it is to be ignored.
            OSError: When it cannot be read.
        """
        try:
            self._open_reader()
        except OSError as error:
            if error.errno in NO_FILE:
                raise NotASegment(errno.EINVAL, _NO_SEGMENT, self.name) from error
            if isinstance(error, UnsafeFile):
                raise NotASegment(errno.EINVAL, error.strerror, self.name) from error
            raise
        found = os.fstat(self._reader)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
            self.close()
            raise NotASegment(errno.EINVAL, _NO_SEGMENT, self.name)
        data = os.pread(self._reader, found.st_size, 0)
        version = read_version(data)
        if version not in (VERSION, None):
            self.close()
            raise NotASegment(errno.EINVAL, f"format {version} of a later brockman", self.name)
        self.end = len(data)
        start = len(HEADER) if version == VERSION else self._first_frame(data)
        self.read_to = min(max(start, self._acknowledged(data)), self.end)
        self.count = data.count(RS, self.read_to)

    @staticmethod
    def _first_frame(data: bytes) -> int:
        """Return the start of a segment whose header is damaged; no trigger is in the header."""
        first = data.find(RS)
        return first if 0 <= first <= len(HEADER) else min(len(HEADER), len(data))

    def _open_reader(self) -> None:
        if self._reader < 0:
            assert self.process_dir is not None
            self._reader = self._copy_own() if self.descriptor >= 0 else -1
            if self._reader < 0:
                self._reader = self.process_dir.open(self.name)

    def _copy_own(self) -> int:
        """Return a copy of the descriptor for writing, or -1: the name may belong to another file by now."""
        copy = -1
        with suppress(OSError):
            copy = os.dup(self.descriptor)
            if os.fstat(copy).st_ino == self._inode:  # not if it was sealed meanwhile, and the number reused
                return copy
        close_quietly(copy)
        return -1

    def read(self, max_count: int, max_bytes: int) -> ReadResult:
        """Return the next frames, as many as the limits allow, at least one, and the damage before them."""
        end = self.end
        if self.read_to >= end:
            return ReadResult([], end)
        self._open_reader()
        want = min(end - self.read_to, max_bytes + max_bytes // 8 + _SLACK)
        while True:
            data = os.pread(self._reader, want, self.read_to)
            is_all = len(data) < want or want == end - self.read_to
            spans = list(fitting(read_frames(data, is_all=is_all), max_count, max_bytes))
            if spans and not (is_all and spans[-1].stop == len(data)):
                return ReadResult([shifted(span, self.read_to) for span in spans], self.read_to + spans[-1].stop)
            if is_all:  # zeros at the end were never written; what someone cut off is gone
                return ReadResult([shifted(span, self.read_to) for span in spans], end)
            want = end - self.read_to

    def peek(self) -> bytes | None:
        """Return the next trigger; None when it cannot be read. Any thread may call it."""
        process_dir, descriptor = self.process_dir, -1
        if process_dir is None:
            return None
        try:
            descriptor = process_dir.open(self.name)
            data = os.pread(descriptor, min(_PEEK, self.end - self.read_to), self.read_to)
        except (OSError, OverflowError):
            return None
        finally:
            close_quietly(descriptor)
        return next((span.body for span in read_frames(data, is_all=False) if span.body is not None), None)

    def bytes_of(self, span: Span) -> bytes:
        """Return the bytes of a place, without the zeros of room that was never written after it."""
        return os.pread(self._reader, span.stop - span.start, span.start).rstrip(ZERO)

    # --- settling ---

    def acknowledge(self, offset: int) -> None:
        """Write that everything before an offset is settled.

        Raises:
            OSError: When it cannot be written: after a crash these triggers are sent again.
        """
        if self._ack < 0:
            assert self.process_dir is not None
            self._ack = self.process_dir.open(self.name + ACK_SUFFIX, os.O_RDWR | os.O_CREAT)
        self._open_reader()
        start = max(0, offset - ACK_COVERS)
        before = os.pread(self._reader, offset - start, start)
        os.pwrite(self._ack, make_ack(offset, before), 0)

    def _acknowledged(self, data: bytes) -> int:
        """Return the acknowledged offset of this content; 0 when there is none."""
        assert self.process_dir is not None
        descriptor = -1
        try:
            descriptor = self.process_dir.open(self.name + ACK_SUFFIX)
            return read_ack(os.pread(descriptor, ACK_COVERS, 0), data)
        except OSError:
            return 0
        finally:
            close_quietly(descriptor)

    def close_reader(self) -> None:
        """Close the descriptor for reading until the next read: many segments may wait."""
        opened, self._reader = self._reader, -1
        close_quietly(opened)

    def remove(self) -> bool:
        """Remove the file, then its acknowledgement, and close both; return whether they are removed."""
        is_removed = True
        if self.process_dir is not None:
            try:
                self.process_dir.remove(self.name)
                self.process_dir.remove(self.name + ACK_SUFFIX)
            except OSError:
                is_removed = False
        self.close()
        return is_removed

    def close(self) -> None:
        """Close the descriptors; the files stay as they are."""
        self.is_open, self.limit = False, 0
        mapped, self.map = self.map, None
        opened = (self.descriptor, self._reader, self._ack)
        self.descriptor = self._reader = self._ack = -1
        if mapped is not None:
            mapped.close()
        close_quietly(*opened)


def check_written(count: int, data: bytes) -> None:
    if count != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def is_segment(name: str) -> bool:
    return len(name) >= _DIGITS and name.isascii() and name.isdigit()


def name_of(number: int) -> str:
    """Return the name of a segment, by its number in the process; names sort in this order."""
    return f"{number:0{_DIGITS}d}"
