"""`brockman serve`: a small FocusLab on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from typing import Any

_NEEDED = ("starlette", "uvicorn", "httptools")


def has_collector(command: str) -> bool:
    """Return whether the collector can run; if not, say on stderr what to install."""
    if all(find_spec(name) is not None for name in _NEEDED):
        return True
    print(f"brockman {command} needs the collector: pip install 'brockman[collector]'", file=sys.stderr)
    return False


DESCRIPTION = """\
Run a collector: it takes triggers over HTTP, as the FocusLab API does, and keeps them in a SQLite file.
Ctrl-C ends it."""
EPILOG = """\
Send to it:

  export FL_ENDPOINT=http://127.0.0.1:8765/api/v1/ FL_API_KEY=<the key; any one, if none was given>
  brockman import access.log

Read back: curl -H "X-FL-API-KEY: $FL_API_KEY" "${FL_ENDPOINT}trigger/?limit=10" """


def add_parser(commands: Any) -> None:
    """Add `serve` to the commands."""
    parser = commands.add_parser(
        "serve",
        help="run a collector on this machine",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8765, help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--database",
        default="focuslab.sqlite3",
        metavar="FILE",
        help="SQLite file, made when it is not there (default: %(default)s in the current folder)",
    )
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        help="what clients must send; better in FL_API_KEY, where other users of the machine cannot see it",
    )
    parser.add_argument("--outage-after", type=int, metavar="N", help="rehearse an outage after N triggers")
    parser.add_argument(
        "--outage-for", type=float, default=1.0, metavar="S", help="seconds it lasts (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the collector until a signal ends it."""
    if not has_collector("serve"):
        return 2
    from brockman.collector.errors import InvalidSetting
    from brockman.collector.server import serve

    api_key = options.api_key or os.environ.get("FL_API_KEY") or None
    try:
        serve(
            host=options.host,
            port=options.port,
            database=options.database,
            api_key=api_key,
            outage_after=options.outage_after,
            outage_for=options.outage_for,
            on_ready=lambda endpoint: _announce(endpoint, options.database, keyed=api_key is not None),
        )
    except InvalidSetting as error:
        print(f"brockman serve: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        reason = error.strerror or error
        print(f"brockman serve: cannot listen on {options.host} port {options.port}: {reason}", file=sys.stderr)
        return 1
    return 0


def _announce(endpoint: str, database: str, *, keyed: bool) -> None:
    print(f"listening on {endpoint}")
    print(f"database     {os.path.abspath(database)}")
    print(
        "key          " + ("the one that was given" if keyed else "none was given: any key is taken"), flush=True
    )
