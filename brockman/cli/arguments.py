"""The help with examples, and the options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from brockman.cli.numbers import MAX_SECONDS, number
from brockman.options.secret import hide


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], *, help: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    """Add a command, and return its parser. The epilog begins with examples, one on a line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_json(parser: Any, what: str = "print the summary as JSON") -> None:
    parser.add_argument("--json", action="store_true", help=what)


def add_where(parser: Any, what: str) -> None:
    """Add `--where`, for `Conditions`."""
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help=f"{what}, such as action=paid or attributes.plan=pro; FIELD~=PART for a part of it. May be repeated:"
        " each must match",
    )


def add_endpoint(parser: Any, *, endpoint: str, key: str = "the key of the project") -> None:
    """Add `--endpoint` and `--api-key`, whose values show in no message."""
    parser.add_argument("--endpoint", type=hide, metavar="URL", help=endpoint)
    parser.add_argument("--api-key", type=hide, metavar="KEY", help=f"{key} (default, and better: FL_API_KEY)")


def add_timeout(parser: Any, help: str, *, default: float | None = None) -> None:
    parser.add_argument("--timeout", type=number(0, MAX_SECONDS), default=default, metavar="SECONDS", help=help)
