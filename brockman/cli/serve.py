"""`brockman serve`: run the collector."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brockman.cli.arguments import add_command, add_json
from brockman.cli.numbers import byte_size, duration, whole_number
from brockman.cli.startup import discard_output
from brockman.options.fields import show

if TYPE_CHECKING:
    from brockman.collector.settings import Settings

_DEFAULT_STORE = "focuslab.sqlite3"
_M_MMAP_THRESHOLD, _LARGE_BLOCK = -3, 1024 * 1024  # bytes
_REQUIRED = ("starlette", "uvicorn", "httptools")
DESCRIPTION = """\
Run a collector: it accepts triggers over HTTP, as the FocusLab API does, and stores them in a SQLite file
or in PostgreSQL. Ctrl-C stops it."""
EPILOG = """\
examples:

  brockman serve
  brockman serve --port 0 --store triggers.sqlite3 --json
  brockman serve --store postgresql://focuslab@db.internal/focuslab --host 0.0.0.0 --keep 90d --max-bytes 10GB
  brockman serve --fail 503:0.1 --delay 200ms

Send to it, and read back:

  export FL_ENDPOINT=http://127.0.0.1:8765/api/v1/ FL_API_KEY=<the key; any, if the collector has none>
  brockman record ada viewed page
  brockman tail

exit status: 0 it was stopped, by Ctrl-C too; 1 it cannot listen, or not say where; 2 wrong usage."""


def has_collector(command: str) -> bool:
    """Return whether the extra is installed; if not, print how to install it."""
    if all(find_spec(name) is not None for name in _REQUIRED):
        return True
    print(f"brockman {command} needs the collector: pip install 'brockman[collector]'", file=sys.stderr)
    return False


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands, "serve", run, help="run a collector on this machine", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=whole_number(), default=8765, help="0 chooses a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--store",
        "--database",
        metavar="FILE|URL",
        help="a SQLite file, created if it does not exist, or postgresql://user@host:port/database "
        f"(default: FL_STORE in the environment, or {_DEFAULT_STORE} in the current directory); a password is "
        "better in FL_STORE, PGPASSWORD or ~/.pgpass",
    )
    add_json(parser, "print where it listens as a line of JSON")
    _add_key_options(parser)
    _add_log_options(parser)
    _add_page_options(parser)
    _add_people_options(parser)
    _add_retention_options(parser)
    _add_rehearsal_options(parser)


def _add_key_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--api-key",
        action="append",
        default=[],
        metavar="KEY",
        help="the key clients must send; better in FL_API_KEY, where other users of the machine cannot see it."
        " May be repeated: each is valid",
    )
    parser.add_argument(
        "--key-file",
        type=_read_keys,
        default=[],
        metavar="FILE",
        help="more such keys, one in a line; those of --api-key or FL_API_KEY stay valid",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="accept this name in the header Host, as a proxy may pass it on. May be repeated. On loopback no"
        " other name is accepted; elsewhere every one, unless this is given",
    )


def _add_log_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--access-log",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write a line of JSON for each request, to standard error or a file; without keys and the values of"
        " parameters",
    )


def _add_page_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--write-key",
        action="append",
        default=[],
        metavar="KEY",
        help="one more key, which may record and read nothing: for web pages. May be repeated",
    )
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="accept triggers from the web pages of this origin, such as https://shop.example; * means any. May be"
        " repeated",
    )


def _add_people_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-joined",
        type=whole_number(1),
        default=200,
        metavar="N",
        help="an identity that more actor ids carry joins nobody (default: %(default)s)",
    )


def _add_retention_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep", type=duration, metavar="TIME", help="remove triggers this long after they arrived: 12h, 90d, 12w"
    )
    parser.add_argument(
        "--max-bytes",
        type=byte_size,
        metavar="SIZE",
        help="remove the oldest triggers when the store has more data than this: 500MB, 10GB",
    )
    parser.add_argument(
        "--max-refused",
        type=whole_number(0),
        default=10_000,
        metavar="N",
        help="how many refused triggers are kept, up to 64 MiB; the oldest leave first (default: %(default)s)",
    )


def _add_rehearsal_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("rehearsal", "trouble on purpose, to see what your application does")
    group.add_argument(
        "--fail",
        type=_failure,
        action="append",
        default=[],
        metavar="STATUS:SHARE",
        help="answer this share of the requests with a status: 503:0.1. May be repeated",
    )
    group.add_argument(
        "--delay",
        type=duration,
        default=0.0,
        metavar="TIME",
        help="handle each request this much later: 200ms, 2s",
    )
    group.add_argument(
        "--outage-after", type=whole_number(), metavar="N", help="an outage, once, after N triggers"
    )
    group.add_argument("--outage-for", type=duration, default=1.0, metavar="TIME", help="its length (default: 1s)")


def _read_keys(path: str) -> list[str]:
    """Return the keys in the lines of a file; blank lines and those that begin with # have none."""
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{show(path)} cannot be read: {error}") from None
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise argparse.ArgumentTypeError(f"{show(path)} has no key; give one in each line")
    return keys


def _failure(text: str) -> tuple[int, float]:
    status, _, share = text.partition(":")
    try:
        return int(status), float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{show(text)} should be a status and a share, such as 503:0.1") from None


def run(options: argparse.Namespace) -> int:
    if not has_collector("serve"):
        return 2
    from brockman.collector.errors import InvalidSetting
    from brockman.collector.server import serve
    from brockman.collector.store.location import without_password

    is_listening = False

    def announce(endpoint: str) -> None:
        nonlocal is_listening
        is_listening = True
        page, database, has_key = endpoint.removesuffix("api/v1/"), without_password(store), bool(settings.keys)
        if options.json:
            found = {"endpoint": endpoint, "page": page, "database": database, "key_required": has_key}
            print(json.dumps(found), flush=True)
            return
        print(f"listening on {endpoint}")
        print(f"page         {page}")
        print(f"database     {database}")
        print(f"key          {'required' if has_key else 'not checked'}", flush=True)

    store = _choose_store(options)
    _free_large_blocks()
    try:
        settings = _read_settings(options, store)
        serve(settings, on_ready=announce)
    except InvalidSetting as error:
        print(f"brockman serve: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        what = "write to standard output" if is_listening else f"listen on {options.host} port {options.port}"
        print(f"brockman serve: cannot {what}: {error.strerror or error}", file=sys.stderr)
        if is_listening:
            discard_output(sys.stdout)
        return 1
    return 0


def _free_large_blocks() -> None:
    """Let the C library return a large block to the system as soon as it is freed.

    glibc keeps blocks of up to 32 MiB after the first one was freed, in each thread's memory: bodies and pages of
    all sizes then take several times what they have.
    """
    import ctypes  # takes a while

    with suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def _read_settings(options: argparse.Namespace, store: str) -> Settings:
    from brockman.collector.errors import InvalidSetting
    from brockman.collector.settings import Settings

    api_keys = options.api_key or [os.environ.get("FL_API_KEY") or ""]
    api_keys = [key.strip() for key in api_keys if key or options.api_key]
    failures = dict(options.fail)
    if len(failures) < len(options.fail):
        raise InvalidSetting("--fail: a status is given twice; give it once, with its whole share")
    return Settings(
        host=options.host,
        port=options.port,
        database=store,
        api_keys=[*api_keys, *options.key_file],
        write_keys=options.write_key,
        allowed_hosts=options.allow_host,
        allowed_origins=options.allow_origin,
        max_actors_per_identity=options.max_joined,
        outage_after=options.outage_after,
        outage_for=options.outage_for,
        failures=failures,
        delay=options.delay,
        keep=options.keep,
        max_bytes=options.max_bytes,
        access_log=options.access_log,
        max_refused=options.max_refused,
    )


def _choose_store(options: argparse.Namespace) -> str:
    """Return a path or a URL.

    Other users of the machine can read the arguments: if they have a password, this process starts anew, with the
    URL in the environment.
    """
    from brockman.collector.store.location import has_password

    store: str = options.store or os.environ.get("FL_STORE") or _DEFAULT_STORE
    if has_password(store) and any(store in argument for argument in sys.orig_argv):
        arguments = [argument.replace(store, "") for argument in sys.orig_argv]
        os.execve(sys.executable, arguments, {**os.environ, "FL_STORE": store})
    return store
