"""The terminal: a progress bar and log lines on stderr, tables, signals.

The bar needs a terminal and tqdm; without them only the lines appear.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from brockman.cli.startup import discard_output, exit_at_once
from brockman.process import log_thread

_INTERVAL = 0.1  # seconds between two updates of the bar

Row = tuple[str, str, str]


class Progress:
    """A bar on stderr, which a thread updates. A context manager; `say` is thread-safe.

    `look` returns the position and the text after the bar; without a unit there is no bar. Inside the block the
    log of brockman is printed through `say`.
    """

    def __init__(
        self, look: Callable[[], tuple[int, str]], *, total: int | None, unit: str, is_bytes: bool = False
    ) -> None:
        self._look = look
        self._bar = _make_bar(total, unit, is_bytes)
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._update, name="brockman-progress", daemon=True)
        self._handler = _LineHandler(self.say)
        self._log = logging.getLogger("brockman")
        self._log_before = (self._log.level, self._log.propagate)

    def __enter__(self) -> Progress:
        self._log.addHandler(self._handler)
        self._log.setLevel(logging.INFO)
        self._log.propagate = False
        if self._bar is not None:
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        if self._bar is not None:
            self._thread.join()
            with contextlib.suppress(OSError):  # the terminal was closed
                self._show()
                self._bar.close()
        log_thread.wait_until_written(1.0)
        self._log.removeHandler(self._handler)
        level, self._log.propagate = self._log_before
        self._log.setLevel(level)

    def say(self, line: str) -> None:
        """Print a line on stderr; the work goes on if nobody reads it."""
        with self._lock:
            try:
                if self._bar is not None:
                    self._bar.clear()
                print(line, file=sys.stderr, flush=True)
            except OSError:
                discard_output(sys.stderr)

    def _update(self) -> None:
        while not self._done.wait(_INTERVAL):
            try:
                self._show()
            except OSError:  # the terminal was closed; the work goes on
                return

    def _show(self) -> None:
        position, text = self._look()
        with self._lock:
            self._bar.n, self._bar.ncols = position, _terminal_width()
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.refresh()


class _LineHandler(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            self._say(record.getMessage())


def _make_bar(total: int | None, unit: str, is_bytes: bool) -> Any:
    if not (unit and sys.stderr.isatty()):
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    tqdm.monitor_interval = 0  # no second thread that updates the bar
    return tqdm(
        total=total,
        unit=unit,
        unit_scale=is_bytes,
        unit_divisor=1024 if is_bytes else 1000,
        file=sys.stderr,
        ncols=_terminal_width(),
        nrows=24,  # tqdm hides the bar on a terminal that claims to have no rows
    )


def _terminal_width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80  # some claim 0
    except OSError:
        return 80


def has_colours() -> bool:
    """Return whether standard output is a terminal that shows colours, and NO_COLOR does not forbid them."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def format_table(rows: Sequence[Sequence[str]], right_aligned: Collection[int] = (1,)) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            f"{text:>{width}}" if column in right_aligned else f"{text:<{width}}"
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


_FATAL = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(KeyboardInterrupt):
    """Raised by SIGTERM and SIGHUP, as `KeyboardInterrupt` is by Ctrl-C; `done` says what was done."""

    def __init__(self, number: int, done: str = "") -> None:
        super().__init__(number, done)
        self.number, self.done = number, done


def exit_status(error: KeyboardInterrupt) -> int:
    return 128 + (error.number if isinstance(error, Terminated) else signal.SIGINT)


@contextmanager
def explain_interruption(done: str) -> Iterator[None]:
    """Have the line about a signal that strikes in the block say what was done."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Terminated(exit_status(error) - 128, done) from None


def say_interrupted(name: str, error: KeyboardInterrupt) -> None:
    done = f"; {error.done}" if isinstance(error, Terminated) and error.done else ""
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"\n{name}: interrupted{done}", file=sys.stderr)


@contextmanager
def handle_signals(*, at_once: bool) -> Iterator[None]:
    """Handle signals that would kill the process: as exceptions, `Terminated` and `KeyboardInterrupt`.

    With `at_once` they exit at once until `raise_on_signals` is called, and are ignored after the block: the
    process exits then, and Python would print a traceback for them. Otherwise the handlers are restored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_FATAL)}
    for number in _FATAL:
        if before[number] is signal.SIG_DFL:  # an ignored one stays ignored: `nohup brockman import ...`
            signal.signal(number, exit_at_once if at_once else _raise)
    try:
        yield
    finally:
        if at_once:
            ignore_signals()
        else:
            for number, handler in before.items():
                if handler is not None:  # None: not set by Python, which cannot restore it
                    signal.signal(number, handler)


def raise_on_signals() -> None:
    """Handle signals as exceptions from now on: something has to be cleaned up."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, *_FATAL):
            if signal.getsignal(number) is exit_at_once:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else _raise)


def ignore_signals() -> None:
    """Ignore these signals from now on, so that cleaning up is not interrupted."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, *_FATAL):
            signal.signal(number, signal.SIG_IGN)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


def exit_with_reader() -> None:
    """Have the process exit, with status 0, as soon as the reader of a pipe leaves, also while nothing is written.

    `brockman tail | head -3` ends with its third line. Only for commands that have nothing to clean up.
    """
    with contextlib.suppress(OSError, ValueError):  # no file of the system
        number = sys.stdout.fileno()
        if hasattr(select, "poll") and stat.S_ISFIFO(os.fstat(number).st_mode):
            threading.Thread(target=_wait_for_end, args=(number,), name="brockman-reader", daemon=True).start()


def _wait_for_end(number: int) -> None:
    ends = select.poll()
    ends.register(number, 0)  # an error, such as that nobody reads, is always reported
    ends.poll()
    os._exit(0)
