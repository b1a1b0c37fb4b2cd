"""A segment: one file of frames, written by one process, and read on from where it was left."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from contextlib import suppress
from typing import NamedTuple

from brockman.buffer.spool.directory import close_quietly
from brockman.buffer.spool.frame import (
    ACK_COVERS,
    HEADER,
    RS,
    VERSION,
    Span,
    fitting,
    make_ack,
    moved,
    read_ack,
    read_frames,
    read_version,
)
from brockman.buffer.spool.process_dir import ACK_SUFFIX, ProcessDir

MAX_BYTES = 64 * 1024 * 1024  # a larger file is none of ours: it is read as a whole to be counted
# What opening or reading says of a symbolic link, a socket, a directory, a FIFO: no later try will do better.
NO_FILE = (errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ESPIPE)
_NO_SEGMENT = "it is no segment of the spool"
_DIGITS = 8  # of a name, at least: a file named 2024 is somebody's
_SLACK = 4096
_PEEK = 256 * 1024


class NotASegment(OSError):
    """A file that bears a segment's name and is none, or one of a later version; says which. It is left alone."""


class ReadResult(NamedTuple):
    """What was read of a segment: frames and damage, and up to which offset."""

    spans: list[Span]
    stop: int


class Segment:
    """A file of frames, of which those up to `end` are there for good.

    It is written while `is_open`: mapped where that is safe, and then `map` is there. Whoever reads it keeps in it
    how far that is: `read_to`, how many frames were `seen` by then, and how many `damages`.
    """

    __slots__ = (
        *(
            "_ack",
            "_inode",
            "_reader",
            "count",
            "damages",
            "descriptor",
            "end",
            "folder",
            "is_open",
            "limit",
            "map",
            "name",
        ),
        *("next", "read_to", "seen"),
    )

    def __init__(self, folder: ProcessDir | None, name: str) -> None:
        """Make a segment that holds nothing and cannot be written; without a folder, a placeholder."""
        self.folder = folder
        self.name = name
        self.map: mmap.mmap | None = None
        self.next: Segment | None = None
        self.is_open = False
        self.limit = self.end = self.read_to = 0
        self.count = self.seen = self.damages = 0
        self.descriptor = self._reader = self._ack = -1  # the first for writing

    # --- writing ---

    def make(self, size: int, *, mapped: bool) -> None:
        """Make the file, with room for `size` bytes.

        Raises:
            OSError: When there is no room, or the file cannot be made.
        """
        assert self.folder is not None
        self.descriptor = self.folder.create(self.name)
        self._inode = os.fstat(self.descriptor).st_ino
        try:
            if mapped:
                # First: a hole that the disk has no room for would be a SIGBUS when it is written.
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
        """Have what was written reach the disk. Blocks."""
        os.fdatasync(self.descriptor)

    @property
    def is_removed(self) -> bool:
        """Whether the file that is being written has lost its name: it may end with the process then."""
        if self.descriptor < 0 or self.folder is None:
            return False
        try:
            named = os.stat(self.name, dir_fd=self.folder.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return True
        return not os.path.samestat(named, os.fstat(self.descriptor))

    def seal(self) -> None:
        """Give back the room that was not used; nothing is written any more."""
        mapped, self.map, self.limit = self.map, None, 0
        if mapped is not None:
            mapped.close()
        copy = self._copy_own()  # who has read all of it may close it meanwhile, and the number be another file's
        with suppress(OSError):
            os.ftruncate(copy, self.end)
        close_quietly(copy)
        with suppress(OSError):
            if self.is_removed:
                return  # what is in it can be read by this descriptor only
        opened, self.descriptor = self.descriptor, -1  # first: an exception in between would have it closed twice
        close_quietly(opened)

    # --- reading ---

    def find(self) -> None:
        """Look into a file that another process has written: where to read on, and how many frames that are.

        Raises:
            NotASegment: When it is to be left alone.
            OSError: When it cannot be read.
        """
        try:
            self._open_reader()
        except OSError as error:
            if error.errno in NO_FILE:
                raise NotASegment(errno.EINVAL, _NO_SEGMENT, self.name) from error
            raise
        found = os.fstat(self._reader)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
            self.close()
            raise NotASegment(errno.EINVAL, _NO_SEGMENT, self.name)
        data = os.pread(self._reader, found.st_size, 0)
        version = read_version(data)
        if version not in (VERSION, None):
            self.close()
            raise NotASegment(errno.EINVAL, f"it has format {version}, of a later brockman", self.name)
        self.end = len(data)
        start = len(HEADER) if version == VERSION else self._first_frame(data)
        self.read_to = min(max(start, self._acknowledged(data)), self.end)
        self.count = data.count(RS, self.read_to)

    @staticmethod
    def _first_frame(data: bytes) -> int:
        """Return where to read a segment whose first line is damaged; what was in that line is no trigger."""
        first = data.find(RS)
        return first if 0 <= first <= len(HEADER) else min(len(HEADER), len(data))

    def _open_reader(self) -> None:
        if self._reader < 0:
            assert self.folder is not None
            self._reader = self._copy_own() if self.descriptor >= 0 else -1
            if self._reader < 0:
                self._reader = self.folder.open(self.name)

    def _copy_own(self) -> int:
        """Return a copy of the descriptor for writing, or -1: the name may lead to something else by now."""
        copy = -1
        with suppress(OSError):
            copy = os.dup(self.descriptor)
            if os.fstat(copy).st_ino == self._inode:  # not if it was sealed meanwhile, and the number used anew
                return copy
        close_quietly(copy)
        return -1

    def read(self, max_count: int, max_bytes: int) -> ReadResult:
        """Return the next frames, as many as the limits allow, but at least one, and damage before them.

        Raises:
            OSError: When the file cannot be read.
        """
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
                return ReadResult([moved(span, self.read_to) for span in spans], self.read_to + spans[-1].stop)
            if is_all:  # zeros at the end were never written; what somebody has cut off is gone
                return ReadResult([moved(span, self.read_to) for span in spans], end)
            want = end - self.read_to

    def peek(self) -> bytes | None:
        """Return the next trigger, read by any thread; None when it cannot be."""
        folder, descriptor = self.folder, -1
        if folder is None:
            return None
        try:
            descriptor = folder.open(self.name)
            data = os.pread(descriptor, min(_PEEK, self.end - self.read_to), self.read_to)
        except (OSError, OverflowError):
            return None
        finally:
            close_quietly(descriptor)
        return next((span.body for span in read_frames(data, is_all=False) if span.body is not None), None)

    def bytes_of(self, span: Span) -> bytes:
        """Return what lies at a damaged place."""
        return os.pread(self._reader, span.stop - span.start, span.start)

    # --- settling ---

    def acknowledge(self, offset: int) -> None:
        """Note that everything before an offset is settled.

        Raises:
            OSError: When that cannot be written: after a crash these are sent again.
        """
        if self._ack < 0:
            assert self.folder is not None
            self._ack = self.folder.open(self.name + ACK_SUFFIX, os.O_RDWR | os.O_CREAT)
        self._open_reader()
        start = max(0, offset - ACK_COVERS)
        before = os.pread(self._reader, offset - start, start)
        os.pwrite(self._ack, make_ack(offset, before), 0)

    def _acknowledged(self, data: bytes) -> int:
        """Return the offset that was noted for this content; 0 when there is none."""
        assert self.folder is not None
        descriptor = -1
        try:
            descriptor = self.folder.open(self.name + ACK_SUFFIX)
            return read_ack(os.pread(descriptor, ACK_COVERS, 0), data)
        except OSError:
            return 0
        finally:
            close_quietly(descriptor)

    def rest(self) -> None:
        """Close what was opened for reading, until it is read again: many may wait."""
        opened, self._reader = self._reader, -1
        close_quietly(opened)

    def remove(self) -> bool:
        """Remove the file, then its acknowledgement, and close both; return whether they are gone."""
        folder, is_gone = self.folder, True
        if folder is not None:
            try:
                folder.remove(self.name)
                folder.remove(self.name + ACK_SUFFIX)
            except OSError:
                is_gone = False
        self.close()
        return is_gone

    def close(self) -> None:
        """Close what is open; the files stay as they are."""
        self.is_open, self.limit = False, 0
        mapped, self.map = self.map, None
        opened = (self.descriptor, self._reader, self._ack)
        self.descriptor = self._reader = self._ack = -1
        if mapped is not None:
            mapped.close()
        for descriptor in opened:
            close_quietly(descriptor)


def check_written(count: int, data: bytes) -> None:
    """Raise OSError unless as many bytes were written as there are."""
    if count != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def is_segment(name: str) -> bool:
    """Return whether a file's name is that of a segment."""
    return len(name) >= _DIGITS and name.isascii() and name.isdigit()


def name_of(number: int) -> str:
    """Return the name of a process's segment by its number, in an order that names can be sorted by."""
    return f"{number:0{_DIGITS}d}"
