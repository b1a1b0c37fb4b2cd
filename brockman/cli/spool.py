"""`brockman spool`: show, list, send or clean up what waits on disk."""

from __future__ import annotations

import argparse
from typing import Any

from brockman.cli.arguments import add_command, add_json
from brockman.cli.sending import add_options
from brockman.exceptions import ConfigurationError

DESCRIPTION = """\
Show what waits in a spool, the directory named by spool_dir (FL_SPOOL_DIR). Without options: a table of the
processes that left triggers there. Safe while other processes use the spool."""
EPILOG = """\
examples:

  brockman spool /var/lib/shop/focuslab
  brockman spool /var/lib/shop/focuslab --list > waiting.ndjson
  brockman spool /var/lib/shop/focuslab --send --timeout 60 --json

the table:

  owner     alive: a running process holds the directory, and delivers its triggers.
            gone: the next process that uses this spool adopts it, and so does --send.
            -: it is never adopted; the last lines say why.
  triggers  not settled yet, counted by the headers of their frames, damaged ones included.
  oldest    when the oldest of them was recorded, and how long ago.
  damaged   what could not be read, kept in DIR/damaged for inspection.

--send delivers what has no owner, on the machine where it was recorded, or from a copy of the directory on another
one (cp -a; a copy has no owners). Triggers keep their ids: the server drops those sent before as
duplicates.

exit status: 0 the table is shown, the list complete, the spool delivered; 1 something is left, was rejected or
damaged, or is missing from the list; 2 wrong usage, or DIR is not a spool or cannot be read; 130 Ctrl-C."""

_FOR_SENDING = ("endpoint", "api_key", "timeout")


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "spool",
        run,
        help="show, list or send what waits on disk",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("dir", metavar="DIR", help="directory of the spool; never created")
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--list", action="store_true", help="print every waiting trigger, as NDJSON")
    actions.add_argument("--send", action="store_true", help="deliver what has no owner")
    actions.add_argument("--drop-damaged", action="store_true", help="remove what is kept in DIR/damaged")
    add_json(parser, "print the table, or the numbers, as JSON; --list prints NDJSON always")
    add_options(
        parser.add_argument_group("with --send"),
        timeout_help="give up after this long (default: wait until all is delivered)",
    )


def run(options: argparse.Namespace) -> int:
    given = [name for name in _FOR_SENDING if getattr(options, name) is not None]
    if given and not options.send:
        raise ConfigurationError(f"--{given[0].replace('_', '-')} goes with --send")
    try:
        from brockman.cli import spool_send, spool_view  # here: they need POSIX
    except ImportError:
        raise ConfigurationError("spools are not supported on this system") from None

    if options.send:
        return spool_send.send(options)
    if options.list:
        return spool_view.list_triggers(options.dir)
    if options.drop_damaged:
        return spool_view.drop_damaged(options.dir, as_json=options.json)
    return spool_view.show(options.dir, as_json=options.json)
