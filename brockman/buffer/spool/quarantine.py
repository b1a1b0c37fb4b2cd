"""What could not be read is kept aside for a person, and never sent."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from brockman.buffer.counters import Counters
from brockman.buffer.spool.directory import OPEN_FOLDER, SpoolDir, check_folder, close_quietly
from brockman.buffer.spool.segment import Segment
from brockman.process.log import Notice

DAMAGED = "damaged"


def open_damaged(spool: SpoolDir) -> int:
    """Return a descriptor of the folder for it.

    Raises:
        OSError: When there is none, or it is not to be trusted.
    """
    descriptor = os.open(DAMAGED, OPEN_FOLDER, dir_fd=spool.descriptor)
    try:
        check_folder(descriptor, DAMAGED)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class Quarantine:
    """Where damage of one spool is kept."""

    def __init__(self, spool: SpoolDir, counters: Counters, notice: Notice) -> None:
        """Open nothing; the counters and the notice are told where it is."""
        self._spool = spool
        self._counters = counters
        self._notice = notice

    def keep(self, segment: Segment, content: bytes) -> None:
        """Keep what lay at a damaged place of a segment."""
        folder = segment.folder
        try:
            quarantine(self._spool, f"{folder.name if folder else ''}-{segment.name}", content)
        except OSError as error:
            self._notice.note(f"damaged triggers could not be kept aside: {error.strerror}")
        else:
            self._counters.details["damaged"] = f"what is left of it is in {self._spool.path}/{DAMAGED}"


def quarantine(spool: SpoolDir, name: str, content: bytes) -> None:
    """Append what lay at a damaged place to a file of its own folder.

    Raises:
        OSError: When it cannot be written; then it is gone.
    """
    with suppress(FileExistsError):
        os.mkdir(DAMAGED, 0o700, dir_fd=spool.descriptor)
    folder = file = -1
    try:
        folder = open_damaged(spool)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(name, flags, 0o600, dir_fd=folder)
        os.write(file, content)
    finally:
        close_quietly(file)
        close_quietly(folder)


def measure_damaged(spool: SpoolDir) -> tuple[int, int]:
    """Return how many files are kept aside, and how many bytes that is."""
    sizes = []
    with suppress(OSError):  # there is none, or it is not to be trusted; then nothing is written to it either
        folder = open_damaged(spool)
        try:
            for name in os.listdir(folder):
                with suppress(FileNotFoundError):
                    sizes.append(os.stat(name, dir_fd=folder, follow_symlinks=False).st_size)
        finally:
            os.close(folder)
    return len(sizes), sum(sizes)


def drop_damaged(spool: SpoolDir) -> tuple[int, int]:
    """Remove what is kept aside, and return how many files and bytes that were.

    The folder stays: a live process may be about to put something into it.

    Raises:
        OSError: When it cannot be removed.
    """
    files = size = 0
    try:
        folder = open_damaged(spool)
    except FileNotFoundError:
        return 0, 0
    try:
        for name in os.listdir(folder):
            with suppress(FileNotFoundError):
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    continue
                os.unlink(name, dir_fd=folder)
                files, size = files + 1, size + found.st_size
    finally:
        os.close(folder)
    return files, size
