"""The start of the process, before anything slow is imported: Ctrl-C, and streams that are closed."""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType

_STDOUT, _STDERR = 1, 2


def prepare_process() -> None:
    """Have Ctrl-C exit at once, and streams for what is printed, with escapes for what their encoding lacks."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as behind `nohup`
        signal.signal(signal.SIGINT, exit_at_once)
    for number in (0, _STDOUT, _STDERR):  # or the next file that is opened gets the number
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(_STDERR, "w", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(_STDOUT, "w", closefd=False)  # noqa: SIM115
        print("brockman: standard output is closed; nothing is shown there", file=sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def exit_at_once(number: int, frame: FrameType | None = None) -> None:
    """Exit with the status of a signal. Only while nothing has to be cleaned up.

    An exception instead could strike where Python ignores it, and prints it: in a callback of an import.
    """
    os.write(_STDERR, b"\nbrockman: interrupted\n")
    os._exit(128 + number)


def discard_output(stream: object) -> None:
    """Discard what is still written to stdout or stderr, whose reader is gone: Python would fail on it at exit."""
    if isinstance(stream, io.TextIOWrapper):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
