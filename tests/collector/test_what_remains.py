"""After any removal, people are as if only the triggers that remain had been sent, on both engines."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from brockman.collector.store import open_store
from brockman.collector.store.base import Store
from brockman.collector.store.erasure import Erasure, identities_of
from brockman.collector.store.people import People
from brockman.collector.store.values import Person, SharedIdentity
from brockman.collector.timestamps import format_timestamp
from brockman.collector.validation import make_row
from tests.collector.running import trigger

Sent = dict[str, Any]
BOUND = 4
PLACEHOLDER = ("email", "unknown")
MARKS = re.compile(r"mark\d+\.")


def sent_identities(sent: Sent) -> set[tuple[str, str]]:
    return identities_of(json.dumps(sent))


class Expected:
    """Recomputes people from triggers in the simplest way."""

    def __init__(self) -> None:
        self.stored: dict[str, Sent] = {}  # in the order of arrival
        self.received: dict[str, int] = {}
        self.pending: list[str] = []
        self.known: dict[
            str, list[Sent]
        ] = {}  # from which each actor is known; after an age limit, older ones too
        self.shared: set[tuple[str, str]] = set()  # that too many had
        self.erased: dict[str, Sent] = {}

    def carriers(self, identity: tuple[str, str]) -> set[str]:
        return {a for a, triggers in self.known.items() if any(identity in sent_identities(s) for s in triggers)}

    def joins(self, identity: tuple[str, str]) -> bool:
        return identity != PLACEHOLDER and identity not in self.shared

    def identities(self, actors: Iterable[str]) -> set[tuple[str, str]]:
        return {one for actor in actors for sent in self.known[actor] for one in sent_identities(sent)}

    def join(self, limit: int) -> None:
        some, self.pending = self.pending[:limit], self.pending[limit:]
        for trigger_id in some:
            sent = self.stored[trigger_id]
            self.known.setdefault(sent["actor_id"], []).append(sent)
        self.shared |= {one for one in self.identities(self.known) if len(self.carriers(one)) > BOUND}

    def people(self) -> set[frozenset[str]]:
        people = [{actor} for actor in self.known]
        for identity in filter(self.joins, self.identities(self.known)):
            carriers = self.carriers(identity)
            joined = [person for person in people if person & carriers]
            people = [person for person in people if not person & carriers] + [set().union(*joined)]
        return {frozenset(person) for person in people}

    def own(self, actors: Iterable[str]) -> list[Sent]:
        """Return the triggers of actors that are stored and joined."""
        waiting = set(self.pending)
        return [sent for id, sent in self.stored.items() if id not in waiting and sent["actor_id"] in actors]

    def remove(self, ids: Iterable[str]) -> None:
        for trigger_id in list(ids):
            del self.stored[trigger_id], self.received[trigger_id]
        self.pending = [trigger_id for trigger_id in self.pending if trigger_id in self.stored]
        remaining = {sent["actor_id"] for sent in self.own(self.known)}
        self.known = {actor: sent for actor, sent in self.known.items() if actor in remaining}

    def prune(self, before: int) -> int:
        old = [trigger_id for trigger_id, received in self.received.items() if received < before]
        self.remove(old)
        self._end()
        return len(old)

    def erase(self, actors: set[str], identity: tuple[str, str] | None) -> int:
        gone = {
            trigger_id: sent
            for trigger_id, sent in self.stored.items()
            if sent["actor_id"] in actors or identity in sent_identities(sent)
        }
        own = {identity} if identity else set()
        if identity and actors:
            own |= {one for sent in gone.values() for one in sent_identities(sent) if self.joins(one)}
        self.erased |= gone
        self.remove(gone)
        touched = {sent["actor_id"] for sent in gone.values()} | actors
        touched = touched.union(*(self.carriers(one) for one in own if one))
        for actor in touched & set(self.known):
            self.known[actor] = self.own([actor])
        self._end()
        return len(gone)

    def _end(self) -> None:
        self.shared &= self.identities(self.known)

    def actors_with(self, identity: tuple[str, str]) -> set[str]:
        if not self.joins(identity):
            return set()
        carriers = {sent["actor_id"] for sent in self.stored.values() if identity in sent_identities(sent)}
        joined = self.carriers(identity)
        return carriers.union(*(person for person in self.people() if person & joined))


class Life:
    """A store, and what is expected of it."""

    def __init__(self, location: str, seed: int) -> None:
        self.location = location
        self.rand = random.Random(seed)
        self.expected = Expected()
        self.numbers = count()
        self.removed = 0
        self.now = 1000
        self.open()

    def open(self) -> None:
        self.store: Store = open_store(self.location)
        self.people = People(self.store, max_actors=BOUND)
        self.store.parts = (self.people,)

    def some(self) -> Sent:
        rand, mark = self.rand, f"mark{next(self.numbers)}."
        identities: dict[str, Any] = {}
        if rand.random() < 0.3:
            identities["email"] = rand.choice(["{}@example.com", " {}@EXAMPLE.com"]).format(rand.randrange(25))
        if rand.random() < 0.2:
            identities["user"] = [rand.randrange(1, 30), str(rand.randrange(1, 30))]
        if rand.random() < 0.1:
            identities["email"] = rand.choice(["unknown", "team@example.com"])
        if rand.random() < 0.1:
            identities["device"] = mark
        attributes = {name: mark for name in ("plan", "town", "team") if rand.random() < 0.3}
        return trigger(
            actor_id=f"actor {rand.randrange(25)}",
            action=rand.choice(["viewed", "paid", f"wrote {mark}"]),
            recorded_at=format_timestamp(rand.randrange(10**9) * 1_000_000),
            captured_identities=identities,
            captured_attributes=attributes,
        )

    def add(self) -> None:
        self.now += 10
        new = {sent["id"]: sent for sent in (self.some() for _ in range(self.rand.randrange(1, 30)))}
        received = self.now - self.rand.choice([0, 0, 0, 60])  # the clock of another collector
        assert self.store.add([make_row(sent, received, str) for sent in new.values()]).stored == len(new)
        self.expected.stored |= new
        self.expected.received |= dict.fromkeys(new, received)
        self.expected.pending += new

    def join(self) -> None:
        limit = self.rand.randrange(1, 40)
        assert self.people.join_some(limit) is not None
        self.expected.join(limit)

    def prune(self) -> None:
        before = self.now - self.rand.randrange(60, 150)
        pruned = self.expected.prune(before)
        assert self.store.prune(before) == pruned
        self.removed += pruned

    def erase_actor(self) -> None:
        actor = f"actor {self.rand.randrange(25)}"
        self.erased(self.expected.erase({actor}, None), actor_id=actor)

    def erase_identity(self) -> None:
        choices = [one for one in self.expected.identities(self.expected.known) if one != PLACEHOLDER]
        if choices:
            self.erase(self.rand.choice(sorted(choices)))

    def erase_shared(self) -> None:
        self.erase(self.rand.choice([PLACEHOLDER, ("email", "team@example.com")]))

    def erase(self, identity: tuple[str, str]) -> None:
        self.erased(self.expected.erase(self.expected.actors_with(identity), identity), identity=identity)

    def erased(self, number: int, **subject: Any) -> None:
        erasure = Erasure(self.store, self.people.find_actors, only_joining=self.people.only_joining)
        erased = erasure.run(**subject)
        assert erased.triggers == number
        self.removed += number
        known = [*self.expected.stored.values(), *self.expected.known.values()]
        with self.store.reading() as snapshot:
            rows = [
                tuple(row)
                for table in ("triggers", "actors", "identities", "attributes", "kinds")
                for row in snapshot.execute(f"SELECT * FROM {table}", [])
            ]
        assert set(MARKS.findall(repr(rows))) <= set(MARKS.findall(json.dumps(known)))
        if erased.is_overwritten:
            path = Path(self.location)
            raw = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*")).decode("latin-1")
            assert set(MARKS.findall(raw)) <= set(MARKS.findall(json.dumps(known)))

    def repeat(self) -> None:
        again = [*self.expected.erased.values(), *self.expected.stored.values()]
        again = self.rand.sample(again, min(20, len(again)))
        assert self.store.add([make_row(sent, self.now, str) for sent in again]).stored == 0

    def restart(self) -> None:
        self.store.close()
        self.open()

    def check(self) -> None:
        expected = self.expected
        groups = expected.people()
        assert self.people.page(limit=1).total == len(groups)
        assert self.people.pending() == len(expected.pending)
        for actors in self.rand.sample(sorted(map(sorted, groups)), min(5, len(groups))):
            found = self.people.find_actor(actors[0])
            assert found is not None
            self.check_person(found, set(actors))
        counts = self.store.counts()
        assert (counts.triggers, counts.removed) == (len(expected.stored), self.removed)
        with self.store.reading() as snapshot:
            kinds = {tuple(row) for row in snapshot.execute("SELECT action, object FROM kinds", [])}
            identities = Counter(name for (name,) in snapshot.execute("SELECT name FROM identities", []))
        assert kinds == {(sent["action"], sent["object"]) for sent in expected.own(expected.known)}
        assert identities == Counter(name for name, _ in expected.identities(expected.known))

    def check_person(self, found: Person, actors: set[str]) -> None:
        expected, own = self.expected, self.expected.own(actors)
        known = [sent for actor in actors for sent in expected.known[actor]]
        assert (set(found.actor_ids), found.triggers) == (actors, len(own))
        times = [sent["recorded_at"] for sent in known]
        assert [format_timestamp(found.first_seen), format_timestamp(found.last_seen)] == [min(times), max(times)]
        attributes = {
            name: json.dumps(text)
            for sent in sorted(known, key=lambda sent: sent["recorded_at"])
            for name, text in sent["captured_attributes"].items()
        }
        assert found.attributes == attributes
        identities = expected.identities(actors)
        assert {(name, json.loads(text)) for name, texts in found.identities.items() for text in texts} == {
            one for one in identities if expected.joins(one)
        }
        assert sorted(found.not_joined, key=str) == sorted(
            (
                SharedIdentity(name, json.dumps(text), len(expected.carriers((name, text))))
                for name, text in identities
                if not expected.joins((name, text))
            ),
            key=str,
        )
        assert list(self.timeline(found, newest_first=True)) == own[::-1]
        assert list(self.timeline(found, newest_first=False)) == own

    def timeline(self, person: Person, *, newest_first: bool) -> Iterator[Sent]:
        after = None
        while True:
            page = self.people.timeline(person, limit=7, after=after, newest_first=newest_first)
            yield from map(json.loads, page.bodies)
            after = page.next
            if after is None:
                return


ACTIONS = [
    *["add", "join"] * 5,
    *["prune", "erase_actor", "erase_identity", "erase_shared"] * 2,
    "repeat",
    "restart",
]


@pytest.mark.parametrize("seed", range(2))
def test_people_are_what_the_triggers_that_remain_say(location: str, seed: int) -> None:
    life = Life(location, seed)
    try:
        for number in range(60):
            action = "add" if number < 5 else life.rand.choice(ACTIONS)
            getattr(life, action)()
            try:
                life.check()
            except AssertionError as error:
                raise AssertionError(f"after step {number}, {action}") from error
    finally:
        life.store.close()
