"""Folders of the spool: one for each process, locked by it while it lives.

    SPOOL_DIR/                0700
        4711-9f3c.../         0700  one process
            lock              0600  held with `flock` by the owner, and by nobody when the owner is gone
            00000001          0600  segments, see `segment`
            00000001.ack      0600  how far that one is settled
        damaged/              0700  what could not be read, kept for a person

A folder comes to its name when it is locked, and who locks one later looks whether it still has the name: no two
ever own the same. Files are opened relative to a folder that was looked at, and never by way of a symbolic link.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from contextlib import suppress

from brockman.buffer.spool.directory import OPEN_FOLDER, SpoolDir, check_folder, close_quietly, names_in
from brockman.process.clock import wall

LOCK = "lock"
ACK_SUFFIX = ".ack"
_NAME = re.compile(r"\d+-[0-9a-f]{16}")
_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LITTER_AGE = 60.0  # seconds; what is hidden is being made or removed, or was when its process died


class ProcessDir:
    """A folder of one process, locked unless `lock` is -1. Closing lets go of the lock.

    Not so in a forked child: there it only closes the child's copy, and the parent still holds it.
    """

    def __init__(self, spool: SpoolDir, name: str, descriptor: int, lock: int) -> None:
        """Take what `make_process_dir` and `adopt_process_dir` have opened."""
        self.name = name
        self.descriptor = descriptor
        self._spool = spool
        self._lock = lock

    def create(self, name: str) -> int:
        """Make a file, and return its descriptor, for reading and writing."""
        return os.open(name, os.O_RDWR | _NEW, 0o600, dir_fd=self.descriptor)

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        """Open a file that is there, or is made with O_CREAT, and return its descriptor. Waits for no FIFO."""
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=self.descriptor)

    def has(self, name: str) -> bool:
        """Return whether something has that name."""
        try:
            os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Remove a file, if it is still there."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)

    def names(self) -> list[str]:
        """Return the names of the files, in order."""
        return sorted(names_in(self.descriptor))

    @property
    def is_removed(self) -> bool:
        """Whether it has been removed."""
        return os.fstat(self.descriptor).st_nlink == 0

    def sync(self) -> None:
        """Have the names of its files reach the disk. Blocks."""
        os.fsync(self.descriptor)
        os.fsync(self._spool.descriptor)

    def close(self) -> None:
        """Close the descriptors. Twice does no harm."""
        opened, self._lock, self.descriptor = (self._lock, self.descriptor), -1, -1
        for descriptor in opened:
            close_quietly(descriptor)

    def dissolve(self) -> None:
        """Remove the folder if nothing of use is left in it, and close it."""
        try:
            if self.descriptor >= 0 and self._clear():
                # Renamed first: who comes to lock it now finds no such name, or sees that it has lost it.
                gone = f".{self.name}"
                spool = self._spool.descriptor
                os.rename(self.name, gone, src_dir_fd=spool, dst_dir_fd=spool)
                self.remove(LOCK)
                os.rmdir(gone, dir_fd=spool)
        except OSError:
            pass  # somebody has put something into it, or taken it away
        finally:
            self.close()

    def _clear(self) -> bool:
        """Remove acknowledgements if there is nothing else; return whether only the lock is left."""
        left = [name for name in self.names() if name != LOCK]
        if not all(name.endswith(ACK_SUFFIX) and name[: -len(ACK_SUFFIX)].isdigit() for name in left):
            return False
        for name in left:  # of a segment: a process died after it had removed that
            self.remove(name)
        return True


def make_process_dir(spool: SpoolDir, random_bytes: Callable[[int], bytes]) -> ProcessDir:
    """Make a folder for this process, locked.

    Args:
        spool: The spool's folder.
        random_bytes: Returns that many random bytes, as `os.urandom` does.

    Raises:
        OSError: When it cannot be made.
    """
    name = f"{os.getpid()}-{random_bytes(8).hex()}"
    hidden = f".{name}"
    os.mkdir(hidden, 0o700, dir_fd=spool.descriptor)
    descriptor = lock = -1
    try:
        descriptor = os.open(hidden, OPEN_FOLDER, dir_fd=spool.descriptor)
        _lock_folder(descriptor)
        lock = os.open(LOCK, os.O_RDWR | _NEW, 0o600, dir_fd=descriptor)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(hidden, name, src_dir_fd=spool.descriptor, dst_dir_fd=spool.descriptor)
    except BaseException:
        with suppress(OSError):
            os.unlink(f"{hidden}/{LOCK}", dir_fd=spool.descriptor)
        with suppress(OSError):
            os.rmdir(hidden, dir_fd=spool.descriptor)
        close_quietly(lock)
        close_quietly(descriptor)
        raise
    return ProcessDir(spool, name, descriptor, lock)


def _lock_folder(descriptor: int) -> None:
    """Lock a folder itself too, where that can be: its owner keeps it when somebody removes the file.

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
    """Return a folder whose owner is gone, locked, or None when it has an owner, or has just been removed.

    Raises:
        OSError: When it cannot be locked, or is none of ours.
    """
    descriptor = lock = -1
    try:
        descriptor = os.open(name, OPEN_FOLDER, dir_fd=spool.descriptor)
        check_folder(descriptor, name)
        _lock_folder(descriptor)
        # Made anew where somebody has removed it: what is in the folder would else wait for ever.
        lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=descriptor)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.stat(name, dir_fd=spool.descriptor, follow_symlinks=False), os.fstat(descriptor)):
            folder = ProcessDir(spool, name, descriptor, lock)
            descriptor = lock = -1
            return folder
    except (BlockingIOError, FileNotFoundError):
        pass
    finally:
        close_quietly(lock)
        close_quietly(descriptor)
    return None


def open_process_dir(spool: SpoolDir, name: str) -> ProcessDir:
    """Return a folder that is not locked by it, to look into it.

    Raises:
        OSError: When it is gone, or is none of ours.
    """
    descriptor = os.open(name, OPEN_FOLDER, dir_fd=spool.descriptor)
    try:
        check_folder(descriptor, name)
    except OSError:
        os.close(descriptor)
        raise
    return ProcessDir(spool, name, descriptor, -1)


def is_process_dir_name(name: str) -> bool:
    """Return whether a name is one that processes give their folders."""
    return _NAME.fullmatch(name) is not None


def process_dir_names(spool: SpoolDir) -> list[str]:
    """Return the names of the processes' folders, the oldest first."""
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


def sweep(spool: SpoolDir) -> None:
    """Remove what a process left behind that died while it made or removed its folder."""
    for name in names_in(spool.descriptor):
        if name.startswith(".") and _NAME.fullmatch(name[1:]):
            with suppress(OSError):
                if wall() - os.stat(name, dir_fd=spool.descriptor, follow_symlinks=False).st_mtime > _LITTER_AGE:
                    with suppress(FileNotFoundError):
                        os.unlink(f"{name}/{LOCK}", dir_fd=spool.descriptor)
                    os.rmdir(name, dir_fd=spool.descriptor)
