"""`brockman import`: send what a file holds."""

from __future__ import annotations

import argparse
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from brockman.cli.formats import FORMATS, read_lines
from brockman.cli.source import BadLine, Reading, Source, printable, shown
from brockman.cli.terminal import Progress, Row, exit_status, format_table, ignore_signals
from brockman.client import FocusLabClient
from brockman.exceptions import ConfigurationError, InvalidTrigger
from brockman.process.clock import monotonic

_SLACK = 4096  # how many settled ones may stay remembered


class PendingLines:
    """Line numbers in the order of recording, which is the order in which one client settles.

    One thread records; the flusher's thread asks.
    """

    def __init__(self, count_settled: Callable[[], int]) -> None:
        """Begin with none.

        Args:
            count_settled: Returns how many triggers are settled so far.
        """
        self._count_settled = count_settled
        self._lines: deque[int] = deque()
        self._forgotten = 0  # how many were taken off the left end
        self._lock = threading.Lock()
        self._next_look = _SLACK

    def add(self, line: int) -> None:
        """Remember the line of the trigger that is recorded next: it may be settled before that call is back."""
        self._lines.append(line)
        if len(self._lines) >= self._next_look:
            with self._lock:
                self._forget(self._count_settled())
            self._next_look = len(self._lines) + _SLACK

    def take_back(self) -> None:
        """Forget the last line: it was not recorded after all."""
        self._lines.pop()

    def just_settled(self) -> int:
        """Return the line of the trigger that was settled last. From the client's own callbacks only."""
        with self._lock:
            self._forget(self._count_settled() - 1)
            return self._lines[0]

    def first(self) -> int | None:
        """Return the line of the oldest trigger that is not settled, or None when there is none."""
        with self._lock:
            self._forget(self._count_settled())
            return self._lines[0] if self._lines else None

    def _forget(self, settled: int) -> None:
        for _ in range(min(settled - self._forgotten, len(self._lines))):
            self._lines.popleft()
            self._forgotten += 1


DESCRIPTION = """\
Send what a file holds as triggers. A bad line is reported on stderr with its number and does not stop the rest.
While the endpoint is away, nothing is dropped: reading waits until it is back."""
EPILOG = """\
formats (auto looks at the first lines; a file compressed with gzip is read as it is):

  ndjson    One JSON object on each line: actor_id, action, object (or obj), and, where there are any,
            identities (or captured_identities), attributes (or captured_attributes), variables.
            id and recorded_at are ignored: every trigger gets a new id, and the time of the import.
  csv       A header row, then one trigger in each row. Columns: actor_id, action, object (or obj),
            identities.NAME, attributes.NAME, variables.NAME. Text stays text, numbers too; an empty cell is
            left out. id and recorded_at are ignored.
  combined  A web server's access log, in combined or common format. The client's address is the actor, the
            method the action, the path without the query the object. Variables: time (ISO 8601), status and
            bytes (numbers, 0 bytes for "-"), and where they are there query, referer and user_agent. The
            name of a user who has logged in is the identity "user".

exit status: 0 all lines were delivered; 1 some were not; 2 wrong usage, or nothing to read; 130 Ctrl-C."""

_FOREVER = 1_000_000.0  # seconds: the most that `block_timeout` may be, more than eleven days
_LAST_CHANCE = 1.0  # seconds for what still waits, when it is time to go
# Whatever the environment says: memory stays bounded, and every trigger is delivered or told of.
_SETTINGS: dict[str, Any] = {
    "overflow": "block",
    "max_queue_size": 10_000,
    "max_queue_bytes": 32 * 1024 * 1024,
    "on_invalid": "raise",
}


def add_parser(commands: Any) -> None:
    """Add `import` to the commands."""
    parser = commands.add_parser(
        "import",
        help="send triggers from a file",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="what to read; - is standard input")
    parser.add_argument("--endpoint", metavar="URL", help="where to send (default: FL_ENDPOINT, or the API's own)")
    parser.add_argument(
        "--api-key", metavar="KEY", help="the key of the project (default, and better: FL_API_KEY)"
    )
    parser.add_argument("--format", choices=["auto", *FORMATS], default="auto", help="default: %(default)s")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="give up when the endpoint takes nothing for so long, or not all at the end (default: wait)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Send a file."""
    try:
        source = Source(options.file)
    except OSError as error:
        raise ConfigurationError(f"{options.file!r} cannot be read: {error.strerror or error}") from None
    with source:
        job = _Import(options, source)
        started = monotonic()
        interrupted = None
        with Progress(job.look, total=source.size, unit="B", is_bytes=True) as progress:
            job.say = progress.say
            try:
                job.send(read_lines(source, options.format))
            except KeyboardInterrupt as error:
                interrupted = error
            finally:
                ignore_signals()
                job.client.close(_LAST_CHANCE)
        print(format_table(job.summary(monotonic() - started)))
    if interrupted is not None:
        return exit_status(interrupted)
    return 0 if job.is_complete else 1


class _Import:
    """Reads and records in the main thread; the client's own thread sends."""

    def __init__(self, options: argparse.Namespace, source: Source) -> None:
        self._source = source
        self._timeout: float | None = options.timeout
        self._bad_lines = 0
        given: dict[str, Any] = {name: getattr(options, name) for name in ("endpoint", "api_key")}
        self.client = FocusLabClient(
            **{name: value for name, value in given.items() if value is not None},
            **_SETTINGS,
            block_timeout=_FOREVER if self._timeout is None else self._timeout,
            on_error=self._on_error,
        )
        if not self.client.options.enabled:
            raise ConfigurationError("enabled is off (FL_ENABLED): nothing would be sent")
        self._unsettled = PendingLines(self._count_settled)
        self.say: Callable[[str], None] = print

    def send(self, readings: Iterator[Reading]) -> None:
        """Record everything, then wait until it is settled, or until it is time to give up."""
        record, unsettled = self.client.record_trigger, self._unsettled
        for number, reading in readings:
            if isinstance(reading, BadLine):
                self._report(number, reading.reason)
                continue
            unsettled.add(number)
            try:
                if not record(*reading):
                    self.say(f"line {number}: no room since {self._timeout or _FOREVER:g} s; giving up")
                    return
            except InvalidTrigger as error:
                unsettled.take_back()
                self._report(number, str(error))
        self.client.flush(self._timeout)

    def look(self) -> tuple[int, str]:
        """Return how many bytes are read, and what became of the triggers in them."""
        stats = self.client.stats()
        waiting = stats.queued + stats.in_flight
        remark = f"delivered={stats.delivered} waiting={waiting} bad={self._bad_lines} retries={stats.retries}"
        return self._source.position, remark

    def summary(self, seconds: float) -> list[Row]:
        """Return the rows of the table at the end."""
        stats = self.client.stats()
        missing = self._unsettled.first()
        return [
            ("lines read", str(self._source.count), ""),
            ("delivered", str(stats.delivered), "triggers the server has accepted"),
            ("rejected", str(stats.rejected), "by the server"),
            ("bad lines", str(self._bad_lines), "not sent"),
            ("not delivered", str(self._undelivered), "" if missing is None else f"from line {missing} on"),
            ("seconds", f"{seconds:.2f}", ""),
            ("rate", f"{stats.delivered / seconds:.0f}", "delivered triggers a second"),
        ]

    @property
    def is_complete(self) -> bool:
        """Whether every line was a trigger that the server has accepted."""
        return not (self._bad_lines or self.client.stats().rejected or self._undelivered)

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

    def _on_error(self, error: Exception, bodies: tuple[bytes, ...]) -> None:
        for body in bodies:
            what = shown(body.decode("utf-8", "replace"))
            self.say(f"line {self._unsettled.just_settled()}: rejected: {printable(str(error))}: {what}")


def _seconds(text: str) -> float:
    seconds = float(text)  # argparse reports a ValueError
    if not 0 <= seconds <= _FOREVER:
        raise argparse.ArgumentTypeError(f"{text} should be a number from 0 to {_FOREVER:.0f}")
    return seconds
