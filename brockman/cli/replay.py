"""`brockman replay`: send refused triggers again."""

from __future__ import annotations

import argparse
import json
import sys
from itertools import chain, islice
from typing import Any
from uuid import UUID, uuid5

from brockman.cli.arguments import add_command, add_json, add_where
from brockman.cli.changes import Changes, Unchangeable
from brockman.cli.conditions import Conditions
from brockman.cli.numbers import MAX_SECONDS
from brockman.cli.refusals import FILTERS, PATH, Entry, read_refused
from brockman.cli.requesting import Api, RequestFailed
from brockman.cli.sending import Sender, add_options
from brockman.cli.terminal import Row, format_table
from brockman.exceptions import BadRequest, InvalidTrigger
from brockman.options.fields import printable
from brockman.options.secret import hide

DESCRIPTION = """\
Send the triggers that a collector has refused again, under their ids and times: after an upgrade of the collector,
or changed with --set and --unset. What is accepted leaves the list of the refused; what is refused again stays,
with its new reason. Doing it again changes nothing: a trigger is stored once."""
EPILOG = """\
examples:

  brockman replay --dry-run
  brockman replay --where action=paid --where reason~=currency --set variables.currency=EUR
  brockman replay --unset variables.cart
  brockman replay --dry-run > refused.ndjson     # edit it, then:
  brockman import --format ndjson refused.ndjson

--where: each has to hold. FIELD is action, object, actor_id, id, reason, since, until (of recorded_at),
identities.NAME, attributes.NAME or variables.NAME. FIELD=VALUE compares the whole text of a value, FIELD~=PART a
part of it, in upper or lower case.

--set: a value is JSON, such as 12, true, "12" or ["a", "b"], and text if it is none.

exit status: 0 all that matched were accepted; 1 some were refused again, are no triggers, or were not delivered; 2
wrong usage; 130 Ctrl-C."""
_PAGE = 1000  # entries that are sent together
_DELETED_AT_ONCE = 200
_PATIENCE = 60.0  # seconds without a response while reading
_MAX_REASONS, _MAX_REASON_LENGTH = 3, 100
_SETTINGS: dict[str, Any] = {
    "overflow": "block",
    "block_timeout": MAX_SECONDS,
    "max_queue_bytes": 64 * 1024 * 1024,
    "max_batch_bytes": 2 * 1024 * 1024,
    "max_trigger_bytes": 8 * 1024 * 1024,
    "on_invalid": "raise",
    "spool_dir": None,
}
# The id of version 5 of this URL. Must never change: a later replay would send the same trigger twice.
# https://focuslab.io/brockman/replay
_NAMESPACE = UUID("8db00fa0-ee56-58a6-aa6d-a2c33e6db311")


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands, "replay", run, help="send refused triggers again", description=DESCRIPTION, epilog=EPILOG
    )
    add_where(parser, "only triggers with this value")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field, such as variables.total=12; can be repeated",
    )
    parser.add_argument(
        "--unset", action="append", default=[], metavar="FIELD", help="remove a field; can be repeated"
    )
    parser.add_argument("--to", type=hide, metavar="URL", help="another endpoint to send to (default: the same)")
    parser.add_argument("--to-api-key", type=hide, metavar="KEY", help="its key (default: the same)")
    parser.add_argument("--dry-run", action="store_true", help="send nothing; print what would be sent, as NDJSON")
    add_json(parser)
    add_options(parser, timeout_help="give up if the endpoint has not accepted a page by then (default: wait)")


def run(options: argparse.Namespace) -> int:
    conditions = Conditions(options.where, more=["reason"])
    changes = Changes(options.set, options.unset)
    patience = _PATIENCE if options.timeout is None else options.timeout
    source = Api(argparse.Namespace(endpoint=options.endpoint, api_key=options.api_key, timeout=patience))
    if options.dry_run:
        return _print_triggers(source, conditions, changes)
    total: int = source.get(PATH, {**conditions.parameters(FILTERS), "limit": "1"})["total"]
    job = _Replay(options, source, conditions, changes)
    status = job.run(total=total, unit=" refused")
    print(json.dumps(job.numbers()) if options.json else format_table(job.rows()))
    return status or (0 if job.is_complete else 1)


def _prepare(entry: Entry, changes: Changes) -> dict[str, Any]:
    """Return the trigger to send: with an id that is the same each time, and its time."""
    trigger = changes.apply(entry["trigger"])
    if trigger.get("id") is None:
        trigger["id"] = str(uuid5(_NAMESPACE, f"{entry['number']} {entry['received_at']}"))
    if trigger.get("recorded_at") is None:
        trigger["recorded_at"] = entry["received_at"]
    return trigger


def _encode(trigger: dict[str, Any]) -> bytes:
    return json.dumps(trigger, ensure_ascii=False, separators=(",", ":")).encode()


def _print_triggers(source: Api, conditions: Conditions, changes: Changes) -> int:
    printed = left = 0
    for entry in chain.from_iterable(read_refused(source, conditions)):
        try:
            if entry["trigger"] is not None:
                sys.stdout.buffer.write(_encode(_prepare(entry, changes)) + b"\n")
                printed += 1
                continue
            reason = "no trigger"
        except Unchangeable as error:
            reason = str(error)
        left += 1
        print(f"number {entry['number']}: {reason}", file=sys.stderr)
    sys.stdout.buffer.flush()
    print(f"{printed} would be sent, {left} not", file=sys.stderr)
    return 1 if left else 0


class _Replay(Sender):
    """Sends page by page, and removes what was accepted from the list of the refused."""

    def __init__(self, options: argparse.Namespace, source: Api, conditions: Conditions, changes: Changes) -> None:
        self._source, self._conditions, self._changes = source, conditions, changes
        self._timeout: float | None = options.timeout
        self._is_same = options.to is None
        self._is_read = True
        self._matched = self._no_trigger = self._unsendable = 0
        self._page: dict[bytes, Entry] = {}  # by what is sent
        self._refused: dict[bytes, Exception] = {}  # of the page, again
        self._reasons: dict[str, None] = {}  # in order
        target = argparse.Namespace(
            command=options.command,
            endpoint=options.endpoint if options.to is None else options.to,
            api_key=options.api_key if options.to_api_key is None else options.to_api_key,
        )
        super().__init__(target, **_SETTINGS)

    def send(self) -> None:
        entries = chain.from_iterable(read_refused(self._source, self._conditions))
        try:
            while some := list(islice(entries, _PAGE)):
                self._record(some)
                if not self.client.flush(self._timeout):
                    return
                self._settle()
        except RequestFailed as error:
            self._is_read = False
            self.fail(str(error))

    def _record(self, entries: list[Entry]) -> None:
        self._page, self._refused = {}, {}
        for entry in entries:
            self._matched += 1
            if entry["trigger"] is None:
                self._no_trigger += 1
                self.say(f"number {entry['number']}: no trigger: {printable(entry['reason'])}")
                continue
            try:
                body = _encode(_prepare(entry, self._changes))
                if self.client.record_encoded(body):
                    self._page[body] = entry
            except (InvalidTrigger, Unchangeable) as error:
                self._unsendable += 1
                self._note(error)
                self.say(f"number {entry['number']}: {printable(str(error))}")

    def _settle(self) -> None:
        """Remove what was accepted, and what the collector has under another number now."""
        numbers = [
            entry["number"]
            for body, entry in self._page.items()
            if body not in self._refused or self._is_kept_anew(body, entry)
        ]
        for start in range(0, len(numbers), _DELETED_AT_ONCE):
            some = numbers[start : start + _DELETED_AT_ONCE]
            self._source.delete(PATH, {"number": ",".join(map(str, some))})

    def _is_kept_anew(self, body: bytes, entry: Entry) -> bool:
        """Return whether a trigger was refused again, and is kept beside the old one: its id is another."""
        if not self._is_same or not isinstance(self._refused[body], BadRequest):
            return False
        before, after = entry["trigger"].get("id"), json.loads(body)["id"]
        return before != after or not is_uuid(before)

    def look(self) -> tuple[int, str]:
        stats = self.client.stats()
        text = f"accepted={stats.delivered} refused={stats.rejected} retries={stats.retries}"
        return self._no_trigger + self._unsendable + stats.delivered + stats.rejected, text

    def numbers(self) -> dict[str, int | None]:
        """Return the counts of the summary; `repeated` is None if the server does not say."""
        stats = self.client.stats()
        refused = self._unsendable + stats.rejected
        return {
            "matched": self._matched,
            "accepted": stats.delivered,
            "repeated": stats.repeated if stats.delivered else 0,
            "refused": refused,
            "no_trigger": self._no_trigger,
            "not_delivered": self._matched - self._no_trigger - stats.delivered - refused,
        }

    def rows(self) -> list[Row]:
        numbers = self.numbers()
        texts = {
            "matched": "refused triggers",
            "accepted": "by the server; no longer among the refused",
            "repeated": "of these, the server had them already",
            "refused": "; ".join(self._reasons) or "again",
            "no_trigger": "not sent: what was refused is no trigger",
            "not_delivered": "",
        }
        return [
            *(
                (name.replace("_", " "), "unknown" if numbers[name] is None else str(numbers[name]), text)
                for name, text in texts.items()
            ),
            ("seconds", f"{self.seconds:.2f}", ""),
        ]

    @property
    def is_complete(self) -> bool:
        numbers = self.numbers()
        return self._is_read and not any(numbers[name] for name in ("refused", "no_trigger", "not_delivered"))

    def _note(self, error: Exception) -> None:
        if len(self._reasons) < _MAX_REASONS:
            self._reasons[printable(str(error))[:_MAX_REASON_LENGTH]] = None

    def _on_error(self, error: Exception, bodies: tuple[bytes, ...]) -> None:
        for body in bodies:
            self._refused[body] = error
            self._note(error)
        super()._on_error(error, bodies)


def is_uuid(value: object) -> bool:
    """Return whether the collector takes a value for an id."""
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False
