"""The command `brockman`: serve, demo, check, record, import, export, tail, erase, replay, spool.

arguments: what several commands have on their command lines; conditions, values: --where, --set, --variable
inputs, compression -> source -> formats -> importing     brockman import
occurrences -> ids -> importing                           (ids of lines without one)
spool_view, spool_send -> spool                           brockman spool
requesting -> stored -> export, erase                     brockman export, brockman erase
tables, parquet -> export                                 (formats of brockman export)
requesting -> refusals -> export, replay, tail            (the refused triggers)
changes -> replay                                         brockman replay
lines -> tail                                             brockman tail
proof -> demo                                             brockman demo
sending: a client that a command sends through; terminal: progress bar, tables, signals; startup: before these
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # not imported, as everything that takes time: `main` handles Ctrl-C
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

DESCRIPTION = "The FocusLab client: run a collector, send triggers, and read what a collector has."
EPILOG = """\
examples:

  brockman serve
  brockman record ada viewed page --variable title=Pricing
  brockman check
  brockman tail
  brockman import --help"""


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
    from brockman.cli.failure import CommandFailed
    from brockman.cli.terminal import exit_status, handle_signals, say_interrupted
    from brockman.exceptions import ConfigurationError

    name = "brockman"
    try:
        with handle_signals(at_once=argv is None):
            try:
                options = _parse(argv)
                name = options.parser.prog
                status: int = options.run(options)
                return status
            finally:
                sys.stdout.flush()  # raises here if the pipe is closed, not when the interpreter exits
    except ConfigurationError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except CommandFailed as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        say_interrupted(name, error)
        return exit_status(error)
    except BrokenPipeError:
        discard_output(sys.stdout)
        return 1
    except OSError as error:  # a full disk, say
        discard_output(sys.stdout)
        print(f"{name}: {error.strerror or error}", file=sys.stderr)
        return 1


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    options, unknown = new_parser().parse_known_args(argv)
    if unknown:  # the parser of the command names it, and shows its usage
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return options


def _print_help(options: argparse.Namespace) -> int:
    options.parser.print_help()
    return 0


def new_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; `run` of what it parses is the function of the command."""
    import argparse

    import brockman
    from brockman.cli import check, demo, erase, export, importing, record, replay, serve, spool, tail

    parser = argparse.ArgumentParser(
        "brockman",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"brockman {brockman.__version__}")
    parser.set_defaults(run=_print_help, parser=parser)
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for module in (serve, demo, check, record, importing, export, tail, erase, replay, spool):
        module.add_parser(commands)
    return parser
