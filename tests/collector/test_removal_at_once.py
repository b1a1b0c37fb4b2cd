"""Several collectors of one store add, join and remove at the same time; nothing is counted wrong."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from brockman.collector.errors import StoreUnavailable
from brockman.collector.store import open_store
from brockman.collector.store.base import Store
from brockman.collector.store.erasure import Erasure
from brockman.collector.store.people import People
from brockman.collector.store.values import Person, Query
from brockman.collector.validation import make_row
from tests.collector.running import trigger

BOUND = 1000


class Collector:
    def __init__(self, location: str) -> None:
        self.store = open_store(location)
        self.people = People(self.store, max_actors=BOUND)
        self.store.parts = (self.people,)
        self.added = 0

    def add(self, rand: random.Random, received_at: int = 0) -> None:
        sent = [
            trigger(
                actor_id=f"actor {rand.randrange(40)}",
                action=f"did {rand.randrange(100)}",
                captured_identities={"email": f"{rand.randrange(60)}@example.com", "user": "unknown"},
                captured_attributes={"plan": rand.choice(["free", "pro"])},
            )
            for _ in range(20)
        ]
        self.added += self.store.add([make_row(one, received_at, str) for one in sent]).stored

    def join(self) -> None:
        while self.people.join_some(50):
            pass


@pytest.fixture
def collectors(location: str) -> Iterator[list[Collector]]:
    with ExitStack() as stack:
        found = [Collector(location) for _ in range(2)]
        for one in found:
            stack.enter_context(closing(one.store))
        yield found


@contextmanager
def repeating(*actions: Callable[[], None]) -> Iterator[None]:
    """Do something again and again in other threads, as a collector does, for the length of a block."""
    end, errors = threading.Event(), list[BaseException]()

    def run(action: Callable[[], None]) -> None:
        while not end.wait(0.02):  # others do much else too
            try:
                action()
            except StoreUnavailable:
                pass
            except BaseException as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=run, args=[action]) for action in actions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()
    assert errors == []


def stored(store: Store) -> list[dict[str, Any]]:
    bodies, after = list[str](), 0
    while True:
        page = store.page(Query(limit=1000, after=after))
        bodies += page.bodies
        if page.next is None:
            return [json.loads(body) for body in bodies]
        after = page.next


def known(people: People) -> dict[str, tuple[Any, ...]]:
    """Return what is known of the person of each actor."""
    found: dict[str, tuple[Any, ...]] = {}
    for n in range(40):
        person = people.find_actor(f"actor {n}")
        if person is not None:
            assert isinstance(person, Person)
            facts = (person.triggers, person.first_seen, person.last_seen, person.attributes, person.identities)
            bodies = people.timeline(person, limit=10_000).bodies
            found[f"actor {n}"] = (sorted(person.actor_ids), *facts, person.not_joined, bodies)
    return found


def tables(store: Store) -> dict[str, int]:
    names = ("actors", "identities", "links", "attributes", "kinds", "events")
    with store.reading() as snapshot:
        return {name: next(iter(snapshot.execute(f"SELECT count(*) FROM {name}", [])))[0] for name in names}


def test_what_is_erased_while_others_add_and_join_is_gone(collectors: list[Collector], tmp_path: Path) -> None:
    """People are those that a new store knows from what remains."""
    rand, (one, other) = random.Random(1), collectors
    erased = 0
    adding = random.Random(2)
    with repeating(lambda: other.add(adding), one.join, other.join):
        for n in range(12):
            one.add(rand)
            choices: list[dict[str, Any]] = [
                {"actor_id": f"actor {n}"},
                {"identity": ("user", "unknown")},
                {"identity": ("email", f"{n}@example.com")},
            ]
            erased += (
                Erasure(one.store, one.people.find_actors, only_joining=one.people.only_joining)
                .run(**choices[n % 3])
                .triggers
            )
    for _ in range(3):
        one.add(rand)
    one.join()
    remaining = stored(one.store)
    assert len(remaining) == one.added + other.added - erased == one.store.counts().triggers
    new = Collector(str(tmp_path / "new.sqlite3"))
    with closing(new.store):
        new.store.add([make_row(sent, 0, str) for sent in remaining])
        new.join()
        assert known(one.people) == known(other.people) == known(new.people)
        assert tables(one.store) == tables(new.store)


def test_collectors_that_prune_at_once_count_each_trigger_once(collectors: list[Collector]) -> None:
    rand, (one, other) = random.Random(3), collectors
    month = 31 * 86_400 * 1_000_000
    for n in range(30):
        rand.choice(collectors).add(rand, n * month // 10)
        rand.choice(collectors).join()
    with repeating(one.join, other.join):
        for n in range(10, 25, 5):
            before = n * month // 10
            threads = [threading.Thread(target=c.store.prune, args=[before]) for c in collectors]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    one.store.prune(20 * month // 10)  # what one left to the other
    other.join()
    remaining = stored(one.store)
    assert one.store.counts().triggers == len(remaining) == 200
    assert one.store.counts().removed == 400
    assert tables(other.store)["events"] == 200
    actors = known(one.people)
    assert actors == known(other.people)
    assert set(actors) == {sent["actor_id"] for sent in remaining}
    for actor_ids, triggers, *_, bodies in actors.values():
        own = [sent for sent in remaining if sent["actor_id"] in actor_ids]
        assert triggers == len(own)
        assert [json.loads(body) for body in bodies] == own[::-1]
