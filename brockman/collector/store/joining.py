"""Joins triggers to people: reads a batch in a snapshot, computes what it changes, and writes that.

An actor is who a trigger names; a person has one actor or more, and is known by the number of one of them. Two
actors that carry the same identity are one person, unless more than a number of actors carry it. What is read is
still true when it is written: only a transaction that locks the row of `joined` changes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from brockman.collector.store.base import Execute, Snapshot, Store, Transaction
from brockman.collector.store.facts import Identity, digest, read_facts
from brockman.collector.store.regrouping import Regrouping, Run
from brockman.collector.store.statements import SELECT_JOINED, Value
from brockman.collector.strict_json import dump

_AT_ONCE_CHARS = 8 * 1024 * 1024  # of bodies in a batch
_SELECT_NEW = """
    SELECT arrival, actor_id, action, object, recorded_at, body FROM triggers
    WHERE arrival > ? AND arrival <= ? ORDER BY arrival LIMIT ?
"""
_SELECT_ACTORS = """
    SELECT given.digest, actor, person, newest FROM given CROSS JOIN actors WHERE actors.digest = given.digest
"""
_SELECT_KINDS = "SELECT given.digest, kind FROM given CROSS JOIN kinds WHERE kinds.digest = given.digest"
_SELECT_IDENTITIES = """
    SELECT given.digest, identity, actors, is_joining FROM given CROSS JOIN identities
    WHERE identities.digest = given.digest
"""
_SELECT_LINKS = """
    SELECT links.identity, links.actor FROM given CROSS JOIN links
    WHERE links.identity = given.identity AND links.actor = given.actor
"""
_SELECT_CARRIERS = """
    SELECT links.identity, links.actor, actors.person FROM given CROSS JOIN links CROSS JOIN actors
    WHERE links.identity = given.identity AND actors.actor = links.actor
"""
_INSERT_KINDS = "INSERT INTO kinds (kind, digest, action, object) SELECT * FROM given"
_INSERT_ACTORS = """
    INSERT INTO actors (actor, digest, actor_id, person, first_seen, last_seen, triggers, newest)
    SELECT * FROM given
"""
_UPDATE_ACTORS = """
    UPDATE actors SET
        first_seen =
            CASE WHEN actors.first_seen < given.first_seen THEN actors.first_seen ELSE given.first_seen END,
        last_seen = CASE WHEN actors.last_seen > given.last_seen THEN actors.last_seen ELSE given.last_seen END,
        triggers = actors.triggers + given.triggers,
        newest = given.newest
    FROM given WHERE actors.actor = given.actor
"""
_INSERT_IDENTITIES = (
    "INSERT INTO identities (identity, digest, name, value, actors, is_joining) SELECT * FROM given"
)
_UPDATE_IDENTITIES = """
    UPDATE identities SET actors = given.actors, is_joining = given.is_joining
    FROM given WHERE identities.identity = given.identity
"""
_INSERT_LINKS = "INSERT INTO links (identity, actor) SELECT * FROM given"
_INSERT_ATTRIBUTES = """
    INSERT INTO attributes (actor, name, value, recorded_at) SELECT * FROM given WHERE true
    ON CONFLICT (actor, name) DO UPDATE SET value = excluded.value, recorded_at = excluded.recorded_at
    WHERE (excluded.recorded_at, excluded.value) > (attributes.recorded_at, attributes.value)
"""
_INSERT_EVENTS = "INSERT INTO events (arrival, actor, kind, recorded_at) SELECT * FROM given"
_INSERT_CHAINED = "INSERT INTO events (arrival, actor, kind, recorded_at, previous) SELECT * FROM given"
_UPDATE_JOINED = "UPDATE joined SET arrival = ?, actor = ?, identity = ?, kind = ?"
_SEEN = ("first_seen", "last_seen", "triggers", "newest")
_ACTOR = {"actor": int, "digest": bytes, "actor_id": str, "person": int, **dict.fromkeys(_SEEN, int)}
_IDENTITY = {"identity": int, "digest": bytes, "name": str, "value": str, "actors": int, "is_joining": int}

Joined = tuple[int, int, int, int, int]  # the row of `joined`


@dataclass(slots=True)
class _Actor:
    """An actor in a batch."""

    actor_id: str  # as the columns have it
    first_seen: int
    last_seen: int
    triggers: int = 0
    newest: int = 0  # arrival
    digest: bytes = b""
    number: int = 0
    person: int | None = None  # None: it is new
    before: int = 0  # arrival of its last event before the batch
    identities: set[Identity] = field(default_factory=set)
    attributes: dict[str, tuple[int, str]] = field(default_factory=dict)  # when it was recorded, and the value


@dataclass(slots=True)
class _Known:
    """An identity in a batch."""

    identity: Identity
    number: int = 0
    actors: int = 0  # that carried it before
    is_joining: int = 1
    is_new: bool = True
    carriers: set[int] = field(default_factory=set)  # that did not before


class Batch:
    """The next triggers, and what they change."""

    def __init__(self, store: Store, snapshot: Snapshot, limit: int, max_actors: int) -> None:
        self._store = store
        self._execute: Execute = snapshot.execute
        self._max_actors = max_actors
        ((arrival, actor, identity, kind, removals),) = snapshot.execute(SELECT_JOINED, [])
        self.joined: Joined = (int(arrival), int(actor), int(identity), int(kind), int(removals))
        self.last, self._last_actor, self._last_identity, self._last_kind, _ = self.joined
        self._actors: dict[str, _Actor] = {}
        self._kinds: dict[tuple[str, str], int] = {}
        self._new_kinds: list[tuple[int, bytes, str, str]] = []
        self._events: list[tuple[int, _Actor, tuple[str, str], int, int]] = []
        self._identities: dict[Identity, _Known] = {}
        self._people = Regrouping(self._select)
        self._read(snapshot, limit)
        self.is_last = len(self._events) < limit
        if self._events:
            self._find_actors()
            self._find_kinds()
            self._find_identities()
            self._join()

    def __len__(self) -> int:
        return len(self._events)

    def write(self, transaction: Transaction) -> bool:
        """Write the changes; return False if others have joined or removed triggers since the snapshot."""
        rows = list(transaction.execute(self._store.lock_joined, []))
        if [tuple(map(int, row)) for row in rows] != [self.joined]:
            return False
        run = partial(self._store.run_given, transaction.execute)
        self._write_actors(run)
        self._write_identities(run)
        self._write_events(run)
        transaction.execute(_UPDATE_JOINED, [self.last, self._last_actor, self._last_identity, self._last_kind])
        return True

    def _read(self, snapshot: Snapshot, limit: int) -> None:
        size = 0
        for row in snapshot.execute(_SELECT_NEW, [self.last, snapshot.horizon, limit]):
            arrival, actor_id, action, obj, recorded_at, body = row
            actor = self._actors.get(actor_id)
            if actor is None:
                actor = self._actors[actor_id] = _Actor(actor_id, recorded_at, recorded_at)
            self._events.append((arrival, actor, (action, obj), recorded_at, actor.newest))
            actor.newest = self.last = arrival
            actor.triggers += 1
            actor.first_seen = min(actor.first_seen, recorded_at)
            actor.last_seen = max(actor.last_seen, recorded_at)
            _add_facts(actor, body, recorded_at)
            size += len(body)
            if size > _AT_ONCE_CHARS:
                break

    def _select(
        self, statement: str, columns: Mapping[str, type], rows: Iterable[Sequence[Value]]
    ) -> Iterator[Any]:
        return self._store.select_given(self._execute, statement, columns, rows)

    def _find_actors(self) -> None:
        restore = self._store.restore
        by_digest = {digest(restore(actor.actor_id)): actor for actor in self._actors.values()}
        for key, number, person, newest in self._select(_SELECT_ACTORS, {"digest": bytes}, zip(by_digest)):
            actor = by_digest[key]
            actor.number, actor.person, actor.before = number, person, newest
        for key, actor in by_digest.items():
            if actor.person is None:
                self._last_actor += 1
                actor.digest, actor.number = key, self._last_actor

    def _find_kinds(self) -> None:
        restore = self._store.restore
        by_digest = {digest(*map(restore, kind)): kind for kind in {event[2] for event in self._events}}
        for key, number in self._select(_SELECT_KINDS, {"digest": bytes}, zip(by_digest)):
            self._kinds[by_digest[key]] = number
        for key, kind in by_digest.items():
            if kind not in self._kinds:
                self._last_kind += 1
                self._kinds[kind] = self._last_kind
                self._new_kinds.append((self._last_kind, key, *kind))

    def _find_identities(self) -> None:
        known = self._identities
        for actor in self._actors.values():
            for identity in actor.identities:
                found = known.get(identity)
                if found is None:
                    found = known[identity] = _Known(identity, is_joining=int(identity.may_join))
                found.carriers.add(actor.number)
        by_digest = {identity.digest: found for identity, found in known.items()}
        selected = self._select(_SELECT_IDENTITIES, {"digest": bytes}, zip(by_digest))
        for key, number, actors, is_joining in selected:
            found = by_digest[key]
            found.number, found.actors, found.is_joining, found.is_new = number, actors, is_joining, False
        by_number = {found.number: found for found in known.values() if not found.is_new}
        pairs = [(number, actor) for number, found in by_number.items() for actor in found.carriers]
        for number, actor in self._select(_SELECT_LINKS, {"identity": int, "actor": int}, pairs):
            by_number[number].carriers.discard(actor)
        for found in known.values():
            if found.is_new:
                self._last_identity += 1
                found.number = self._last_identity

    def _join(self) -> None:
        """Find the people of new actors, and those that become one, or several."""
        people = self._people
        for actor in self._actors.values():
            people.add(actor.number, actor.person)
        changed = [found for found in self._identities.values() if found.is_joining and found.carriers]
        carriers: dict[int, set[int]] = defaultdict(set)
        before = [(found.number,) for found in changed if not found.is_new]
        for number, actor, person in self._select(_SELECT_CARRIERS, {"identity": int}, before):
            carriers[number].add(actor)
            people.add(actor, person)
        divided = set[int]()
        for found in changed:
            if found.actors + len(found.carriers) > self._max_actors:
                found.is_joining = 0
                divided |= carriers[found.number]
        people.divide(
            {people.person_of(actor) for actor in divided},
            {found.number for found in self._identities.values() if not found.is_joining},
        )
        for found in changed:
            if found.is_joining:
                people.join(carriers[found.number] | found.carriers)
        people.settle()

    def _write_actors(self, run: Run) -> None:
        new, old, actors = [], [], list(self._actors.values())
        for actor in actors:
            seen = (actor.first_seen, actor.last_seen, actor.triggers, actor.newest)
            if actor.person is None:
                person = self._people.person_of(actor.number)
                new.append((actor.number, actor.digest, actor.actor_id, person, *seen))
            else:
                old.append((actor.number, *seen))
        run(_INSERT_ACTORS, _ACTOR, new)
        run(_UPDATE_ACTORS, {name: _ACTOR[name] for name in ("actor", *_SEEN)}, old)
        self._people.write(run)
        attributes = [
            (actor.number, self._store.escape(name), value, recorded_at)
            for actor in actors
            for name, (recorded_at, value) in actor.attributes.items()
        ]
        run(_INSERT_ATTRIBUTES, {"actor": int, "name": str, "value": str, "recorded_at": int}, attributes)

    def _write_identities(self, run: Run) -> None:
        changed = [found for found in self._identities.values() if found.carriers]
        new, old, links = [], [], []
        for found in changed:
            counts = (found.actors + len(found.carriers), found.is_joining)
            if found.is_new:
                name, value = self._store.escape(found.identity.name), dump(found.identity.value)
                new.append((found.number, found.identity.digest, name, value, *counts))
            else:
                old.append((found.number, *counts))
            links += [(found.number, actor) for actor in found.carriers]
        run(_INSERT_IDENTITIES, _IDENTITY, new)
        run(_UPDATE_IDENTITIES, {"identity": int, "actors": int, "is_joining": int}, old)
        run(_INSERT_LINKS, {"identity": int, "actor": int}, links)

    def _write_events(self, run: Run) -> None:
        run(_INSERT_KINDS, {"kind": int, "digest": bytes, "action": str, "object": str}, self._new_kinds)
        columns = {"arrival": int, "actor": int, "kind": int, "recorded_at": int}
        facts = (
            (arrival, actor.number, self._kinds[kind], recorded_at, previous or actor.before)
            for arrival, actor, kind, recorded_at, previous in self._events
        )
        if self._store.has_chains:
            run(_INSERT_CHAINED, {**columns, "previous": int}, facts)
        else:
            run(_INSERT_EVENTS, columns, [fact[:4] for fact in facts])


def _add_facts(actor: _Actor, body: str, recorded_at: int) -> None:
    facts = read_facts(body)
    actor.identities.update(facts.identities)
    for name, value in facts.attributes.items():
        latest = actor.attributes.get(name)
        if latest is None or (recorded_at, value) > latest:
            actor.attributes[name] = (recorded_at, value)
