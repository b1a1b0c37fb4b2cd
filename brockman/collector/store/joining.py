"""Joins triggers to people: reads a batch in a snapshot, and writes what it changes in a transaction.

An actor is who a trigger names; a person has one actor or more, and is known by the number of one of them. Two
actors that carry the same identity are one person, unless more than a number of actors carry it. The transaction
locks the row of `joined` first, and does nothing if others have changed it since the snapshot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from brockman.collector.store.base import Snapshot, Store, Transaction
from brockman.collector.store.facts import Facts, Identity, digest, make_identity, read_facts
from brockman.collector.store.regrouping import Regrouping
from brockman.collector.store.statements import SELECT_JOINED
from brockman.collector.strict_json import dump

_CACHED = 200_000  # actors, and links
_AT_ONCE_CHARS = 8 * 1024 * 1024  # of bodies in a batch
_SELECT_NEW = """
    SELECT arrival, actor_id, action, object, recorded_at, body FROM triggers
    WHERE arrival > ? AND arrival <= ? ORDER BY arrival LIMIT ?
"""
_SELECT_ACTORS = "SELECT given.digest, actor FROM given CROSS JOIN actors WHERE actors.digest = given.digest"
_SELECT_PERSONS = "SELECT given.actor, person FROM given CROSS JOIN actors WHERE actors.actor = given.actor"
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
# Before the actors are updated: the first event of a batch follows the newest one of its actor.
_INSERT_CHAINED = """
    INSERT INTO events (arrival, actor, kind, recorded_at, previous)
    SELECT arrival, given.actor, kind, recorded_at, CASE previous
        WHEN 0 THEN coalesce((SELECT newest FROM actors WHERE actors.actor = given.actor), 0) ELSE previous
    END FROM given
"""
_UPDATE_JOINED = "UPDATE joined SET arrival = ?, actor = ?, identity = ?, kind = ?"
_SEEN = ("first_seen", "last_seen", "triggers", "newest")
_ACTOR = {"actor": int, "digest": bytes, "actor_id": str, "person": int, **dict.fromkeys(_SEEN, int)}
_KIND = {"kind": int, "digest": bytes, "action": str, "object": str}
_IDENTITY = {"identity": int, "digest": bytes, "name": str, "value": str, "actors": int, "is_joining": int}

Joined = tuple[int, int, int, int, int]  # the row of `joined`
T = TypeVar("T")


class Cache:
    """Facts that are known to be stored, until something is removed."""

    def __init__(self) -> None:
        self.actors: dict[str, int] = {}
        self.kinds: dict[tuple[str, str], int] = {}
        self.carried: dict[int, None] = {}  # hashes of an actor with an identity, as a trigger has them
        self._removals = -1

    def begin(self, removals: int) -> None:
        """Forget what may have been removed, and the oldest of what is too much."""
        length = _CACHED if removals == self._removals else 0
        _shorten(self.actors, length)
        _shorten(self.kinds, length)
        _shorten(self.carried, length)
        self._removals = removals


def _shorten(known: dict[T, Any], length: int) -> None:
    """Remove the oldest, to half of a length, if there are more."""
    if len(known) > length:
        for key in list(islice(known, len(known) - length // 2)):
            del known[key]


@dataclass(slots=True)
class _Actor:
    """An actor in a batch."""

    actor_id: str  # as the columns have it
    first_seen: int
    last_seen: int
    triggers: int = 0
    newest: int = 0  # arrival
    number: int = 0
    digest: bytes = b""  # of a new one
    identities: dict[int, Identity] = field(default_factory=dict)  # that are perhaps not known, by their hash
    attributes: dict[str, tuple[int, str]] = field(default_factory=dict)  # when it was recorded, and the value

    def add_facts(self, facts: Facts, recorded_at: int, carried: Container[int]) -> None:
        for name, value in facts.identities:
            key = hash((self.actor_id, name, value))
            if key not in carried and key not in self.identities:
                self.identities[key] = make_identity(name, value)
        attributes = self.attributes
        for name, text in facts.attributes:
            latest = attributes.get(name)
            if latest is None or (recorded_at, text) > latest:
                attributes[name] = (recorded_at, text)


class Batch:
    """The next triggers."""

    def __init__(self, snapshot: Snapshot, limit: int, cache: Cache) -> None:
        ((arrival, actor, identity, kind, removals),) = snapshot.execute(SELECT_JOINED, [])
        self.joined: Joined = (int(arrival), int(actor), int(identity), int(kind), int(removals))
        self.cache = cache
        self.last = self.joined[0]
        self.actors: dict[str, _Actor] = {}
        self.events: list[tuple[int, _Actor, tuple[str, str], int, int]] = []
        cache.begin(self.joined[4])
        self._read(snapshot, limit)

    def __len__(self) -> int:
        return len(self.events)

    def _read(self, snapshot: Snapshot, limit: int) -> None:
        size, actors, carried = 0, self.actors, self.cache.carried
        self.is_last = False
        for row in snapshot.execute(_SELECT_NEW, [self.last, snapshot.horizon, limit]):
            arrival, actor_id, action, obj, recorded_at, body = row
            actor = actors.get(actor_id)
            if actor is None:
                actor = actors[actor_id] = _Actor(actor_id, recorded_at, recorded_at)
            self.events.append((arrival, actor, (action, obj), recorded_at, actor.newest))
            actor.newest = self.last = arrival
            actor.triggers += 1
            if recorded_at < actor.first_seen:
                actor.first_seen = recorded_at
            elif recorded_at > actor.last_seen:
                actor.last_seen = recorded_at
            if '"captured_' in body:
                actor.add_facts(read_facts(body), recorded_at, carried)
            size += len(body)
            if size > _AT_ONCE_CHARS:
                return
        self.is_last = len(self.events) < limit


@dataclass(slots=True)
class _Carried:
    """An identity in a batch, with actors that are perhaps not known to carry it."""

    identity: Identity
    number: int = 0
    actors: int = 0  # that carried it before
    is_joining: int = 1
    is_new: bool = True
    carriers: set[int] = field(default_factory=set)  # that did not before


class Joining:
    """Writes the changes of a batch, in one transaction."""

    def __init__(self, store: Store, batch: Batch, transaction: Transaction, max_actors: int) -> None:
        self._store = store
        self._batch = batch
        self._select = partial(store.select_given, transaction.execute)
        self._run = partial(store.run_given, transaction.execute)
        self._execute = transaction.execute
        self._max_actors = max_actors
        _, self._last_actor, self._last_identity, self._last_kind, _ = batch.joined
        self._actors = list(batch.actors.values())
        self._new_kinds: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._identities: dict[Identity, _Carried] = {}
        self._people = Regrouping(self._select)

    def run(self) -> bool:
        """Write the changes; return False if others have joined or removed triggers since the snapshot."""
        rows = list(self._execute(self._store.lock_joined, []))
        if [tuple(map(int, row)) for row in rows] != [self._batch.joined]:
            return False
        self._find_actors()
        self._find_kinds()
        self._find_identities()
        self._join()
        self._write_events()
        self._write_actors()
        self._write_identities()
        last = [self._batch.last, self._last_actor, self._last_identity, self._last_kind]
        self._execute(_UPDATE_JOINED, last)
        return True

    def learn(self) -> None:
        """Remember what is stored, after the commit."""
        cache = self._batch.cache
        for kind, (number, _) in self._new_kinds.items():
            cache.kinds[kind] = number
        for actor in self._actors:
            cache.actors[actor.actor_id] = actor.number
            cache.carried.update(dict.fromkeys(actor.identities))

    def _find_actors(self) -> None:
        restore, known = self._store.restore, self._batch.cache.actors
        unknown: dict[bytes, _Actor] = {}
        for actor in self._actors:
            actor.number, actor.digest = known.get(actor.actor_id, 0), b""
            if not actor.number:
                unknown[digest(restore(actor.actor_id))] = actor
        for key, number in self._select(_SELECT_ACTORS, {"digest": bytes}, zip(unknown, strict=True)):
            unknown[key].number = number
        for key, actor in unknown.items():
            if not actor.number:
                self._last_actor += 1
                actor.digest, actor.number = key, self._last_actor

    def _find_kinds(self) -> None:
        restore, known = self._store.restore, self._batch.cache.kinds
        unknown = {event[2] for event in self._batch.events if event[2] not in known}
        by_digest = {digest(*map(restore, kind)): kind for kind in unknown}
        for key, number in self._select(_SELECT_KINDS, {"digest": bytes}, zip(by_digest, strict=True)):
            known[by_digest.pop(key)] = number
        for key, kind in by_digest.items():
            self._last_kind += 1
            self._new_kinds[kind] = (self._last_kind, key)

    def _find_identities(self) -> None:
        known = self._identities
        for actor in self._actors:
            for identity in actor.identities.values():
                found = known.get(identity)
                if found is None:
                    found = known[identity] = _Carried(identity, is_joining=int(identity.may_join))
                found.carriers.add(actor.number)
        by_digest = {identity.digest: found for identity, found in known.items()}
        selected = self._select(_SELECT_IDENTITIES, {"digest": bytes}, zip(by_digest, strict=True))
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
        people, changed = self._people, [found for found in self._identities.values() if found.carriers]
        new = {actor.number for actor in self._actors if actor.digest}
        for number in new:
            people.add(number, None)
        old = {number for found in changed for number in found.carriers} - new
        for actor, person in self._select(_SELECT_PERSONS, {"actor": int}, zip(old, strict=True)):
            people.add(actor, person)
        changed = [found for found in changed if found.is_joining]
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

    def _write_actors(self) -> None:
        new, old = [], []
        for actor in sorted(self._actors, key=lambda actor: actor.number):
            seen = (actor.first_seen, actor.last_seen, actor.triggers, actor.newest)
            if actor.digest:
                person = self._people.person_of(actor.number)
                new.append((actor.number, actor.digest, actor.actor_id, person, *seen))
            else:
                old.append((actor.number, *seen))
        self._run(_INSERT_ACTORS, _ACTOR, new)
        self._run(_UPDATE_ACTORS, {name: _ACTOR[name] for name in ("actor", *_SEEN)}, old)
        self._people.write(self._run)
        attributes = [
            (actor.number, self._store.escape(name), value, recorded_at)
            for actor in self._actors
            for name, (recorded_at, value) in actor.attributes.items()
        ]
        columns = {"actor": int, "name": str, "value": str, "recorded_at": int}
        self._run(_INSERT_ATTRIBUTES, columns, sorted(attributes))

    def _write_identities(self) -> None:
        changed = [found for found in self._identities.values() if found.carriers]
        new, old, links = [], [], list[tuple[int, int]]()
        for found in changed:
            counts = (found.actors + len(found.carriers), found.is_joining)
            if found.is_new:
                name, value = self._store.escape(found.identity.name), dump(found.identity.value)
                new.append((found.number, found.identity.digest, name, value, *counts))
            else:
                old.append((found.number, *counts))
            links += [(found.number, actor) for actor in found.carriers]
        self._run(_INSERT_IDENTITIES, _IDENTITY, new)
        self._run(_UPDATE_IDENTITIES, {"identity": int, "actors": int, "is_joining": int}, old)
        self._run(_INSERT_LINKS, {"identity": int, "actor": int}, links)

    def _write_events(self) -> None:
        self._run(_INSERT_KINDS, _KIND, [(*new, *kind) for kind, new in self._new_kinds.items()])
        columns = {"arrival": int, "actor": int, "kind": int, "recorded_at": int}
        kinds = self._batch.cache.kinds | {kind: number for kind, (number, _) in self._new_kinds.items()}
        facts = (
            (arrival, actor.number, kinds[kind], recorded_at, previous)
            for arrival, actor, kind, recorded_at, previous in self._batch.events
        )
        if self._store.has_chains:
            self._run(_INSERT_CHAINED, {**columns, "previous": int}, facts)
        else:
            self._run(_INSERT_EVENTS, columns, [fact[:4] for fact in facts])
