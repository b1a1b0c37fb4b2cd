"""Whether something is still of use in this process, at the price of reading one byte.

`os.getpid` tells a forked child from its parent, and is a call of the system; `python -m tests.benchmarks.record`
prints what it costs beside this. Linux wipes a page in every child, however it was forked, if it is told to
(madvise(2), MADV_WIPEONFORK, since 4.14).
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from typing import Any

_MADV_WIPEONFORK = 18  # missing from the module `mmap`


class _PidMark:
    """The same where no page can be wiped."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, index: int) -> int:
        return int(self._pid == os.getpid())

    def __setitem__(self, index: int, value: int) -> None:
        self._pid = os.getpid() if value else 0


def make_mark() -> Any:
    """Return something whose item 0 is 1 in this process, until it is set to 0, and 0 in every forked child."""
    with suppress(AttributeError, OSError, ValueError):
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
        page[0] = 1
        return page
    return _PidMark()
