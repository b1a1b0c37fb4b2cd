"""The directories in the spool: one for each process, locked by it while it lives.

    SPOOL_DIR/                0700
        4711-9f3c.../         0700  one process
            lock              0600  held with `flock` by the owner, and free when the owner is gone
            00000001          0600  segments, see `segment`
            00000001.ack      0600  its acknowledged offset
        damaged/              0700  see `quarantine`

A directory is renamed to its name once it is locked, and a process that locks one later checks that it still has
the name: no two processes ever own the same one. Files are opened relative to a directory that was checked, and
never through a symbolic link.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from contextlib import suppress

from brockman.buffer.spool.directory import (
    OPEN_DIRECTORY,
    SpoolDir,
    close_quietly,
    names_in,
    open_directory,
    open_file,
)
from brockman.process.clock import wall

LOCK = "lock"
ACK_SUFFIX = ".ack"
_NAME = re.compile(r"\d+-[0-9a-f]{16}")
_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LITTER_AGE = 60.0  # seconds; a hidden directory is being created or removed, or was when its process died


class ProcessDir:
    """The directory of one process, locked unless `lock` is -1. Closing it releases the lock.

    In a forked child it only closes the child's copy, and the parent still holds the lock.
    """

    def __init__(self, spool: SpoolDir, name: str, descriptor: int, lock: int) -> None:
        self.name = name
        self.descriptor = descriptor
        self._spool = spool
        self._lock = lock

    def create(self, name: str) -> int:
        """Create a file, and return its descriptor, for reading and writing."""
        return os.open(name, os.O_RDWR | _NEW, 0o600, dir_fd=self.descriptor)

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        """Open a file, and return its descriptor, as `open_file` does."""
        descriptor = open_file(name, flags, self.descriptor)
        if self._lock >= 0:  # else it is only inspected
            self._spool.narrow(descriptor)
        return descriptor

    def has(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)

    def names(self) -> list[str]:
        return sorted(names_in(self.descriptor))

    @property
    def is_removed(self) -> bool:
        return os.fstat(self.descriptor).st_nlink == 0

    def sync(self) -> None:
        """Flush the names of its files to the disk. Blocks."""
        os.fsync(self.descriptor)
        os.fsync(self._spool.descriptor)

    def close(self) -> None:
        opened, self._lock, self.descriptor = (self._lock, self.descriptor), -1, -1
        close_quietly(*opened)

    def remove_if_empty(self) -> None:
        """Close it, and remove it unless there is something else than the lock in it."""
        try:
            if self.descriptor >= 0 and self._has_only_lock():
                # Renamed first: a process that is about to lock it does not find it, or sees that it was renamed.
                gone = f".{self.name}"
                spool = self._spool.descriptor
                os.rename(self.name, gone, src_dir_fd=spool, dst_dir_fd=spool)
                self.remove(LOCK)
                os.rmdir(gone, dir_fd=spool)
        except OSError:
            pass  # someone has put a file into it, or removed it
        finally:
            self.close()

    def _has_only_lock(self) -> bool:
        """Return whether only the lock is in it, and remove acknowledgements if there is nothing else."""
        names = [name for name in self.names() if name != LOCK]
        if not all(name.endswith(ACK_SUFFIX) and name[: -len(ACK_SUFFIX)].isdigit() for name in names):
            return False
        for name in names:  # a process died after it had removed the segment
            self.remove(name)
        return True


def make_process_dir(spool: SpoolDir, random_bytes: Callable[[int], bytes]) -> ProcessDir:
    """Create a directory for this process, locked; `random_bytes` is `os.urandom`."""
    name = f"{os.getpid()}-{random_bytes(8).hex()}"
    hidden = f".{name}"
    os.mkdir(hidden, 0o700, dir_fd=spool.descriptor)
    descriptor = lock = -1
    try:
        descriptor = os.open(hidden, OPEN_DIRECTORY, dir_fd=spool.descriptor)
        _lock_directory(descriptor)
        lock = os.open(LOCK, os.O_RDWR | _NEW, 0o600, dir_fd=descriptor)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(hidden, name, src_dir_fd=spool.descriptor, dst_dir_fd=spool.descriptor)
    except BaseException:
        with suppress(OSError):
            os.unlink(f"{hidden}/{LOCK}", dir_fd=spool.descriptor)
        with suppress(OSError):
            os.rmdir(hidden, dir_fd=spool.descriptor)
        close_quietly(lock, descriptor)
        raise
    return ProcessDir(spool, name, descriptor, lock)


def _lock_directory(descriptor: int) -> None:
    """Lock the directory too, where possible: its owner keeps it if someone removes the lock file.

    Raises:
        BlockingIOError: When it has an owner.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # network file systems lock only what is open for writing
        pass


def adopt_process_dir(spool: SpoolDir, name: str) -> ProcessDir | None:
    """Return a directory whose owner is gone, locked; None when it has an owner, or was just removed.

    Raises:
        OSError: When it cannot be locked, or is unsafe.
    """
    descriptor = lock = -1
    try:
        descriptor = open_directory(name, spool.descriptor)
        _lock_directory(descriptor)
        # Created if someone has removed it: otherwise its triggers would wait forever.
        lock = open_file(LOCK, os.O_RDWR | os.O_CREAT, descriptor)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        spool.narrow(descriptor)
        spool.narrow(lock)
        if os.path.samestat(os.stat(name, dir_fd=spool.descriptor, follow_symlinks=False), os.fstat(descriptor)):
            process_dir = ProcessDir(spool, name, descriptor, lock)
            descriptor = lock = -1
            return process_dir
    except (BlockingIOError, FileNotFoundError):
        pass
    finally:
        close_quietly(lock, descriptor)
    return None


def open_process_dir(spool: SpoolDir, name: str) -> ProcessDir:
    """Return a directory without locking it, for inspection."""
    return ProcessDir(spool, name, open_directory(name, spool.descriptor), -1)


def is_process_dir_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def process_dir_names(spool: SpoolDir) -> list[str]:
    """Return the names of the processes' directories, the oldest first."""
    ages = []
    for name in names_in(spool.descriptor):
        if is_process_dir_name(name):
            with suppress(OSError):  # it is being removed
                ages.append(
                    (os.stat(f"{name}/{LOCK}", dir_fd=spool.descriptor, follow_symlinks=False).st_mtime_ns, name)
                )
                continue
            ages.append((0, name))
    return [name for _, name in sorted(ages)]


def remove_abandoned(spool: SpoolDir) -> None:
    """Remove directories whose process died while it created or removed them."""
    for name in names_in(spool.descriptor):
        if name.startswith(".") and _NAME.fullmatch(name[1:]):
            with suppress(OSError):
                if wall() - os.stat(name, dir_fd=spool.descriptor, follow_symlinks=False).st_mtime > _LITTER_AGE:
                    with suppress(FileNotFoundError):
                        os.unlink(f"{name}/{LOCK}", dir_fd=spool.descriptor)
                    os.rmdir(name, dir_fd=spool.descriptor)
