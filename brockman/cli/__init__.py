"""The command `brockman`: serve, demo, import, spool.

lines -> detect -> ndjson | csv_rows | access_log -> importing     brockman import
scenario -> recording -> proof -> demo                             brockman demo
spool_table, spool_sending -> spool                                brockman spool
progress, table, interrupt, extras, collector_process, unsettled   what they are made of
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import brockman
from brockman.cli.terminal import as_exceptions, exit_status
from brockman.exceptions import ConfigurationError

DESCRIPTION = "The FocusLab client: run a collector, see a demonstration, send triggers from a file or a spool."


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The arguments. None takes those of the process, which ends with this call.

    Returns:
        The exit status: 0 when all went well, 1 when something is missing, 2 when it was called the wrong way,
        128 and the signal's number (130 for Ctrl-C) when it was interrupted.
    """
    try:
        with as_exceptions(to_the_end=argv is None):
            status = _run(argv)
            sys.stdout.flush()  # a pipe that is closed is to be met here, not when the interpreter ends
            return status
    except KeyboardInterrupt as error:
        return exit_status(error)
    except BrokenPipeError:
        # Who read our output has gone. Python would stumble over the same pipe again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


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
    from brockman.cli import demo, importing, serve, spool  # here, where Ctrl-C is met already

    parser = argparse.ArgumentParser("brockman", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"brockman {brockman.__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for module in (serve, demo, importing, spool):
        module.add_parser(commands)
    return parser
