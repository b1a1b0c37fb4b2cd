"""Inspects a spool, without changing it or disturbing live processes.

Triggers are counted by the starts of their frames, as for adoption: many times faster than checking each, and a
torn one counts too.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from typing import NamedTuple

from brockman.buffer.spool.directory import SpoolDir, UnsafeDirectory
from brockman.buffer.spool.frame import Span
from brockman.buffer.spool.process_dir import (
    LOCK,
    ProcessDir,
    is_process_dir_name,
    open_process_dir,
    process_dir_names,
)
from brockman.buffer.spool.quarantine import DAMAGED, drop_damaged, measure_damaged
from brockman.buffer.spool.quota import measure
from brockman.buffer.spool.segment import NotASegment, Segment, is_segment

_READ_BYTES = 256 * 1024
_EXPECTED = {DAMAGED, "lost+found"}


class Process(NamedTuple):
    """The directory of one process.

    Attributes:
        name: Its name.
        is_alive: Whether the process, or one that has adopted it, is running.
        triggers: The number of waiting triggers.
        size: Their bytes, with the frames.
        recorded_at: When the oldest was recorded; None when there is none, or it has no time.
        refusal: Why it cannot be adopted; None when it can.
        foreign: A file in it that is not read, with the reason; None when there is none.
    """

    name: str
    is_alive: bool
    triggers: int
    size: int
    recorded_at: str | None
    refusal: str | None
    foreign: str | None = None

    @property
    def is_adoptable(self) -> bool:
        """True when another process may deliver its triggers."""
        return not self.is_alive and self.refusal is None


class Inspection(NamedTuple):
    """The content of a spool: processes, the oldest first, the quarantine, and the names of other files."""

    processes: list[Process]
    damaged_files: int
    damaged_bytes: int
    unknown_files: list[str]


class Visit:
    """A spool that is open for inspection. A context manager.

    Attributes:
        done: Bytes read so far; any thread may read it.
        left_out: Files that `bodies` could not read, with the reason.
        damages: Damaged places found by `bodies`.
    """

    def __init__(self, path: str) -> None:
        """Open it.

        Raises:
            OSError: When it does not exist, cannot be read, is unsafe, or is not a spool.
        """
        self.done = 0
        self.left_out: list[str] = []
        self.damages = 0
        self._unknown_files = _find_unknown_files(path)  # first: no advice to chmod what is no spool
        self._spool = SpoolDir(path)
        self._spool.open_existing()

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._spool.close()

    def total(self) -> int:
        """Return about how many bytes there are to read."""
        return sum(size for _, size in measure(self._spool))

    # --- counting ---

    def inspect_spool(self) -> Inspection:
        """Count the triggers. Reads every file."""
        processes, unknown_files = [], list(self._unknown_files)
        for name, process_dir, refusal in self._process_dirs():
            if process_dir is None:
                processes.append(Process(name, False, 0, 0, None, refusal))
            else:
                processes.append(self._count(process_dir))
                unknown_files += [f"{name}/{other}" for other in process_dir.names() if not _belongs(other)]
        return Inspection(processes, *measure_damaged(self._spool), unknown_files)

    def _process_dirs(self) -> Iterator[tuple[str, ProcessDir | None, str]]:
        """Yield each directory, open until the next one, or None and why it cannot be opened."""
        for name in process_dir_names(self._spool):
            try:
                process_dir = open_process_dir(self._spool, name)
            except FileNotFoundError:  # removed meanwhile
                continue
            except OSError as error:
                yield name, None, _reason(error)
                continue
            try:
                yield name, process_dir, ""
            finally:
                process_dir.close()

    def _count(self, process_dir: ProcessDir) -> Process:
        count = size = 0
        oldest: str | None = None
        refusal: str | None = None
        foreign: str | None = None
        is_alive = False
        try:
            is_alive = _has_owner(process_dir)
        except OSError as error:
            refusal = f"{LOCK}: {_reason(error)}"
        for name in filter(is_segment, process_dir.names()):
            segment = Segment(process_dir, name)
            try:
                segment.load()
                if _is_removed(segment):
                    continue
                count += segment.count
                size += len(segment.bytes_of(Span(segment.read_to, segment.end, None)))
                oldest = oldest or _recorded_at(segment.peek())
                self.done += segment.end
            except FileNotFoundError:  # settled meanwhile
                continue
            except NotASegment as error:
                foreign = foreign or f"{name}: {_reason(error)}"
            except OSError as error:
                refusal = refusal or f"{name}: {_reason(error)}"
            finally:
                segment.close()
        return Process(process_dir.name, is_alive, count, size, oldest, refusal, foreign)

    # --- listing ---

    def bodies(self) -> Iterator[bytes]:
        """Yield the JSON of every trigger that is not settled, oldest process first, without damaged ones."""
        for name, process_dir, refusal in self._process_dirs():
            if process_dir is None:
                self.left_out.append(f"{name}: {refusal}")
                continue
            for segment_name in filter(is_segment, process_dir.names()):
                yield from self._bodies(Segment(process_dir, segment_name))

    def _bodies(self, segment: Segment) -> Iterator[bytes]:
        try:
            segment.load()
            while segment.read_to < segment.end and not _is_removed(segment):
                result = segment.read(1000, _READ_BYTES)
                for span in result.spans:
                    if span.body is None:
                        self.damages += 1
                    else:
                        yield span.body
                self.done += result.stop - segment.read_to
                segment.read_to = result.stop
        except FileNotFoundError:
            return
        except OSError as error:
            assert segment.process_dir is not None
            self.left_out.append(f"{segment.process_dir.name}/{segment.name}: {_reason(error)}")
        finally:
            segment.close()

    def drop_damaged(self) -> tuple[int, int]:
        return drop_damaged(self._spool)


def _find_unknown_files(path: str) -> list[str]:
    """Return the names in a directory that are not of the spool.

    Raises:
        UnsafeDirectory: When there are no others.
        OSError: When it cannot be read.
    """
    names = [name for name in sorted(os.listdir(path)) if not name.startswith(".")]
    unknown_files = [name for name in names if not is_process_dir_name(name) and name not in _EXPECTED]
    if names and unknown_files == names:
        raise UnsafeDirectory(errno.EINVAL, "not a spool: it has no file of brockman", path)
    return unknown_files


def _has_owner(process_dir: ProcessDir) -> bool:
    """Return whether a process holds the lock of a directory. Tries to lock it, and unlocks it at once."""
    try:
        lock = process_dir.open(LOCK)
    except FileNotFoundError:  # adoption creates a new one
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: inspections do not see each other
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _is_removed(segment: Segment) -> bool:
    """Return whether a segment was removed by now.

    Its acknowledgement is removed after it: without this check settled triggers might count as waiting.
    """
    assert segment.process_dir is not None
    return not segment.process_dir.has(segment.name)


def _belongs(name: str) -> bool:
    return name == LOCK or is_segment(name.removesuffix(".ack"))


def _recorded_at(body: bytes | None) -> str | None:
    if body is None:
        return None
    try:
        moment = json.loads(body)["recorded_at"]
    except (ValueError, KeyError, TypeError):  # made by another client
        return None
    return moment if isinstance(moment, str) else None


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
