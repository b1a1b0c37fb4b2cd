"""What a spool holds, for who only looks: nothing is made, changed or removed, and live processes go on beside it.

Triggers are counted by the starts of their frames, as an adopter counts them: many times as fast as to check
each, and a torn one counts too.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from typing import NamedTuple

from brockman.buffer.spool.directory import Refused, SpoolDir
from brockman.buffer.spool.frame import ZERO, Span
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

_AT_ONCE = 256 * 1024  # bytes that are read at once to list them
_NOT_WORTH_A_WORD = {DAMAGED, "lost+found"}


class Process(NamedTuple):
    """What one process has left.

    Attributes:
        name: Of its folder.
        is_alive: Whether it, or who has adopted the folder, lives.
        triggers: How many wait.
        size: How many bytes that is, with their frames.
        recorded_at: When the oldest was recorded; None when there is none, or it does not say.
        refusal: Why nobody adopts the folder; None when that is not so.
        foreign: A file in it that nobody reads, with the reason; None when there is none.
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
        """Whether another process may deliver what is in it."""
        return not self.is_alive and self.refusal is None


class Inspection(NamedTuple):
    """What there is: processes, the oldest first; what is kept aside as damaged; names of what is none of this."""

    processes: list[Process]
    damaged_files: int
    damaged_bytes: int
    unknown_files: list[str]


class Visit:
    """A spool that is looked at. Use it with `with`.

    Attributes:
        done: How many bytes were looked at; any thread may ask.
        left_out: What `bodies` could not read, with the reason.
        damages: How many damaged places `bodies` met.
    """

    def __init__(self, path: str) -> None:
        """Open it.

        Raises:
            OSError: When it is not there, cannot be read, is not to be trusted, or is no spool.
        """
        self.done = 0
        self.left_out: list[str] = []
        self.damages = 0
        self._strangers = _find_unknown_files(path)  # first: nobody is to be advised to chmod what is no spool
        self._spool = SpoolDir(path)
        self._spool.open_existing()

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it. Twice does no harm."""
        self._spool.close()

    def total(self) -> int:
        """Return about how many bytes there are to look at."""
        return sum(size for _, size in measure(self._spool))

    # --- counting ---

    def inspect_spool(self) -> Inspection:
        """Count. Reads every file."""
        processes, unknown_files = [], list(self._strangers)
        for name in process_dir_names(self._spool):
            try:
                folder = open_process_dir(self._spool, name)
            except FileNotFoundError:  # dissolved meanwhile
                continue
            except OSError as error:
                processes.append(Process(name, False, 0, 0, None, _reason(error)))
                continue
            try:
                processes.append(self._count(folder))
                unknown_files += [f"{name}/{other}" for other in folder.names() if not _belongs(other)]
            finally:
                folder.close()
        return Inspection(processes, *measure_damaged(self._spool), unknown_files)

    def _count(self, folder: ProcessDir) -> Process:
        count = size = 0
        oldest: str | None = None
        refusal: str | None = None
        foreign: str | None = None
        is_alive = False
        try:
            is_alive = _has_owner(folder)
        except OSError as error:
            refusal = f"{LOCK}: {_reason(error)}"
        for name in filter(is_segment, folder.names()):
            segment = Segment(folder, name)
            try:
                segment.find()
                if _is_gone(segment):
                    continue
                count += segment.count
                # What has never been written is zeros, up to the room that the segment was made with.
                size += len(segment.bytes_of(Span(segment.read_to, segment.end, None)).rstrip(ZERO))
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
        return Process(folder.name, is_alive, count, size, oldest, refusal, foreign)

    # --- listing ---

    def bodies(self) -> Iterator[bytes]:
        """Yield the JSON of every trigger that is not settled, oldest process first; none that is damaged."""
        for name in process_dir_names(self._spool):
            try:
                folder = open_process_dir(self._spool, name)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.left_out.append(f"{name}: {_reason(error)}")
                continue
            try:
                for segment_name in filter(is_segment, folder.names()):
                    yield from self._bodies(Segment(folder, segment_name))
            finally:
                folder.close()

    def _bodies(self, segment: Segment) -> Iterator[bytes]:
        try:
            segment.find()
            while segment.read_to < segment.end and not _is_gone(segment):
                part = segment.read(1000, _AT_ONCE)
                for span in part.spans:
                    if span.body is None:
                        self.damages += 1
                    else:
                        yield span.body
                self.done += part.stop - segment.read_to
                segment.read_to = part.stop
        except FileNotFoundError:
            return
        except OSError as error:
            assert segment.folder is not None
            self.left_out.append(f"{segment.folder.name}/{segment.name}: {_reason(error)}")
        finally:
            segment.close()

    def drop_damaged(self) -> tuple[int, int]:
        """Remove what is kept aside as damaged, and nothing else; return how many files and bytes that were.

        Raises:
            OSError: When it cannot be removed.
        """
        return drop_damaged(self._spool)


def _find_unknown_files(path: str) -> list[str]:
    """Return the names of what is none of the spool's in a folder.

    Raises:
        Refused: When that is all there is.
        OSError: When it cannot be read.
    """
    names = [name for name in sorted(os.listdir(path)) if not name.startswith(".")]
    unknown_files = [name for name in names if not is_process_dir_name(name) and name not in _NOT_WORTH_A_WORD]
    if names and unknown_files == names:
        raise Refused(errno.EINVAL, "it is no spool: nothing in it was left by brockman", path)
    return unknown_files


def _has_owner(folder: ProcessDir) -> bool:
    """Return whether a process holds the lock of a folder. It is tried, and let go at once if it was free.

    Raises:
        OSError: When it cannot be tried.
    """
    try:
        lock = folder.open(LOCK)
    except FileNotFoundError:  # who adopts it makes a new one
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look do not take each other for owners
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _is_gone(segment: Segment) -> bool:
    """Return whether a file was removed, by now: first it goes, then the note of how much of it is settled.

    So without this look, what was settled in it might count as waiting.
    """
    assert segment.folder is not None
    try:
        os.stat(segment.name, dir_fd=segment.folder.descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return True
    return False


def _belongs(name: str) -> bool:
    return name == LOCK or is_segment(name.removesuffix(".ack"))


def _recorded_at(body: bytes | None) -> str | None:
    if body is None:
        return None
    try:
        moment = json.loads(body)["recorded_at"]
    except (ValueError, KeyError, TypeError):  # not by this client
        return None
    return moment if isinstance(moment, str) else None


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
