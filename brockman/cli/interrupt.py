"""Signals that end a command: each becomes an exception, so that everything is put away on the way out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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
            shield()
        else:
            for number, handler in before.items():
                if handler is not None:  # None: it was set from outside Python, and cannot be put back from here
                    signal.signal(number, handler)


def shield() -> None:
    """Ignore these signals from now on: what is being put away is put away whole."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, *_ENDING):
            signal.signal(number, signal.SIG_IGN)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)
