"""People are joined by what their triggers share, in every order, on both engines."""

from __future__ import annotations

import json
import random
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from brockman.collector.ingest import read_triggers
from brockman.collector.store import open_store
from brockman.collector.store.base import Store
from brockman.collector.store.erasure import Erasure
from brockman.collector.store.joining import Batch, Cache, Joining
from brockman.collector.store.people import People
from brockman.collector.store.sqlite_schema import M001_INITIAL, M002_REMOVAL
from brockman.collector.store.values import Person, Query, SharedIdentity
from brockman.collector.timestamps import format_timestamp
from tests.collector.running import make_row, trigger

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


def test_a_timeline_has_all_that_is_left(store: Store) -> None:
    """Also where the removed triggers are not the oldest of an actor: after a clock was ahead, for instance."""
    rand, people, known = random.Random(11), People(store), list[dict[str, Any]]()
    store.parts = (people,)
    for _ in range(12):
        new = [seen(rand.choice("abc"), variables={"ahead": rand.random() < 0.1}) for _ in range(20)]
        for sent in new:
            store.add(read_triggers(json.dumps(sent).encode(), 2 if sent["variables"]["ahead"] else 0).rows)
        join(people)
        known += new
        if rand.random() < 0.5:
            known = [sent for sent in known if sent["variables"]["ahead"]]
            store.prune(1)
        else:
            arrivals = rand.sample(store.page(Query(limit=1000)).arrivals, 10)
            store.write(partial(store.remove, arrivals=sorted(arrivals)))
            known = [json.loads(body) for body in store.page(Query(limit=1000)).bodies]
        for actor_id in {sent["actor_id"] for sent in known}:
            person = people.find_actor(actor_id)
            assert person is not None
            own = [sent for sent in known if sent["actor_id"] == actor_id]
            assert person.triggers == len(own)
            assert list(read_timeline(people, person)) == own[::-1]
            assert list(read_timeline(people, person, newest_first=False)) == own


def test_what_is_removed_while_it_is_joined_is_not_known(store: Store) -> None:
    """A batch that was read before a removal is not written after it."""
    people = People(store)
    store.parts = (people,)
    add(store, seen("ada"), seen("ada"), seen("bob"))
    with store.reading() as snapshot:
        batch = Batch(snapshot, 5000, Cache())
    assert Erasure(store, people.find_actors).run(actor_id="ada").triggers == 2
    add(store, seen("ada"))
    assert store.write(lambda transaction: Joining(store, batch, transaction, 200).run()) is False
    assert people.join_some() is False
    assert store.write(lambda transaction: Joining(store, batch, transaction, 200).run()) is False
    assert {person.actor_ids[0]: person.triggers for person in all_people(people)} == {"ada": 1, "bob": 1}


@pytest.mark.parametrize(
    "value", ["", " ", "null", "Undefined", "UNKNOWN", "none", 0, "0", True, False, "false", "N/A"]
)
def test_a_placeholder_joins_nobody(store: Store, value: Any) -> None:
    people = People(store)
    add(store, *(seen(actor, captured_identities={"user": value}) for actor in ("ada", "bob")))
    join(people)
    assert people.page(limit=10).total == 2
    (shared,) = people.shared_identities()
    assert (shared.name, shared.actors) == ("user", 2)
    assert people.find_identity("user", json.loads(shared.value)) == shared


def test_an_identity_of_too_many_actors_joins_nobody(store: Store) -> None:
    """Those whom it had joined are apart again, but for what else they share; it is shown what was not joined."""
    people = People(store, max_actors=3)
    add(store, *(seen(actor, captured_identities={"email": "team@example.com"}) for actor in "abc"))
    add(store, *(seen(actor, captured_identities={"user": [7, 8]}) for actor in "bc"))
    join(people)
    assert [person.actors for person in all_people(people)] == [3]
    add(store, seen("d", captured_identities={"email": "TEAM@example.com", "user": 8}))
    join(people)
    assert {frozenset(person.actor_ids) for person in all_people(people)} == {frozenset("a"), frozenset("bcd")}
    shared = SharedIdentity("email", '"team@example.com"', 4)
    assert people.shared_identities() == [shared]
    assert people.find_identity("email", "team@example.com") == shared
    found = people.find_actor("d")
    assert found is not None
    assert (found.identities, found.not_joined) == ({"user": ['"7"', '"8"']}, [shared])


def test_people_are_found_by_actor_ids_and_identities(store: Store) -> None:
    """In any case; `%` and `_` are characters like others, and names of any length and character are."""
    people = People(store)
    long = "x" * 5000
    add(store, seen("Ada%", 2, captured_identities={"email": "ada@example.com"}), seen("ada_2", 1))
    add(store, seen("\0\ufdd0", captured_identities={"\0": "\0", long: 1}, captured_attributes={"\0": "\0"}))
    add(store, seen(long, 3, action=long, object=long, captured_identities={"user": long}))
    join(people)

    def found(search: str) -> list[str]:
        return [
            actor_id for person in people.page(search=search, limit=10).people for actor_id in person.actor_ids
        ]

    assert found("ADA") == ["Ada%", "ada_2"]
    assert found("a%") == ["Ada%"]
    assert found("a_2") == ["ada_2"]
    assert found("@EXAMPLE") == ["Ada%"]
    assert found("\0") == ["\0\ufdd0"]
    assert found("xx") == [long]
    assert found("exploded") == []
    (odd,) = people.page(search="\0", limit=1).people
    assert (odd.identities, odd.attributes) == ({"\0": ['"\\u0000"']}, {"\0": '"\\u0000"'})
    assert people.find_identity("user", long) == people.find_actor(long)


def test_a_body_that_cannot_be_read_counts_without_facts(store: Store) -> None:
    people = People(store)
    bodies = [
        '{"captured_identities": 7}',
        '{"captured_',
        '["captured_"]',
        '{"captured_identities": {"a": {"b": null}}}',
    ]
    store.add([make_row(body, body=body) for body in bodies])
    join(people)
    ((person,),) = (people.page(limit=10).people,)
    assert person.triggers == 4


def test_triggers_of_an_older_file_are_joined(tmp_path: Path) -> None:
    """A file that was made before there were people."""
    path = tmp_path / "old.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        for statement in (*M001_INITIAL, *M002_REMOVAL):
            connection.execute(statement)
        for number in range(3):
            connection.execute(
                "INSERT INTO triggers (id, actor_id, action, object, recorded_at, received_at, body)"
                " VALUES (?, 'ada', 'viewed', 'page', 0, 0, '{}')",
                [str(number)],
            )
        connection.execute("PRAGMA user_version = 2")
        connection.commit()
    with closing(open_store(path)) as store:
        people = People(store)
        assert people.pending() == 3
        join(people)
        assert [(person.actor_ids, person.triggers) for person in all_people(people)] == [(["ada"], 3)]
