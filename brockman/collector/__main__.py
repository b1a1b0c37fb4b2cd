"""`python -m brockman.collector`: run the collector from a shell. The key may come from FL_API_KEY."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from brockman.collector.errors import InvalidSetting
from brockman.collector.server import DEFAULT_PORT, serve


def main(argv: Sequence[str] | None = None) -> int:
    """Run the collector until it is told to end.

    Args:
        argv: The arguments. None takes those of the process.

    Returns:
        The exit status: 0 after a signal, 1 when the address is taken, 2 for a wrong setting.
    """
    options = _parser().parse_args(argv)
    try:
        serve(
            host=options.host,
            port=options.port,
            database=options.database,
            api_key=options.api_key or os.environ.get("FL_API_KEY") or None,
            outage_after=options.outage_after,
            outage_for=options.outage_for,
            on_ready=lambda endpoint: print(f"listening on {endpoint}", flush=True),
        )
    except InvalidSetting as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"cannot listen on {options.host} port {options.port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m brockman.collector", description="A small FocusLab on this machine."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--database", required=True, metavar="FILE", help="SQLite file; made when it is not there")
    parser.add_argument("--api-key", metavar="KEY", help="what clients must send; better in FL_API_KEY, out of ps")
    parser.add_argument(
        "--outage-after", type=int, metavar="N", help="rehearse an outage after this many triggers"
    )
    parser.add_argument("--outage-for", type=float, default=0.0, metavar="S", help="seconds that the outage lasts")
    return parser


if __name__ == "__main__":
    sys.exit(main())
