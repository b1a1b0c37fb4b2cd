"""Keeps damaged parts of segments, for a person to look at; they are never sent."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from brockman.buffer.counters import Counters
from brockman.buffer.spool.directory import SpoolDir, close_quietly, file_sizes, open_directory, open_file
from brockman.buffer.spool.segment import Segment
from brockman.process.log import SpoolLog

DAMAGED = "damaged"
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT


class Quarantine:
    """Keeps the damage of one spool."""

    def __init__(self, spool: SpoolDir, counters: Counters, log: SpoolLog) -> None:
        self._spool = spool
        self._counters = counters
        self._log = log

    def keep(self, segment: Segment, content: bytes) -> None:
        """Append the bytes of a damaged place to a file of their own directory."""
        owner = segment.process_dir
        directory = file = -1
        try:
            with suppress(FileExistsError):
                os.mkdir(DAMAGED, 0o700, dir_fd=self._spool.descriptor)
            directory = open_directory(DAMAGED, self._spool.descriptor)
            file = open_file(f"{owner.name if owner else ''}-{segment.name}", _APPEND, directory)
            self._spool.narrow(directory)
            self._spool.narrow(file)
            os.write(file, content)
        except OSError as error:
            self._log.note(f"damaged triggers could not be kept: {error.strerror}")
        else:
            self._counters.details["damaged"] = f"kept in {self._spool.path}/{DAMAGED}"
        finally:
            close_quietly(file, directory)


def measure_damaged(spool: SpoolDir) -> tuple[int, int]:
    """Return the number of files in the quarantine, and their bytes."""
    with suppress(OSError):  # there is none, or it is unsafe; then nothing is written to it either
        directory = open_directory(DAMAGED, spool.descriptor)
        try:
            sizes = file_sizes(directory)
        finally:
            os.close(directory)
        return len(sizes), sum(sizes)
    return 0, 0


def drop_damaged(spool: SpoolDir) -> tuple[int, int]:
    """Remove the files in the quarantine, and return their number and their bytes.

    The directory stays: a live process may be about to write to it.
    """
    files = size = 0
    try:
        directory = open_directory(DAMAGED, spool.descriptor)
    except FileNotFoundError:
        return 0, 0
    try:
        for name in os.listdir(directory):
            with suppress(FileNotFoundError):
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    continue
                os.unlink(name, dir_fd=directory)
                files, size = files + 1, size + found.st_size
    finally:
        os.close(directory)
    return files, size
