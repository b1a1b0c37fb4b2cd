"""The spool's directory: opens and checks it, and closes inherited files in a forked child."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from io import FileIO

from brockman.process import fork
from brockman.process.fork import Origin

_DESCRIPTORS = "/proc/self/fd"
_opened: dict[str, Origin] = {}  # the paths of spools, and the process that has opened each


def close_inherited_fds() -> None:
    """Close descriptors below the parent's spools that another thread had open at the fork.

    A lock among them would keep a process's directory from being adopted until the child ends. A spool that this
    child has opened already, in someone's fork hook, is skipped.
    """
    paths = [path for path, origin in list(_opened.items()) if origin.is_inherited]
    for path in paths:
        _opened.pop(path, None)
    if not paths:
        return
    # Only the spool's: the program may have files of its own beside them.
    inherited = re.compile(
        "(?:" + "|".join(map(re.escape, paths)) + r")/(?:\.?\d+-[0-9a-f]{16}|damaged)(?:/| \(deleted\)|\Z)"
    )
    for number in os.listdir(_DESCRIPTORS):
        with suppress(OSError):
            if inherited.match(os.readlink(f"{_DESCRIPTORS}/{number}")):
                os.close(int(number))


fork.after_fork_hooks.append(close_inherited_fds)


# A write to a mapped page that the file system cannot store is a SIGBUS in the host's process. On these, room that
# `posix_fallocate` has reserved can be written; a network or FUSE file system promises nothing.
_MAPPABLE = {b"ext2", b"ext3", b"ext4", b"xfs", b"tmpfs"}


def may_map(descriptor: int) -> bool:
    """Return whether a file on the file system of this open file may be mapped and written."""
    if sys.platform != "linux" or not hasattr(os, "posix_fallocate"):
        return False
    device = os.fstat(descriptor).st_dev
    wanted = b"%d:%d" % (os.major(device), os.minor(device))
    try:
        with FileIO("/proc/self/mountinfo") as mounts:  # the name `open` is gone at the very end of a process
            lines = mounts.readall().splitlines()
        for line in lines:  # proc(5): the third field is the device; the type follows a lone hyphen
            fields = line.split()
            if fields[2] == wanted:
                return fields[fields.index(b"-") + 1] in _MAPPABLE
    except (OSError, ValueError, IndexError):
        pass
    return False


OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


WIDENED = "its group could write to it, as Kubernetes' fsGroup sets it; modes are 0700 and 0600 again"
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class UnsafeDirectory(OSError):
    """A directory that is not used for triggers; the message says why."""


class UnsafeFile(OSError):
    """A file that is neither read nor written; the message says why."""


class SpoolDir:
    """The spool's directory, which all its processes share. Opened again if someone removes it."""

    def __init__(self, path: str, note: Callable[[str], object] = lambda text: None) -> None:
        """Open nothing yet. `note` is called with a line for the log."""
        self.path = path
        self.note = note
        self._path = path.rstrip("/") or "/"  # with a trailing slash, a link would be followed
        self.descriptor = -1
        self.may_map = False  # whether files in it may be mapped
        self._before = -1  # of a directory that was removed: another thread may still use it
        self.is_closed = False
        self._opening = threading.RLock()

    def open(self) -> None:
        """Open it unless it is open, again if it was removed since, and create it if there is none.

        Raises:
            UnsafeDirectory: When it is a symbolic link, belongs to another user, or others may write into it.
            OSError: When it cannot be opened, or was closed.
        """
        # Not for long: the holder may be interrupted by a signal handler that waits for this thread.
        is_held = self._opening.acquire(timeout=1.0)
        try:
            if self.is_closed:
                raise OSError(errno.EBADF, "closed", self.path)
            if self.is_removed:
                with suppress(FileExistsError):  # of a file or a link, for which the next line has an error
                    os.makedirs(self._path, mode=0o700)
                self.open_existing()
            self.narrow(self.descriptor)
            if self.is_closed:  # meanwhile
                self.close()
        finally:
            if is_held:
                self._opening.release()

    def open_existing(self) -> None:
        """Do as `open`, but create nothing."""
        try:
            descriptor = open_directory(self._path)
        except OSError as error:
            if os.path.islink(self._path):
                reason = "it is a symbolic link; name the directory itself"
                raise UnsafeDirectory(errno.ELOOP, reason, self.path) from error
            raise
        self.may_map = may_map(descriptor)
        before, self._before, self.descriptor = self._before, self.descriptor, descriptor
        close_quietly(before)
        with suppress(OSError):  # without /proc there is no way to find inherited descriptors
            _opened[os.readlink(f"{_DESCRIPTORS}/{descriptor}")] = Origin()

    def narrow(self, descriptor: int) -> None:
        """Take from the group what it may do with an open file or directory, if it may write."""
        found = os.fstat(descriptor)
        if found.st_mode & _OTHERS and found.st_uid == os.geteuid() and not _has_other_names(found):
            with suppress(OSError):  # where a mount gives all files one mode; they are trusted as they are
                os.fchmod(descriptor, 0o700 if stat.S_ISDIR(found.st_mode) else 0o600)
            self.note(WIDENED)

    @property
    def is_removed(self) -> bool:
        return self.descriptor < 0 or os.fstat(self.descriptor).st_nlink == 0

    def close(self) -> None:
        self.is_closed = True
        opened, self._before, self.descriptor = (self._before, self.descriptor), -1, -1
        close_quietly(*opened)


def why_unusable(path: str) -> str | None:
    """Return why triggers could not be written to a directory; None when they could. Creates nothing."""
    path = place = path.rstrip("/") or "/"
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    try:
        if place == path:
            os.close(open_directory(path))
        elif not os.path.isdir(place):
            return f"{place} is not a directory"
    except OSError as error:
        return "it is a symbolic link" if os.path.islink(path) else (error.strerror or str(error))
    if not os.access(place, os.W_OK | os.X_OK):
        return f"user {os.geteuid()} may not write into {place}"
    return "its file system is read-only" if os.statvfs(place).f_flag & os.ST_RDONLY else None


def open_directory(path: str, within: int | None = None) -> int:
    """Return a descriptor of a directory.

    The group may write into it if it is one of this process: Kubernetes gives a volume to `fsGroup` whenever a pod
    starts. Its members could only add files of their own, which `open_file` refuses, and change what is in ours.

    Raises:
        UnsafeDirectory: When it belongs to another user, or others may write into it.
        OSError: When it cannot be opened; a symbolic link cannot.
    """
    descriptor = os.open(path, OPEN_DIRECTORY, dir_fd=within)
    found, reason = os.fstat(descriptor), None
    if found.st_uid != os.geteuid():
        reason = f"it belongs to user {found.st_uid}, not to {os.geteuid()}"
        if found.st_uid == 0 and os.access(path, os.W_OK | os.X_OK, dir_fd=within):  # a volume's root
            reason += "; name a folder in it"
    elif found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not _is_own_group(found.st_gid)):
        reason = f"others may write into it (mode {stat.S_IMODE(found.st_mode):o}); chmod 700"
    if reason is not None:
        os.close(descriptor)
        raise UnsafeDirectory(errno.EPERM, reason, path)
    return descriptor


def open_file(name: str, flags: int, within: int) -> int:
    """Return a descriptor of a file in an open directory. Does not wait for a FIFO.

    Raises:
        UnsafeFile: When it belongs to another user, or anybody may write to it: members of the directory's group
            could have put it there, to have their triggers sent or ours counted as sent.
        OSError: When it cannot be opened; a symbolic link cannot.
    """
    descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=within)
    found, reason = os.fstat(descriptor), None
    if found.st_uid not in (os.geteuid(), 0):
        reason = f"it belongs to user {found.st_uid}, not to {os.geteuid()}"
    elif found.st_mode & stat.S_IWOTH:
        reason = f"anybody may write to it (mode {stat.S_IMODE(found.st_mode):o}); chmod 600"
    if reason is not None:
        os.close(descriptor)
        raise UnsafeFile(errno.EPERM, reason, name)
    return descriptor


def _is_own_group(gid: int) -> bool:
    return gid == os.getegid() or gid in os.getgroups()


def _has_other_names(found: os.stat_result) -> bool:
    """Return whether a file is linked elsewhere too: it may be another program's."""
    return stat.S_ISREG(found.st_mode) and found.st_nlink > 1


def names_in(directory: int) -> list[str]:
    """Return the names in an open directory, in no order.

    It is opened again: threads and forked children that list by the same descriptor share a position in it, and
    find names twice, or not at all. No `scandir`: it warns when an exception strikes.
    """
    descriptor = os.open(".", OPEN_DIRECTORY, dir_fd=directory)
    try:
        return os.listdir(descriptor)
    finally:
        os.close(descriptor)


def file_sizes(directory: int) -> list[int]:
    """Return the sizes of the files in an open directory."""
    sizes = []
    for name in os.listdir(directory):
        with suppress(FileNotFoundError):
            sizes.append(os.stat(name, dir_fd=directory, follow_symlinks=False).st_size)
    return sizes


def close_quietly(*descriptors: int) -> None:
    """Close descriptors; ignore -1 and those that are closed."""
    for descriptor in descriptors:
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)
