"""The command `brockman`: serve, demo, check, import, export, erase, replay, spool.

conditions: --where, of export and replay
inputs, compression -> source -> formats -> importing     brockman import
occurrences -> ids -> importing                           (ids of lines without one)
spool_view, spool_send -> spool                           brockman spool
requesting -> stored -> export, erase                     brockman export, brockman erase
tables, parquet -> export                                 (formats of brockman export)
conditions -> changes -> replay                           brockman replay
proof -> demo                                             brockman demo
sending: a client that a command sends through; terminal: progress bar, tables, signals; startup: before these
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # not imported, as everything that takes time: `main` handles Ctrl-C
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

DESCRIPTION = "The FocusLab client: run a collector or a demonstration, send triggers from files or a spool."


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The arguments. None takes those of the process, which is expected to exit afterwards.

    Returns:
        The exit status: 0 on success, 1 if something is missing, 2 for wrong usage, 128 plus the number of the
        signal that interrupted it (130 for Ctrl-C).
    """
    try:
        return _run(argv)
    except KeyboardInterrupt:  # before it is handled, or again while it is
        sys.stderr.write("\nbrockman: interrupted\n")
        return 130


def _run(argv: Sequence[str] | None) -> int:
    from brockman.cli.startup import discard_output, prepare_process

    if argv is None:
        prepare_process()
    from brockman.cli.terminal import exit_status, handle_signals
    from brockman.exceptions import ConfigurationError

    name = "brockman"
    try:
        with handle_signals(at_once=argv is None):
            try:
                parser = _parser()
                options = parser.parse_args(argv)
                if options.run is None:
                    parser.print_help()
                    return 0
                name = f"brockman {options.command}"
                status: int = options.run(options)
                return status
            finally:
                sys.stdout.flush()  # raises here if the pipe is closed, not when the interpreter exits
    except ConfigurationError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        return exit_status(error)
    except BrokenPipeError:
        discard_output(sys.stdout)
        return 1
    except OSError as error:  # a full disk, say
        discard_output(sys.stdout)
        print(f"{name}: {error.strerror or error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    import argparse

    import brockman
    from brockman.cli import check, demo, erase, export, importing, replay, serve, spool

    parser = argparse.ArgumentParser("brockman", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"brockman {brockman.__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for module in (serve, demo, check, importing, export, erase, replay, spool):
        module.add_parser(commands)
    return parser
