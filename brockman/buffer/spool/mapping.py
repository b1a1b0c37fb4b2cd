"""Whether a file may be mapped into memory to be written: where it lies on a disk of this machine."""

from __future__ import annotations

import os
import sys
from io import FileIO

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
