"""What is installed of the extra `collector`."""

from __future__ import annotations

import sys
from importlib.util import find_spec

_NEEDED = ("starlette", "uvicorn", "httptools")


def has_collector(command: str) -> bool:
    """Return whether the collector can run; if not, say on stderr what to install."""
    if all(find_spec(name) is not None for name in _NEEDED):
        return True
    print(f"brockman {command} needs the collector: pip install 'brockman[collector]'", file=sys.stderr)
    return False
