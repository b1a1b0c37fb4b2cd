"""`brockman spool`: what waits on disk, and what to do about it."""

from __future__ import annotations

import argparse
from typing import Any

from brockman.exceptions import ConfigurationError

DESCRIPTION = """\
Show what waits in a spool, the folder that spool_dir (FL_SPOOL_DIR) names. Without options: a table of the
processes that have left something there. Safe beside processes that are at work in it."""
EPILOG = """\
the table:

  owner     alive: a process holds the folder, and delivers what is in it.
            gone: the next process that uses this spool takes it over, and so does --send.
            -: nobody will; the last lines say why.
  triggers  not settled yet, counted by the starts of their frames; torn ones among them.
  oldest    when the oldest of them was recorded, and how long ago.
  damaged   what could not be read, kept in DIR/damaged for a person.

--send delivers what has no owner, on the machine where it was recorded, or from a copy of the folder on another
one (cp -a; the copy has no owners). Triggers keep their ids: what was sent already is a duplicate to the server.

exit status: 0 the table is shown, the list complete, the spool delivered; 1 something is left, was rejected or
damaged, or is left out of the list; 2 wrong usage, or DIR is no spool or cannot be read; 130 Ctrl-C."""

_LONGEST = 1_000_000.0  # seconds
_FOR_SENDING = ("endpoint", "api_key", "timeout")


def add_parser(commands: Any) -> None:
    """Add `spool` to the commands."""
    parser = commands.add_parser(
        "spool",
        help="show, list or send what waits on disk",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dir", metavar="DIR", help="the spool's folder; it is not made when it is not there")
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--list", action="store_true", help="print every trigger that waits, as NDJSON")
    actions.add_argument("--send", action="store_true", help="deliver what has no owner")
    actions.add_argument("--drop-damaged", action="store_true", help="remove what is kept in DIR/damaged")
    sending = parser.add_argument_group("with --send")
    sending.add_argument("--endpoint", metavar="URL", help="where to send (default: FL_ENDPOINT, or the API's)")
    sending.add_argument(
        "--api-key", metavar="KEY", help="the key of the project (default, and better: FL_API_KEY)"
    )
    sending.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="give up after so long (default: wait until all is delivered)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show, list, send or remove."""
    given = [name for name in _FOR_SENDING if getattr(options, name) is not None]
    if given and not options.send:
        raise ConfigurationError(f"--{given[0].replace('_', '-')} goes with --send")
    try:
        from brockman.cli import (
            spool_send,  # here: a spool is for POSIX
            spool_view,  # here: a spool is for POSIX
        )
    except ImportError:
        raise ConfigurationError("there are no spools on this system") from None

    if options.send:
        return spool_send.send(options)
    if options.list:
        return spool_view.list_triggers(options.dir)
    if options.drop_damaged:
        return spool_view.drop_damaged(options.dir)
    return spool_view.show(options.dir)


def _seconds(text: str) -> float:
    seconds = float(text)  # argparse reports a ValueError
    if not 0 <= seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{text} should be a number from 0 to {_LONGEST:.0f}")
    return seconds
