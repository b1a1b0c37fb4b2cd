"""`brockman import`: send the triggers in a file."""

from __future__ import annotations

import argparse
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from brockman.cli.formats import FORMATS, read_lines
from brockman.cli.sending import MAX_SECONDS, Sender, add_options
from brockman.cli.source import BadLine, Source
from brockman.cli.terminal import Row, format_table
from brockman.exceptions import ConfigurationError, InvalidTrigger

DESCRIPTION = """\
Send the triggers in a file. A bad line is reported on stderr with its number and does not stop the import.
While the endpoint is unavailable, nothing is dropped: reading waits until it is back."""
EPILOG = """\
formats (auto decides by the first lines; gzip is decompressed):

  ndjson    One JSON object in each line: actor_id, action, object (or obj), and optionally identities (or
            captured_identities), attributes (or captured_attributes), variables. id and recorded_at are
            ignored: every trigger gets a new id, and the time of the import.
  csv       A header row, then one trigger in each row. Columns: actor_id, action, object (or obj),
            identities.NAME, attributes.NAME, variables.NAME. All values are sent as text; empty cells are left
            out. id and recorded_at are ignored.
  combined  A web server's access log, in combined or common format. The client's address is the actor, the
            method the action, the path without the query the object. Variables: time (ISO 8601), status and
            bytes (numbers; "-" is 0 bytes), and query, referer and user_agent if present. The name of a
            logged-in user is the identity "user".

exit status: 0 all lines were delivered; 1 some were not; 2 wrong usage, or FILE cannot be read; 130 Ctrl-C."""

# Whatever the environment says: memory stays bounded, and every trigger is delivered or reported.
_SETTINGS: dict[str, Any] = {
    "overflow": "block",
    "max_queue_size": 10_000,
    "max_queue_bytes": 32 * 1024 * 1024,
    "on_invalid": "raise",
}


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "import",
        help="send triggers from a file",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="what to read; - is standard input")
    parser.add_argument("--format", choices=["auto", *FORMATS], default="auto", help="default: %(default)s")
    add_options(
        parser,
        timeout_help="give up if the endpoint accepts nothing for SECONDS, or not all at the end (default: wait)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        source = Source(options.file)
    except OSError as error:
        raise ConfigurationError(f"{options.file!r} cannot be read: {error.strerror or error}") from None
    with source:
        job = _Import(options, source)
        status = job.run(total=source.size, unit="B", is_bytes=True)
        print(format_table(job.summary()))
    return status or (0 if job.is_complete else 1)


class _Import(Sender):
    """Reads and records in the main thread; the client's worker sends."""

    def __init__(self, options: argparse.Namespace, source: Source) -> None:
        self._source = source
        self._format: str = options.format
        self._timeout: float | None = options.timeout
        self._bad_lines = 0
        block_timeout = MAX_SECONDS if self._timeout is None else self._timeout
        super().__init__(options, **_SETTINGS, block_timeout=block_timeout)
        self._pending = PendingLines(self._count_settled)

    def send(self) -> None:
        record, pending = self.client.record_trigger, self._pending
        for number, reading in read_lines(self._source, self._format):
            if isinstance(reading, BadLine):
                self._report(number, reading.reason)
                continue
            pending.add(number)
            try:
                if not record(*reading[:6]):
                    self.say(f"line {number}: buffer full for {self._timeout or MAX_SECONDS:g} s; giving up")
                    return
            except InvalidTrigger as error:
                pending.remove_last()
                self._report(number, str(error))
        self.client.flush(self._timeout)

    def look(self) -> tuple[int, str]:
        stats = self.client.stats()
        waiting = stats.queued + stats.in_flight
        text = f"delivered={stats.delivered} waiting={waiting} bad={self._bad_lines} retries={stats.retries}"
        return self._source.position, text

    def summary(self) -> list[Row]:
        stats, first = self.client.stats(), self._pending.first()
        return [
            ("lines read", str(self._source.count), ""),
            ("delivered", str(stats.delivered), "triggers accepted by the server"),
            ("rejected", str(stats.rejected), "by the server"),
            ("bad lines", str(self._bad_lines), "not sent"),
            ("not delivered", str(self._undelivered), "" if first is None else f"from line {first} on"),
            ("seconds", f"{self.seconds:.2f}", ""),
            ("rate", f"{stats.delivered / self.seconds:.0f}", "delivered triggers a second"),
        ]

    @property
    def is_complete(self) -> bool:
        return not (self._bad_lines or self.client.stats().rejected or self._undelivered)

    def rejected_line(self) -> str:
        return f"line {self._pending.last_settled()}: "

    @property
    def _undelivered(self) -> int:
        stats = self.client.stats()
        return stats.queued + stats.in_flight + sum(stats.dropped.values())

    def _count_settled(self) -> int:
        stats = self.client.stats()
        return stats.delivered + stats.rejected

    def _report(self, number: int, reason: str) -> None:
        self._bad_lines += 1
        self.say(f"line {number}: {reason}")


class PendingLines:
    """The line numbers of triggers that are not settled, in the order of recording, in which a client settles too.

    One thread records; the client's worker asks.
    """

    _TRIM_EVERY = 4096  # lines

    def __init__(self, count_settled: Callable[[], int]) -> None:
        self._count_settled = count_settled
        self._lines: deque[int] = deque()
        self._trimmed = 0
        self._lock = threading.Lock()
        self._trim_at = self._TRIM_EVERY

    def add(self, line: int) -> None:
        """Add the line of the next trigger, before it is recorded: it may be settled before that call returns."""
        self._lines.append(line)
        if len(self._lines) >= self._trim_at:
            with self._lock:
                self._trim(self._count_settled())
            self._trim_at = len(self._lines) + self._TRIM_EVERY

    def remove_last(self) -> None:
        self._lines.pop()

    def last_settled(self) -> int:
        """Return the line of the trigger settled last. Only for callbacks of the client."""
        with self._lock:
            self._trim(self._count_settled() - 1)
            return self._lines[0]

    def first(self) -> int | None:
        """Return the line of the oldest trigger that is not settled, or None."""
        with self._lock:
            self._trim(self._count_settled())
            return self._lines[0] if self._lines else None

    def _trim(self, settled: int) -> None:
        for _ in range(min(settled - self._trimmed, len(self._lines))):
            self._lines.popleft()
            self._trimmed += 1
