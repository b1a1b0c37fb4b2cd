"""People are joined by what their triggers share, in every order, on both engines."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from brockman.collector.ingest import read_triggers
from brockman.collector.store.base import Store
from brockman.collector.store.people import People
from brockman.collector.store.values import Person
from brockman.collector.timestamps import format_timestamp
from tests.collector.running import trigger

BOUND = 4


def seen(actor_id: str, at: int = 0, **more: Any) -> dict[str, Any]:
    """Return a trigger recorded some seconds after 1970."""
    return trigger(actor_id=actor_id, recorded_at=format_timestamp(at * 1_000_000), **more)


def add(store: Store, *triggers: dict[str, Any]) -> None:
    store.add(read_triggers(json.dumps(triggers).encode(), 0).rows)


def join(people: People, limit: int = 5000) -> None:
    while people.join_some(limit):
        pass


def all_people(people: People) -> list[Person]:
    found, after = list[Person](), None
    while True:
        page = people.page(limit=7, after=after)
        found += page.people
        if page.next is None:
            assert page.total == len(found)
            return found
        after = page.next


def components(triggers: Sequence[dict[str, Any]], bound: int = BOUND) -> set[frozenset[str]]:
    """Return the actor ids of each person, in the simplest way."""
    carriers = defaultdict[tuple[str, str], set[str]](set)
    for sent in triggers:
        for name, value in sent.get("captured_identities", {}).items():
            carriers[name, str(value).strip().lower() if name == "email" else str(value)].add(sent["actor_id"])
    people = [{sent["actor_id"]} for sent in triggers]
    for (_, value), actors in carriers.items():
        if value not in ("", "unknown") and len(actors) <= bound:
            joined = [person for person in people if person & actors]
            people = [person for person in people if not person & actors] + [set().union(*joined)]
    return {frozenset(person) for person in people}


def some_triggers(rand: random.Random, number: int) -> list[dict[str, Any]]:
    """Return triggers of actors of which some share an identity, some too many."""
    triggers = []
    for _ in range(number):
        identities: dict[str, Any] = {}
        if rand.random() < 0.5:
            identities["email"] = rand.choice(["{}@example.com", " {}@EXAMPLE.com"]).format(rand.randrange(60))
        if rand.random() < 0.1:
            identities["user"] = rand.choice([rand.randrange(1, 40), str(rand.randrange(1, 40)), "", "unknown"])
        if rand.random() < 0.1:
            identities["device"] = f"device {rand.randrange(4)}"
        actor, at, plan = str(rand.randrange(80)), rand.randrange(100), rand.choice(["free", "pro"])
        more = {"captured_identities": identities, "captured_attributes": {"plan": plan}}
        triggers.append(seen(actor, at, action=rand.choice("ab"), **more))
    return triggers


@pytest.mark.parametrize("seed", range(4))
def test_people_do_not_depend_on_the_order_of_arrival(store: Store, seed: int) -> None:
    """As many batches, and an identity too many share, change nothing: people are what all triggers say."""
    rand = random.Random(seed)
    triggers = some_triggers(rand, 300)
    rand.shuffle(triggers)
    people = People(store, max_actors=BOUND)
    sent = 0
    while sent < len(triggers):
        some = triggers[sent : sent + rand.randrange(1, 60)]
        add(store, *some)
        sent += len(some)
        join(people, rand.randrange(1, 40))
        found = all_people(people)
        assert {frozenset(person.actor_ids) for person in found if person.actors <= 10} == {
            actors for actors in components(triggers[:sent]) if len(actors) <= 10
        }
    assert people.pending() == 0
    whole_people = [people.find_actor(person.actor_ids[0]) for person in all_people(people)]
    assert {frozenset(person.actor_ids) for person in whole_people if person} == components(triggers)
    for person in all_people(people):
        whole = people.find_actor(person.actor_ids[0])
        assert whole is not None
        own = [sent for sent in triggers if sent["actor_id"] in whole.actor_ids]
        times = [sent["recorded_at"] for sent in own]
        assert (whole.actors, whole.triggers) == (len(whole.actor_ids), len(own))
        assert [format_timestamp(whole.first_seen), format_timestamp(whole.last_seen)] == [min(times), max(times)]
        latest = max((sent["recorded_at"], sent["captured_attributes"]["plan"]) for sent in own)
        assert json.loads(whole.attributes["plan"]) == latest[1]
        assert list(read_timeline(people, whole)) == own[::-1]
        assert list(read_timeline(people, whole, newest_first=False)) == own


def read_timeline(people: People, person: Person, *, newest_first: bool = True) -> Iterator[dict[str, Any]]:
    after = None
    while True:
        page = people.timeline(person, limit=3, after=after, newest_first=newest_first)
        yield from map(json.loads, page.bodies)
        if page.next is None:
            return
        after = page.next
