"""What a forked child inherits and nobody in it knows of: opened by another thread, and not stored yet.

A lock among it would keep a folder from being adopted when the parent is gone, for as long as the child lives.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from brockman.process import registry

_MINE = "/proc/self/fd"
_opened: dict[str, int] = {}  # the folders of spools, and the process that has opened each


def note_opened(descriptor: int) -> None:
    """Take note that this process works below a folder."""
    with suppress(OSError):  # where there is no /proc, nothing can be done about it
        _opened[os.readlink(f"{_MINE}/{descriptor}")] = os.getpid()


def close_strays() -> None:
    """Close what is open below the parent's spools: for a child, when all that is known is closed.

    Not where this process has opened the same spool already, in the fork hook of somebody else.
    """
    here = os.getpid()
    folders = [folder for folder, pid in list(_opened.items()) if pid != here]
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


registry.when_left.append(close_strays)
