"""What a person sees on stderr while a command runs: a bar that moves, and lines that do not break it.

On a terminal, with tqdm installed, there is a bar; elsewhere only the lines.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

_TICK = 0.1  # seconds between two looks at how far it is

Look = Callable[[], "tuple[int, str]"]  # returns how far it is, and a remark


class Progress:
    """A bar on stderr, moved by a thread of its own. Use it with `with`; any thread may `say`.

    The log of brockman goes the same way for as long.
    """

    def __init__(self, look: Look, *, total: int | None, unit: str, is_bytes: bool = False) -> None:
        """Prepare.

        Args:
            look: Asked for how far it is.
            total: How far it will be in the end; None when nobody knows.
            unit: What is counted.
            is_bytes: Whether to show thousands as k, M and so on.
        """
        self._look = look
        self._bar = _make_bar(total, unit, is_bytes)
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="brockman-progress", daemon=True)
        self._handler = _LineHandler(self.say)
        self._log = logging.getLogger("brockman")
        self._log_was = (self._log.level, self._log.propagate)

    def __enter__(self) -> Progress:
        self._log.addHandler(self._handler)
        self._log.setLevel(logging.INFO)
        self._log.propagate = False
        if self._bar is not None:
            self._ticker.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the bar where it stands."""
        self._done.set()
        if self._bar is not None:
            self._ticker.join()
            self._show()
            self._bar.close()
        self._log.removeHandler(self._handler)
        level, self._log.propagate = self._log_was
        self._log.setLevel(level)

    def say(self, line: str) -> None:
        """Write a line above the bar."""
        with self._lock:
            if self._bar is not None:
                self._bar.clear()
            print(line, file=sys.stderr, flush=True)

    def _tick(self) -> None:
        while not self._done.wait(_TICK):
            try:
                self._show()
            except OSError:  # the terminal has gone; the work goes on
                return

    def _show(self) -> None:
        count, remark = self._look()
        with self._lock:
            self._bar.n, self._bar.ncols = count, _count_columns()
            self._bar.set_postfix_str(remark, refresh=False)
            self._bar.refresh()


class _LineHandler(logging.Handler):
    """Writes log records as plain lines."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            self._say(f"brockman: {record.getMessage()}")


def _make_bar(total: int | None, unit: str, is_bytes: bool) -> Any:
    """Return a bar, or None where it would be out of place."""
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    tqdm.monitor_interval = 0  # its own thread would move the bar as well
    return tqdm(
        total=total,
        unit=unit,
        unit_scale=is_bytes,
        unit_divisor=1024 if is_bytes else 1000,
        file=sys.stderr,
        ncols=_count_columns(),
        nrows=24,  # there is one row, this one; tqdm shows none where the terminal says it has no rows
    )


def _count_columns() -> int:
    """Return the width of the terminal, which may change; some say 0."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80
