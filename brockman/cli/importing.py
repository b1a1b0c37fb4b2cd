"""`brockman import`: send the triggers in files."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import closing
from tempfile import gettempdir
from typing import Any

from brockman.cli.arguments import add_command, add_json
from brockman.cli.formats import FORMATS, read_lines
from brockman.cli.formats.fields import check_mapping
from brockman.cli.ids import ContentIds
from brockman.cli.inputs import find_inputs, total_size
from brockman.cli.numbers import MAX_SECONDS
from brockman.cli.sending import Sender, add_options
from brockman.cli.source import BadLine, Source, reason_of
from brockman.cli.terminal import Row, format_table
from brockman.exceptions import ConfigurationError, InvalidTrigger
from brockman.options.fields import printable

DESCRIPTION = """\
Send the triggers in files. Importing a file again changes nothing, also if it has grown or was rotated: each line
has its own id, or one that depends only on what it says. A bad line is reported on stderr with its number and does
not stop the import. While the endpoint is unavailable, nothing is dropped: reading waits until it is back."""
EPILOG = """\
examples:

  brockman import access.log 'logs/access.log.*'
  zcat old.csv.Z | brockman import --format csv -
  brockman import export.ndjson --map time=created --map actor_id=user

files: patterns are expanded, files sorted by name, and rotated logs by age. Each has its own format and header.
gzip, bzip2, xz and Zstandard are decompressed, whatever the name. A file that cannot be read is reported, and the
others are imported.

ids and times: the fields id and recorded_at (or what --map names) are kept, and the time of a line in a log is
that of its trigger. Lines without a time get the time of the import. Lines that say the same are all imported.

formats (auto decides by the first lines):

  ndjson    One JSON object in each line: actor_id, action, object (or obj), and optionally identities (or
            captured_identities), attributes (or captured_attributes), variables.
  csv       A header row, then one trigger in each row. Columns: actor_id, action, object (or obj),
            identities.NAME, attributes.NAME, variables.NAME. All values are sent as text; empty cells are left
            out. Delimiters: comma, semicolon, tab, |, or what a first line such as sep=; says.
  combined  A web server's access log, in combined or common format. The client's address is the actor, the
            method the action, the path without the query the object. Variables: time (ISO 8601), status and
            bytes (numbers; "-" is 0 bytes), and query, referer and user_agent if present. The name of a
            logged-in user is the identity "user". Also with a virtual host first, a list of proxies, a prefix of
            syslog, journald or a container.
  jsonlog   An access log in JSON, with the usual names of nginx, Apache, Caddy and Traefik.

exit status: 0 all lines were delivered; 1 some were not, or a file among several could not be read; 2 wrong usage,
or the only FILE cannot be read; 130 Ctrl-C."""

# Whatever the environment says: memory stays bounded, and every trigger is delivered or reported.
_SETTINGS: dict[str, Any] = {
    "overflow": "block",
    "max_queue_size": 10_000,
    "max_queue_bytes": 32 * 1024 * 1024,
    "max_batch_bytes": 2 * 1024 * 1024,
    "on_invalid": "raise",
}
_ALIASES = {"recorded_at": "time", "obj": "object"}
_MAX_REASONS, _MAX_REASON_LENGTH = 3, 100  # in the table


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands, "import", run, help="send triggers from files", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="what to read; a pattern such as 'logs/*.gz'; - is standard input"
    )
    parser.add_argument("--format", choices=["auto", *FORMATS], default="auto", help="default: %(default)s")
    parser.add_argument(
        "--map",
        action="append",
        type=_mapped,
        default=[],
        metavar="FIELD=NAME",
        help="the name of a field in the files, such as time=created; can be repeated",
    )
    add_json(parser)
    add_options(
        parser,
        timeout_help="give up if the endpoint accepts nothing for SECONDS, or not all at the end (default: wait)",
    )


def _mapped(text: str) -> tuple[str, str]:
    field, _, name = (part.strip() for part in text.partition("="))
    return _ALIASES.get(field, field), name


def run(options: argparse.Namespace) -> int:
    mapping = dict(options.map)
    if len(mapping) < len(options.map):
        given = ", ".join(f"{field}={printable(name)}" for field, name in options.map)
        raise ConfigurationError(f"--map is {given}; it should name each field once")
    check_mapping(mapping)
    paths, again = find_inputs(options.files)
    job = _Import(options, paths, mapping)
    for line in again:
        print(f"brockman import: {line}", file=sys.stderr)
    status = job.run(total=total_size(paths), unit="B", is_bytes=True)
    print(json.dumps(job.numbers()) if options.json else format_table(job.summary()))
    return status or (0 if job.is_complete else 1)


class _Import(Sender):
    """Reads and records in the main thread; the client's worker sends."""

    def __init__(self, options: argparse.Namespace, paths: list[str], mapping: dict[str, str]) -> None:
        self._paths, self._mapping = paths, mapping
        self._format: str = options.format
        self._timeout: float | None = options.timeout
        self._finished = (0, 0)  # lines and bytes of the files before
        self._source: Source | None = None
        self._bad_lines = self._unread = 0
        self._gave_up = False
        self._reasons: dict[str, None] = {}  # in order
        block_timeout = MAX_SECONDS if self._timeout is None else self._timeout
        super().__init__(options, **_SETTINGS, block_timeout=block_timeout)
        self._pending = PendingLines(self._count_settled)

    def send(self) -> None:
        with closing(ContentIds()) as ids:
            for path in self._paths:
                try:
                    if not self._send_file(path, ids):
                        self._gave_up = True
                        return
                except ConfigurationError as error:
                    if len(self._paths) == 1:
                        raise
                    self._unread += 1
                    self.fail(str(error))
        self.client.flush(self._timeout)

    def _send_file(self, path: str, ids: ContentIds) -> bool:
        """Return False to give up."""
        try:
            source = Source(path)
        except (OSError, ValueError) as error:  # a ValueError for a NUL in the name
            raise ConfigurationError(f"{path!r} cannot be read: {reason_of(error)}") from None
        with source:
            self._source = source
            try:
                return self._record_all(source, path, ids)
            except ConfigurationError as error:  # about its format
                raise ConfigurationError(f"{path!r}: {error}" if len(self._paths) > 1 else str(error)) from None
            finally:
                self._finished, self._source = self._progress(), None

    def _record_all(self, source: Source, path: str, ids: ContentIds) -> bool:
        record, pending, stamp = self.client.record_trigger, self._pending, ids.stamp
        file = f"{printable(path)}: " if len(self._paths) > 1 else ""
        for number, reading in read_lines(source, self._format, self._mapping, warn=self.say):
            if isinstance(reading, BadLine):
                self._report(f"{file}line {number}", reading.reason)
                continue
            pending.add((file, number))
            try:
                trigger_id, at = stamp(reading)
                if not record(*reading[:6], at=at, trigger_id=trigger_id):
                    limit = self._timeout or MAX_SECONDS
                    self.fail(f"{file}line {number}: buffer full for {limit:g} s; giving up")
                    return False
            except (InvalidTrigger, RecursionError) as error:
                pending.remove_last()
                self._report(f"{file}line {number}", str(error))
            except OSError as error:
                pending.remove_last()
                self.fail(f"{file}line {number}: cannot write to {gettempdir()}: {reason_of(error)}; giving up")
                return False
        return True

    def _progress(self) -> tuple[int, int]:
        """Return how many lines and bytes were read."""
        (lines, size), source = self._finished, self._source
        return (lines, size) if source is None else (lines + source.count, size + source.position)

    def look(self) -> tuple[int, str]:
        stats = self.client.stats()
        waiting = stats.queued + stats.in_flight
        text = f"delivered={stats.delivered} waiting={waiting} bad={self._bad_lines} retries={stats.retries}"
        return self._progress()[1], text

    def numbers(self) -> dict[str, Any]:
        """Return the counts of the summary; `repeated` is None if the server does not say, `new` has them then."""
        stats, first = self.client.stats(), self._pending.first()
        return {
            "files": len(self._paths),
            "unread_files": self._unread,
            "lines": self._progress()[0],
            "new": stats.delivered - (stats.repeated or 0),
            "repeated": stats.repeated if stats.delivered else 0,
            "refused": stats.rejected,
            "reasons": [*self._reasons],
            "bad_lines": self._bad_lines,
            "not_delivered": self._undelivered,
            "first_not_delivered": None if first is None else _name(first),
            "seconds": round(self.seconds, 3),
        }

    def summary(self) -> list[Row]:
        found = self.numbers()
        if found["repeated"] is None:
            new, repeated = ("accepted by the server, repeated or not",), ("unknown", "the server does not say")
        else:
            new, repeated = ("accepted by the server",), (str(found["repeated"]), "the server had them already")
        first, unread = found["first_not_delivered"], found["unread_files"]
        rows: list[Row] = [
            ("lines read", str(found["lines"]), ""),
            ("new", str(found["new"]), *new),
            ("repeated", *repeated),
            ("refused", str(found["refused"]), "; ".join(found["reasons"]) or "by the server"),
            ("bad lines", str(found["bad_lines"]), "not sent"),
            ("not delivered", str(found["not_delivered"]), "" if first is None else f"from {first} on"),
            ("seconds", f"{self.seconds:.2f}", ""),
            ("rate", f"{self.client.stats().delivered / self.seconds:.0f}", "triggers a second"),
        ]
        if found["files"] > 1:
            rows.insert(0, ("files", str(found["files"]), f"{unread} of them not read" if unread else ""))
        return rows

    @property
    def is_complete(self) -> bool:
        return not (
            self._gave_up or self._bad_lines or self._unread or self.client.stats().rejected or self._undelivered
        )

    def rejected_line(self) -> str:
        return f"{_name(self._pending.last_settled())}: "

    @property
    def _undelivered(self) -> int:
        stats = self.client.stats()
        return stats.queued + stats.in_flight + sum(stats.dropped.values())

    def _count_settled(self) -> int:
        stats = self.client.stats()
        return stats.delivered + stats.rejected

    def _report(self, place: str, reason: str) -> None:
        self._bad_lines += 1
        self.say(f"{place}: {reason}")

    def _on_error(self, error: Exception, bodies: tuple[bytes, ...]) -> None:
        if bodies and len(self._reasons) < _MAX_REASONS:
            self._reasons[printable(str(error))[:_MAX_REASON_LENGTH]] = None
        super()._on_error(error, bodies)


Place = tuple[str, int]  # the file as a prefix, and the number of the line


def _name(place: Place) -> str:
    return f"{place[0]}line {place[1]}"


class PendingLines:
    """The line numbers of triggers that are not settled, in the order of recording, in which a client settles too.

    One thread records; the client's worker asks.
    """

    _TRIM_EVERY = 4096  # lines

    def __init__(self, count_settled: Callable[[], int]) -> None:
        self._count_settled = count_settled
        self._lines: deque[Place] = deque()
        self._trimmed = 0
        self._lock = threading.Lock()
        self._trim_at = self._TRIM_EVERY

    def add(self, line: Place) -> None:
        """Add the line of the next trigger, before it is recorded: it may be settled before that call returns."""
        self._lines.append(line)
        if len(self._lines) >= self._trim_at:
            with self._lock:
                self._trim(self._count_settled())
            self._trim_at = len(self._lines) + self._TRIM_EVERY

    def remove_last(self) -> None:
        self._lines.pop()

    def last_settled(self) -> Place:
        """Return the line of the trigger settled last. Only for callbacks of the client."""
        with self._lock:
            self._trim(self._count_settled() - 1)
            return self._lines[0]

    def first(self) -> Place | None:
        """Return the line of the oldest trigger that is not settled, or None."""
        with self._lock:
            self._trim(self._count_settled())
            return self._lines[0] if self._lines else None

    def _trim(self, settled: int) -> None:
        for _ in range(min(settled - self._trimmed, len(self._lines))):
            self._lines.popleft()
            self._trimmed += 1
