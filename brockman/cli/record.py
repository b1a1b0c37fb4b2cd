"""`brockman record`: send one trigger, from a shell or a cron job."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime
from typing import Any
from uuid import UUID

from brockman.cli.arguments import add_command, add_json
from brockman.cli.conditions import check_text
from brockman.cli.formats.times import parse_time
from brockman.cli.sending import Sender, add_options
from brockman.cli.values import parse_values
from brockman.exceptions import ConfigurationError, InvalidTrigger
from brockman.options.fields import printable, show

DESCRIPTION = """\
Send one trigger, and end when the endpoint has accepted it. With a spool (FL_SPOOL_DIR), a trigger that is not
accepted in time is kept there, for the next process that uses the spool. On success nothing is printed, except on
a terminal."""
EPILOG = """\
examples:

  brockman record ada viewed page --variable title=Pricing
  brockman record 7 paid invoice --variable total=12.5 --attribute plan=pro --identity email=ada@example.com
  brockman record backup finished database --variable tables=users --variable tables=orders --timeout 60
  brockman record 7 paid invoice --at 2026-11-01T08:00:00Z --id 5a9c0d0e-8c1f-4d57-9c0b-3f5b6f2d7a11

values: JSON, such as 12, true, "12" or ["a", "b"], and text if it is none. A name that is repeated makes a list. A
value that begins with - is written behind =, an actor, action or object behind --.

Many triggers, such as lines of NDJSON on standard input: brockman import --format ndjson -

exit status: 0 it was accepted, or is kept on disk, with a warning on stderr; 1 it is lost: it was refused, or was
not accepted in time and is not on disk; 2 wrong usage; 130 Ctrl-C."""
_SETTINGS: dict[str, Any] = {"on_invalid": "raise", "overflow": "drop_newest", "spool_fsync": "always"}
_TIMEOUT = 10.0  # seconds


def add_parser(commands: Any) -> None:
    parser = add_command(commands, "record", run, help="send one trigger", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("actor", metavar="ACTOR", help="who did it: the actor_id")
    parser.add_argument("action", metavar="ACTION", help="what was done, such as viewed")
    parser.add_argument("object", metavar="OBJECT", help="to what, such as page")
    for name, what in (
        ("variable", "a property of the trigger, such as title=Pricing"),
        ("attribute", "a property of the actor, such as plan=pro"),
        ("identity", "what else identifies the actor, such as email=ada@example.com"),
    ):
        parser.add_argument(
            f"--{name}", action="append", default=[], metavar="NAME=VALUE", help=f"{what}; can be repeated"
        )
    parser.add_argument(
        "--at", type=_time, metavar="TIME", help="when it was done, with a time zone (default: now)"
    )
    parser.add_argument(
        "--id", type=_uuid, metavar="UUID", help="its id, to send it again; it is stored once (default: a new one)"
    )
    add_json(parser, "print what became of it as JSON")
    add_options(parser, timeout_help="how long to try (default: %(default)g)", timeout=_TIMEOUT)


def _time(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{show(text)} is not a UUID") from None


def run(options: argparse.Namespace) -> int:
    job = _Record(options)
    status = job.run(total=None, unit="")
    outcome, words = job.outcome()
    if words is not None:
        print(f"brockman record: {words}", file=sys.stderr)
    if options.json:
        print(json.dumps({"status": outcome, "id": job.trigger_id, "error": words}))
    elif outcome == "delivered" and sys.stdout.isatty():
        print(f"delivered, id {job.trigger_id}")
    return status or (1 if outcome in ("refused", "lost") else 0)


class _Record(Sender):
    """Records one trigger, and closes the client: what is not delivered by then stays on disk, or is dropped."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options, **_SETTINGS)
        self._timeout: float = options.timeout
        self._refusal: Exception | None = None
        self._is_recorded = False
        try:
            self._body = self.client.encode_trigger(*_arguments(options), at=options.at, trigger_id=options.id)
        except InvalidTrigger as error:
            raise ConfigurationError(str(error)) from None
        assert self._body is not None  # neither a hook nor a closed client drops it
        self.trigger_id: str = json.loads(self._body)["id"]

    def send(self) -> None:
        self._is_recorded = self.client.record_encoded(self._body)
        self.client.close(self._timeout)  # a `flush` would count what dead processes have left in the spool

    def look(self) -> tuple[int, str]:
        stats = self.client.stats()
        return stats.delivered, f"retries={stats.retries}"

    def outcome(self) -> tuple[str, str | None]:
        """Return `delivered`, `kept`, `refused` or `lost`, and why; None if it was delivered."""
        stats, folder = self.client.stats(), self.client.options.spool_dir
        if self._refusal is not None:
            return "refused", f"refused: {printable(str(self._refusal))}"
        late = f"not delivered ({printable(stats.last_error or 'no answer yet')})"
        if not self._is_recorded or stats.dropped.get("shutdown"):
            cause = "FL_SPOOL_DIR is not set" if folder is None else stats.spool_error or "the spool is full"
            return "lost", f"{late}, and not kept: {cause}"
        if stats.queued or stats.in_flight:
            return "kept", f"{late}; kept in {folder}, for the next process that uses it"
        return "delivered", None

    def _on_error(self, error: Exception, bodies: tuple[bytes, ...]) -> None:
        if self._body in bodies:
            self._refusal = error
        others = tuple(body for body in bodies if body != self._body)  # of processes that are gone
        super()._on_error(error, others)


def _arguments(options: argparse.Namespace) -> tuple[Any, ...]:
    texts = [getattr(options, name) for name in ("actor", "action", "object")]
    for name, text in zip(("ACTOR", "ACTION", "OBJECT"), texts, strict=True):
        check_text(text, name)
    given = (
        ("--identity", options.identity),
        ("--attribute", options.attribute),
        ("--variable", options.variable),
    )
    return (*texts, *(parse_values(option, values) for option, values in given))
