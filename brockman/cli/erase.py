"""`brockman erase`: erase what is stored about a person."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from brockman.cli.arguments import add_command, add_json
from brockman.cli.conditions import check_text
from brockman.cli.requesting import Api, RequestFailed, add_source_options
from brockman.cli.serve import has_collector
from brockman.cli.stored import open_existing, store_location
from brockman.cli.terminal import explain_interruption, format_table, raise_on_signals
from brockman.exceptions import ConfigurationError
from brockman.options.fields import printable, show
from brockman.process.log import count_of

DESCRIPTION = """\
Erase what a collector stores about a person: all triggers of an actor id, or those of all actor ids with an
identity. What is erased is shown first. The same triggers are not stored again, if they are sent once more."""
EPILOG = """\
examples:

  brockman erase --identity email=ada@example.com --dry-run
  brockman erase --actor 7 --yes
  brockman erase --actor 7 --store focuslab.sqlite3

--identity takes all triggers of the actor ids that were joined by it, and those in which it is. New triggers of
the person, with new ids, are stored as before: stop recording them first. Files of clients (a spool, logs) are not
changed.

exit status: 0 it was erased, or there was nothing; 1 it was not; 2 wrong usage; 130 Ctrl-C."""
_SHOWN = 5  # actor ids


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands, "erase", run, help="erase what is stored about a person", description=DESCRIPTION, epilog=EPILOG
    )
    person = parser.add_mutually_exclusive_group(required=True)
    person.add_argument("--actor", metavar="ID", help="the actor_id of the triggers")
    person.add_argument("--identity", metavar="NAME=VALUE", help="an identity, such as email=ada@example.com")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be erased")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_json(parser, "print the numbers as JSON; with --yes, or --dry-run")
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    person = _person(options)
    if options.json and not (options.dry_run or options.yes):
        raise ConfigurationError("--json asks nothing; give --yes, or --dry-run, with it")
    if not (options.dry_run or options.yes or sys.stdin.isatty()):
        raise ConfigurationError("there is no terminal to ask; give --yes, or --dry-run")
    location = store_location(options)
    if location is None:
        api = Api(options)
        return _erase(options, lambda trial: api.delete("person/", {**person, "dry_run": trial}))
    if not has_collector("erase"):
        return 2
    return _erase_in_store(options, location, person)


def _person(options: argparse.Namespace) -> dict[str, str]:
    for name in ("actor", "identity"):
        check_text(getattr(options, name) or "", f"--{name}")
    if options.actor is not None:
        if not options.actor.strip():
            raise ConfigurationError("--actor is empty; it should be the actor_id of a trigger")
        return {"actor_id": options.actor}
    name, equals, value = options.identity.partition("=")
    if not equals or not name or not value:
        given = show(options.identity)
        raise ConfigurationError(f"--identity is {given}; it should be NAME=VALUE, such as email=ada@example.com")
    if ":" in name:
        raise ConfigurationError(f"--identity is {show(options.identity)}; a name has no colon")
    return {"identity": f"{name}:{value}"}


def _erase_in_store(options: argparse.Namespace, location: str, person: dict[str, str]) -> int:
    from brockman.collector.api.erasure import describe, parse_person
    from brockman.collector.errors import StoreUnavailable
    from brockman.collector.store.erasure import Erasure
    from brockman.collector.store.people import People
    from brockman.collector.store.refused import Refused

    try:
        with open_existing(location) as store:
            people = People(store)
            store.parts = (people, Refused(store))
            erasure = Erasure(store, people.find_actors, only_joining=people.only_joining)
            people.catch_up()

            def erase(trial: str) -> Any:
                return describe(erasure.run(**parse_person([*person.items(), ("dry_run", trial)])))

            return _erase(options, erase)
    except StoreUnavailable as error:
        raise RequestFailed(str(error)) from None


def _erase(options: argparse.Namespace, erase: Any) -> int:
    if options.json:
        print(json.dumps(erase("yes") if options.dry_run else _erase_now(erase)))
        return 0
    if options.dry_run or not options.yes:
        found = erase("yes")
        if not found["triggers"] and options.dry_run:
            print("nothing is stored about this person")
            return 0
        _show(found, "would be erased" if options.dry_run else "to erase")
        if options.dry_run:
            return 0
        print("Erase this? It cannot be undone. [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print("nothing was erased")
            return 1
    erased = _erase_now(erase)
    _show(erased, "erased")
    if not erased["overwritten"]:
        print(
            "The database may have copies in its files until VACUUM has run: PostgreSQL starts it by itself; for a"
            " large SQLite file, run it at a quiet time."
        )
    return 0


def _erase_now(erase: Any) -> Any:
    raise_on_signals()
    with explain_interruption("some or all may be erased; --dry-run shows the rest"):
        return erase("no")


def _show(found: dict[str, Any], what: str) -> None:
    ids = [printable(actor) for actor in found["actor_ids"][:_SHOWN]]
    more = found["actors"] - len(ids)
    rows = [
        ("triggers", str(found["triggers"]), what),
        ("actor ids", str(found["actors"]), ", ".join(ids) + (f" and {count_of(more, 'other')}" if more else "")),
        ("identities", str(found["identities"]), ""),
    ]
    known = ("triggers", "actor_ids", "actors", "identities", "overwritten")
    rows += [(name, str(number), "") for name, number in found.items() if name not in known]
    print(format_table(rows))
