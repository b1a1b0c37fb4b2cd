"""The spool's folder: where it is, whether it is safe to leave triggers in, and who may look into it.

A lock among it would keep a folder from being adopted when the parent is gone, for as long as the child lives.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import threading
from contextlib import suppress
from io import FileIO

from brockman.process import fork
from brockman.process.fork import Origin

_MINE = "/proc/self/fd"
_opened: dict[str, Origin] = {}  # the folders of spools, and the process that has opened each


def note_opened(descriptor: int) -> None:
    """Take note that this process works below a folder."""
    with suppress(OSError):  # where there is no /proc, nothing can be done about it
        _opened[os.readlink(f"{_MINE}/{descriptor}")] = Origin()


def close_inherited_fds() -> None:
    """Close what is open below the parent's spools: for a child, when all that is known is closed.

    Not where this process has opened the same spool already, in the fork hook of somebody else.
    """
    folders = [folder for folder, origin in list(_opened.items()) if origin.is_inherited]
    for folder in folders:
        _opened.pop(folder, None)
    if not folders:
        return
    # Not what else lies there: the program may have files of its own beside the spool's.
    ours = re.compile(
        "(?:" + "|".join(map(re.escape, folders)) + r")/(?:\.?\d+-[0-9a-f]{16}|damaged)(?:/| \(deleted\)|\Z)"
    )
    for number in os.listdir(_MINE):
        with suppress(OSError):
            if ours.match(os.readlink(f"{_MINE}/{number}")):
                os.close(int(number))


fork.after_fork_hooks.append(close_inherited_fds)


# A write to a mapped page that the file system cannot store is a SIGBUS in the host's process. On these, room that
# `posix_fallocate` has given can be written; a network or FUSE file system promises nothing.
_TRUSTED = {b"ext2", b"ext3", b"ext4", b"xfs", b"tmpfs"}


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
                return fields[fields.index(b"-") + 1] in _TRUSTED
    except (OSError, ValueError, IndexError):
        pass
    return False


OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Refused(OSError):
    """The folder is not one that triggers may be left in; says why."""


class SpoolDir:
    """The spool's folder, which all its processes share. Opened anew if somebody removes it."""

    def __init__(self, path: str) -> None:
        """Open nothing yet."""
        self.path = path
        self._path = path.rstrip("/") or "/"  # with a slash at its end, a link would be followed
        self.descriptor = -1
        self.may_map = False  # whether files in it may be mapped
        self._before = -1  # of what was removed: another thread may be using it still
        self.is_closed = False
        self._opening = threading.RLock()

    def open(self) -> None:
        """Open it, unless it is open, or again if it was removed since; it is made if there is none.

        Raises:
            Refused: When it is a symbolic link, belongs to somebody else, or others may write into it.
            OSError: When it cannot be had, or was closed.
        """
        # Not for long: who holds it may be interrupted by a signal handler that waits for this very thread.
        is_held = self._opening.acquire(timeout=1.0)
        try:
            if self.is_closed:
                raise OSError(errno.EBADF, "it is closed", self.path)
            if self.is_removed:
                with suppress(FileExistsError):  # a file or a link, perhaps, of which the next line tells
                    os.makedirs(self._path, mode=0o700)
                self.open_existing()
            if self.is_closed:  # meanwhile
                self.close()
        finally:
            if is_held:
                self._opening.release()

    def open_existing(self) -> None:
        """Do as `open`, but make nothing: who only looks leaves everything as it is."""
        try:
            descriptor = os.open(self._path, OPEN_FOLDER)
        except OSError as error:
            if os.path.islink(self._path):
                raise Refused(errno.ELOOP, "it is a symbolic link; name the folder itself", self.path) from error
            raise
        try:
            check_folder(descriptor, self.path)
        except OSError:
            os.close(descriptor)
            raise
        self.may_map = may_map(descriptor)
        before, self._before, self.descriptor = self._before, self.descriptor, descriptor
        close_quietly(before)
        note_opened(descriptor)

    @property
    def is_removed(self) -> bool:
        """Whether it is not open, or has been removed since."""
        return self.descriptor < 0 or os.fstat(self.descriptor).st_nlink == 0

    def close(self) -> None:
        """Close it for good. Twice does no harm."""
        self.is_closed = True
        opened, self._before, self.descriptor = (self._before, self.descriptor), -1, -1
        for descriptor in opened:
            close_quietly(descriptor)


def why_unusable(path: str) -> str | None:
    """Return in words why triggers could not be left in a folder; None when they could. Makes nothing."""
    path = place = path.rstrip("/") or "/"
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    try:
        if place == path:
            descriptor = os.open(path, OPEN_FOLDER)
            try:
                check_folder(descriptor, path)
            finally:
                os.close(descriptor)
        elif not os.path.isdir(place):
            return f"{place} is no folder"
    except OSError as error:
        return "it is a symbolic link" if os.path.islink(path) else (error.strerror or str(error))
    if not os.access(place, os.W_OK | os.X_OK):
        return f"user {os.geteuid()} may not write into {place}"
    return "its file system is read-only" if os.statvfs(place).f_flag & os.ST_RDONLY else None


def check_folder(descriptor: int, path: str) -> None:
    """Raise `Refused` unless a folder is this user's, and nobody else may write into it."""
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        raise Refused(errno.EPERM, f"it belongs to user {found.st_uid}, not to {os.geteuid()}", path)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Refused(
            errno.EPERM, f"others may write into it (mode {stat.S_IMODE(found.st_mode):o}); chmod 700", path
        )


def names_in(folder: int) -> list[str]:
    """Return the names of what is in a folder that is open, in no order.

    It is opened anew: who lists by the same descriptor shares its place in the folder, with other threads and with
    forked children, and finds names twice, or not at all. No `scandir`: it warns when an exception strikes.
    """
    descriptor = os.open(".", OPEN_FOLDER, dir_fd=folder)
    try:
        return os.listdir(descriptor)
    finally:
        os.close(descriptor)


def close_quietly(descriptor: int) -> None:
    """Close a descriptor, if it is one and still open."""
    if descriptor >= 0:
        with suppress(OSError):
            os.close(descriptor)
