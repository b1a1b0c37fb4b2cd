"""Whether a file may be mapped into memory to be written: where it lies on a disk of this machine."""

from __future__ import annotations

import os
import sys

# A write to a mapped page that the file system cannot store is a SIGBUS in the host's process. On these, room that
# `posix_fallocate` has given can be written; a network or FUSE file system promises nothing.
_TRUSTED = {"ext2", "ext3", "ext4", "xfs", "tmpfs"}


def may_map(descriptor: int) -> bool:
    """Return whether a file on the file system of this open file may be mapped and written."""
    if sys.platform != "linux" or not hasattr(os, "posix_fallocate"):
        return False
    device = os.fstat(descriptor).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:  # proc(5): the third field is the device; the type follows a lone hyphen
                fields = line.split()
                if fields[2] == wanted:
                    return fields[fields.index("-") + 1] in _TRUSTED
    except (OSError, ValueError, IndexError):
        pass
    return False
