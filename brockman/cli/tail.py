"""`brockman tail`: follow what a collector stores, or refuses."""

from __future__ import annotations

import argparse
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from brockman.cli.arguments import add_command, add_json, add_where
from brockman.cli.conditions import FIELDS, TIMES, Conditions, check_text
from brockman.cli.lines import refusal_line, trigger_line
from brockman.cli.numbers import whole_number
from brockman.cli.refusals import FILTERS, PATH, matches
from brockman.cli.requesting import Api, RequestFailed, Unavailable, add_collector_options
from brockman.cli.startup import discard_output
from brockman.cli.terminal import exit_with_reader, has_colours, raise_on_signals
from brockman.exceptions import ConfigurationError
from brockman.process.clock import monotonic

DESCRIPTION = """\
Print the last triggers of a collector, then each new one as it is stored. After a restart of the collector it goes
on where it was: nothing is missing, nothing comes twice."""
EPILOG = """\
examples:

  brockman tail
  brockman tail --where action=paid --where variables.total~=99
  brockman tail --search ada@example.com --json -n 0 | jq .variables
  brockman tail --refused

a line: time, actor_id, action, object, variables, then identities.NAME and attributes.NAME. Colours are for a
terminal, unless NO_COLOR is set. With --json, a trigger is one JSON object, as brockman export writes it; so is an
entry of --refused.

The last triggers are looked for among the newest 10 000.

exit status: 0 the reader of a pipe has left; 1 the collector does not respond at the start, or refuses the key; 2
wrong usage; 130 Ctrl-C."""
_PATIENCE = 5.0  # seconds without a response at the start
_PAGE, _MAX_PAGES = 1000, 10
_POLL = 1.0  # seconds between two looks for refused triggers
_FIRST_PAUSE, _LAST_PAUSE = 0.2, 10.0
Entry = dict[str, Any]


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands, "tail", run, help="follow what a collector stores", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument(
        "-n",
        dest="last",
        type=whole_number(0, _PAGE),
        default=10,
        metavar="N",
        help="how many first (default: 10)",
    )
    add_where(parser, "only triggers with this value")
    parser.add_argument("--search", metavar="TEXT", help="only triggers that have this text anywhere")
    parser.add_argument("--refused", action="store_true", help="the refused triggers, with their reasons")
    add_json(parser, "print each as a line of JSON")
    add_collector_options(parser, patience=_PATIENCE)


def run(options: argparse.Namespace) -> int:
    more = ("reason",) if options.refused else ()
    conditions = Conditions(options.where, more=more)
    check_text(options.search or "", "--search")
    if options.refused and options.search:
        raise ConfigurationError("--search is for triggers; use --where reason~=TEXT with --refused")
    api = Api(options)
    source = _Refused(api, conditions) if options.refused else _Stored(api, conditions, options.search)
    show = _json_line if options.json else _shown(refusal_line if options.refused else trigger_line)
    raise_on_signals()
    exit_with_reader()
    try:
        _print(source.last(options.last), show)
        api.patience = 0.0  # from now on an outage is said, and ends some time
        for entries in _follow(source):
            _print(entries, show)
    except BrokenPipeError:
        discard_output(sys.stdout)
    return 0


def _print(entries: list[Entry], show: Callable[[Entry], bytes]) -> None:
    for entry in entries:
        sys.stdout.buffer.write(show(entry) + b"\n")
    sys.stdout.buffer.flush()


def _json_line(entry: Entry) -> bytes:
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()


def _shown(line: Callable[..., str]) -> Callable[[Entry], bytes]:
    colours, encoding = has_colours(), sys.stdout.encoding or "utf-8"
    return lambda entry: line(entry, has_colours=colours).encode(encoding, "backslashreplace")


class _Source(ABC):
    """Entries of a collector, in order."""

    def __init__(self, api: Api, conditions: Conditions) -> None:
        self.api, self._conditions = api, conditions

    @abstractmethod
    def last(self, count: int) -> list[Entry]:
        """Return the newest ones, the oldest of them first."""

    @abstractmethod
    def batches(self) -> Iterator[list[Entry]]:
        """Yield what is stored after them; an empty list says that the collector responds.

        Raises:
            Unavailable: When it does not. Another call goes on from there.
        """

    def _newest(self, path: str, name: str, count: int, filters: Mapping[str, str]) -> tuple[list[Entry], str]:
        """Return the newest entries that match, the oldest first, and the cursor behind them."""
        found: list[Entry] = []
        limit = _PAGE if self._conditions else max(1, count)
        parameters = {**filters, "order": "newest", "limit": str(limit)}
        page = first = self.api.get(path, parameters)
        for _ in range(_MAX_PAGES):
            found += filter(self._matches, page[name])
            if len(found) >= count or page["next"] is None:
                break
            page = self.api.get(path, {**parameters, "after": page["next"]})
        return found[:count][::-1], first["newest"]

    @abstractmethod
    def _matches(self, entry: Entry) -> bool: ...


class _Stored(_Source):
    """The stored triggers, by the stream; what that leaves out is read from the list."""

    def __init__(self, api: Api, conditions: Conditions, search: str | None) -> None:
        super().__init__(api, conditions)
        self._filters = conditions.parameters((*FIELDS, *TIMES))
        if search:
            self._filters["search"] = search
        self._cursor = ""

    def last(self, count: int) -> list[Entry]:
        found, self._cursor = self._newest("trigger/", "triggers", count, {**self._filters, "total": "no"})
        return found

    def batches(self) -> Iterator[list[Entry]]:
        while True:
            yield from self._missed()
            for event in self.api.events("stream/", self._filters, self._cursor):
                found, has_gap = self._read(event.data)
                if has_gap:
                    break
                self._cursor = event.id or self._cursor
                yield found
            else:
                raise Unavailable(f"{self.api.endpoint} has ended the stream")

    def _read(self, data: str) -> tuple[list[Entry], bool]:
        """Return the triggers of an event that match, and whether others were left out."""
        try:
            content = json.loads(data or "{}")
            return [*filter(self._matches, content.get("triggers", ()))], bool(content.get("gap"))
        except (ValueError, RecursionError, AttributeError, TypeError):
            raise RequestFailed(f"{self.api.endpoint} is no collector: its stream has other events") from None

    def _missed(self) -> Iterator[list[Entry]]:
        """Yield what is stored behind the cursor now: a stream leaves some out, and a proxy may hold it back."""
        while True:
            parameters = {**self._filters, "total": "no", "limit": str(_PAGE), "after": self._cursor}
            page = self.api.get("trigger/", parameters)
            self._cursor = page["newest"] if page["next"] is None else page["next"]
            yield [*filter(self._matches, page["triggers"])]
            if page["next"] is None:
                return

    def _matches(self, entry: Entry) -> bool:
        return self._conditions.matches(entry)


class _Refused(_Source):
    """The refused triggers, of which there is no stream."""

    def last(self, count: int) -> list[Entry]:
        self._filters = self._conditions.parameters(FILTERS)
        found, self._cursor = self._newest(PATH, "refused", count, self._filters)
        return found

    def batches(self) -> Iterator[list[Entry]]:
        while True:
            parameters = {**self._filters, "order": "oldest", "limit": str(_PAGE), "after": self._cursor}
            entries = self.api.get(PATH, parameters)["refused"]
            self._cursor = str(entries[-1]["number"]) if entries else self._cursor
            yield [*filter(self._matches, entries)]
            if not entries:
                time.sleep(_POLL)

    def _matches(self, entry: Entry) -> bool:
        return matches(entry, self._conditions)


def _follow(source: _Source) -> Iterator[list[Entry]]:
    """Yield what is stored, through outages: one that lasts is said, and its end."""
    pause, began, is_said = _FIRST_PAUSE, 0.0, False
    while True:
        try:
            for entries in source.batches():
                if is_said:
                    _say(f"{source.api.endpoint} responds again after {monotonic() - began:.0f} s")
                pause, is_said = _FIRST_PAUSE, False
                yield entries
        except Unavailable as error:
            if pause == _FIRST_PAUSE:  # a connection may end, such as that of a proxy
                began = monotonic()
            elif not is_said:
                _say(f"{error}; trying again")
                is_said = True
            time.sleep(min(_LAST_PAUSE, max(pause, error.retry_after or 0.0)))
            pause = min(2 * pause, _LAST_PAUSE)


def _say(text: str) -> None:
    print(f"brockman tail: {text}", file=sys.stderr, flush=True)
