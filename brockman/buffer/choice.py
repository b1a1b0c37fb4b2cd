"""Which buffer it is: in memory, or on disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from brockman.buffer.base import Buffer
from brockman.buffer.counters import Ledger
from brockman.buffer.memory import MemoryBuffer
from brockman.exceptions import ConfigurationError
from brockman.options import Options

if TYPE_CHECKING:
    from brockman.buffer.refuge import Refuge
    from brockman.buffer.spool.buffer import SpoolBuffer


@cache
def _on_disk() -> tuple[type[SpoolBuffer], type[Refuge]]:
    """Import what few need, and what is for POSIX. Once: at the very end of a process no import works any more."""
    from brockman.buffer.refuge import Refuge
    from brockman.buffer.spool.buffer import SpoolBuffer

    return SpoolBuffer, Refuge


def make_buffer(
    options: Options,
    ledger: Ledger,
    *,
    wake: Callable[[], None],
    may_wait: Callable[[], bool],
    spawn: Callable[[Callable[[], None]], None],
) -> Buffer:
    """Return a buffer that holds nothing yet, and has opened nothing; the arguments are those of the buffers.

    Raises:
        ConfigurationError: When there is to be a spool, on a system that has not what it needs.
    """
    bounds: dict[str, Any] = {
        "max_count": options.max_queue_size,
        "max_bytes": options.max_queue_bytes,
        "overflow": options.overflow,
        "block_timeout": options.block_timeout,
        "wake": wake,
        "may_wait": may_wait,
    }
    if options.spool_dir is None:
        return MemoryBuffer(ledger, **bounds)
    try:
        spool_buffer, refuge = _on_disk()
    except ImportError:
        problem = f"spool_dir is {options.spool_dir!r}, but this system has no flock (fcntl); leave it out"
        raise ConfigurationError(problem) from None
    return spool_buffer(options, ledger, refuge(ledger, **bounds), wake=wake, may_wait=may_wait, spawn=spawn)
