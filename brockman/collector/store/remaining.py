"""Corrects what is known of actors when triggers were erased, and others of the same actor remain.

Their triggers are read in a snapshot, so that requests do not wait; the transaction that writes reads only those
that were joined since.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from brockman.collector.errors import StoreUnavailable
from brockman.collector.store import removal
from brockman.collector.store.base import Execute, Store, Transaction
from brockman.collector.store.facts import make_identity, read_facts
from brockman.collector.store.people_statements import SELECT_CURSOR
from brockman.collector.store.regrouping import Run, Select

_AT_ONCE = 100  # actors
_ATTEMPTS = 10  # for the same actors, while others remove triggers of them
_SELECT_ACTOR = "SELECT triggers, person FROM actors WHERE actor = ?"
_SELECT_CARRIED = """
    SELECT links.identity, links.actor, identities.digest FROM given CROSS JOIN links CROSS JOIN identities
    WHERE links.actor = given.actor AND identities.identity = links.identity
"""
_UPDATE_SEEN = """
    UPDATE actors SET first_seen = given.first_seen, last_seen = given.last_seen FROM given
    WHERE actors.actor = given.actor
"""
_DELETE_ATTRIBUTES = "DELETE FROM attributes WHERE actor IN (SELECT actor FROM given)"
_INSERT_ATTRIBUTES = "INSERT INTO attributes (actor, name, value, recorded_at) SELECT * FROM given"


@dataclass(slots=True)
class _Remaining:
    """The facts in the triggers of an actor."""

    actor: int
    person: int = 0
    triggers: int = 0  # that are known
    joined: int = 0  # arrival number up to which they were read
    count: int = 0  # how many were read
    first_seen: int = 0
    last_seen: int = 0
    identities: set[bytes] = field(default_factory=set)
    attributes: dict[str, tuple[int, str]] = field(default_factory=dict)  # when it was recorded, and the value

    def read(self, store: Store, execute: Execute) -> bool:
        """Read the triggers that were joined since the last time; return False if the actor is gone."""
        for triggers, person in list(execute(_SELECT_ACTOR, [self.actor])):
            self.triggers, self.person = int(triggers), int(person)
            ((joined,),) = execute(SELECT_CURSOR, [])
            for recorded_at, body in execute(store.triggers_of_actor, [self.actor, self.joined]):
                self._add(recorded_at, body)
            self.joined = int(joined)
            return True
        return False

    def read_again(self, store: Store, execute: Execute) -> bool:
        """Read what is new, in a transaction; return False if something was removed since the last time."""
        triggers, count = self.triggers, self.count
        return self.read(store, execute) and self.triggers - triggers == self.count - count

    def _add(self, recorded_at: int, body: str) -> None:
        self.first_seen = min(recorded_at, self.first_seen) if self.count else recorded_at
        self.last_seen = max(recorded_at, self.last_seen) if self.count else recorded_at
        self.count += 1
        if '"captured_' not in body:
            return
        facts = read_facts(body)
        self.identities.update(make_identity(name, value).digest for name, value in facts.identities)
        for name, text in facts.attributes:
            latest = self.attributes.get(name)
            if latest is None or (recorded_at, text) > latest:
                self.attributes[name] = (recorded_at, text)


def correct(store: Store, actors: Iterable[int]) -> None:
    """Let actors have the identities, the attributes and the times only that their triggers have.

    In several transactions.
    """
    waiting, failures = sorted(actors), 0
    while waiting:
        some, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
        with store.reading(math.inf) as snapshot:
            remaining = [_Remaining(actor) for actor in some]
            found = [one for one in remaining if one.read(store, snapshot.execute)]
        started = time.monotonic()
        changed = store.write(partial(_write, store, found))
        time.sleep(time.monotonic() - started)  # for requests
        waiting = changed + waiting
        failures = failures + 1 if changed else 0
        if failures == _ATTEMPTS:
            raise StoreUnavailable("triggers of the same people are being removed", retry_after=1)


def _write(store: Store, remaining: Sequence[_Remaining], transaction: Transaction) -> list[int]:
    """Write what is known now; return the actors of whom something was removed since the snapshot."""
    removal.lock(transaction.execute)
    select: Select = partial(store.select_given, transaction.execute)
    run: Run = partial(store.run_given, transaction.execute)
    # A transaction may be run again.
    known = {one.actor: one for one in map(_copy, remaining) if one.read_again(store, transaction.execute)}
    rows = [(actor,) for actor in known]
    stale = [
        (identity, actor)
        for identity, actor, key in select(_SELECT_CARRIED, {"actor": int}, rows)
        if bytes(key) not in known[actor].identities
    ]
    removal.remove_links(run, stale)
    removal.divide(select, run, {known[actor].person for _, actor in stale})
    seen = [(one.actor, one.first_seen, one.last_seen) for one in known.values() if one.count]
    run(_UPDATE_SEEN, {"actor": int, "first_seen": int, "last_seen": int}, seen)
    run(_DELETE_ATTRIBUTES, {"actor": int}, rows)
    attributes = [
        (one.actor, store.escape(name), value, recorded_at)
        for one in known.values()
        for name, (recorded_at, value) in one.attributes.items()
    ]
    columns = {"actor": int, "name": str, "value": str, "recorded_at": int}
    run(_INSERT_ATTRIBUTES, columns, attributes)
    return [one.actor for one in remaining if one.actor not in known]


def _copy(one: _Remaining) -> _Remaining:
    return replace(one, identities=set(one.identities), attributes=dict(one.attributes))
