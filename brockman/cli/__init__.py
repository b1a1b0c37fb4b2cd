"""The command `brockman`: serve, demo, import, spool.

source -> formats, access_log -> importing     brockman import
spool_view, spool_send -> spool                brockman spool
proof -> demo                                  brockman demo
sending: a client that a command sends through; terminal: progress bar, tables, signals
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

import brockman
from brockman.cli.terminal import exit_status, raise_on_signals
from brockman.exceptions import ConfigurationError

DESCRIPTION = "The FocusLab client: run a collector or a demonstration, send triggers from a file or a spool."


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The arguments. None takes those of the process, which is expected to exit afterwards.

    Returns:
        The exit status: 0 on success, 1 if something is missing, 2 for wrong usage, 128 plus the number of the
        signal that interrupted it (130 for Ctrl-C).
    """
    if argv is None:
        _prepare_output()
    try:
        with raise_on_signals(ignore_after=argv is None):
            status = _run(argv)
            sys.stdout.flush()  # raises here if the pipe is closed, not when the interpreter exits
            return status
    except KeyboardInterrupt as error:
        return exit_status(error)
    except BrokenPipeError:
        # The reader of our output is gone. Python would fail on the same pipe again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _prepare_output() -> None:
    """Have a place for what is printed, and escapes for what its encoding lacks."""
    if sys.stdout is None:  # closed by the caller
        sys.stdout = open(os.open(os.devnull, os.O_WRONLY), "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(argv: Sequence[str] | None) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    if options.run is None:
        parser.print_help()
        return 0
    try:
        status: int = options.run(options)
        return status
    except ConfigurationError as error:
        print(f"brockman {options.command}: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    from brockman.cli import demo, importing, serve, spool  # slow; Ctrl-C is handled by now

    parser = argparse.ArgumentParser("brockman", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"brockman {brockman.__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for module in (serve, demo, importing, spool):
        module.add_parser(commands)
    return parser
