"""What the tests of the buffers share."""

from __future__ import annotations

from typing import Any

from brockman.buffer.counters import Callbacks, Counters
from brockman.buffer.memory import MemoryBuffer


def memory_buffer(**bounds: Any) -> MemoryBuffer:
    """Return a buffer with bounds that no test reaches, unless given, and nobody to wake."""
    settings: dict[str, Any] = {
        "max_count": 10**7,
        "max_bytes": 10**10,
        "overflow": "drop_newest",
        "block_timeout": 0,
        "wake": lambda: None,
        "may_wait": lambda: True,
    }
    return MemoryBuffer(Counters(Callbacks(None, None)), **{**settings, **bounds})
