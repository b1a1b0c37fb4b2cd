"""What a person sees on stderr while a command runs: a bar that moves, and lines that do not break it.

On a terminal, with tqdm installed, there is a bar; elsewhere only the lines.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
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
            self._say(record.getMessage())


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


Row = tuple[str, str, str]


def format_table(rows: Sequence[Row]) -> str:
    """Return one line for each row: labels to the left, values to the right, remarks behind them."""
    label_width = max(len(label) for label, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    lines = (f"{label:<{label_width}}  {value:>{value_width}}  {remark}" for label, value, remark in rows)
    return "\n".join(line.rstrip() for line in lines)


def format_columns(rows: Sequence[Sequence[str]], to_the_right: Collection[int]) -> str:
    """Return one line for each row, with as many columns as the first one has; some of them to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(
            f"{text:>{width}}" if column in to_the_right else f"{text:<{width}}"
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(KeyboardInterrupt):
    """Raised by SIGTERM and SIGHUP, as `KeyboardInterrupt` is by Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_status(error: KeyboardInterrupt) -> int:
    """Return the exit status that tells of the signal."""
    return 128 + (error.number if isinstance(error, Terminated) else signal.SIGINT)


@contextmanager
def as_exceptions(*, to_the_end: bool) -> Iterator[None]:
    """Raise `Terminated` for signals that would end the process on the spot.

    Args:
        to_the_end: The process ends with the block: from there on the signals are ignored, for Python would meet
            them with a traceback. If not, the handlers are put back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDING)}
    for number in _ENDING:
        if before[number] is signal.SIG_DFL:  # an ignored one stays so: `nohup brockman import ...`
            signal.signal(number, _raise)
    try:
        yield
    finally:
        if to_the_end:
            ignore_signals()
        else:
            for number, handler in before.items():
                if handler is not None:  # None: it was set from outside Python, and cannot be put back from here
                    signal.signal(number, handler)


def ignore_signals() -> None:
    """Ignore these signals from now on: what is being put away is put away whole."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, *_ENDING):
            signal.signal(number, signal.SIG_IGN)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)
