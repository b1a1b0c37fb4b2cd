"""`GET /api/v1/person/` and `/api/v1/people/`, as a client sees them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from brockman.collector.store import open_store
from brockman.collector.store.people import People
from brockman.collector.store.values import Query
from tests.cli.conftest import listening
from tests.collector.killing import Senders
from tests.collector.running import Running, trigger
from tests.collector.test_people import all_people, components, join
from tests.collector.test_serving_postgresql import SERVE
from tests.support.programs import free_port
from tests.support.waiting import eventually


def person(collector: Running, **parameters: str) -> dict[str, Any]:
    answer = collector.get("person/", **parameters)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["pending"] == 0
    return dict(found)


@pytest.fixture
def started(start: Callable[..., Running], location: str) -> Running:
    """A collector on each engine."""
    return start(database=location)


def test_actor_ids_that_share_an_identity_are_one_person(started: Running) -> None:
    """At once; also when a later trigger joins two people that were there before."""
    ada = trigger(
        actor_id="cookie-1", recorded_at="2026-11-23T10:00:00Z", captured_identities={"email": "ada@example.com"}
    )
    phone = trigger(actor_id="phone", recorded_at="2026-11-21T10:00:00Z", captured_identities={"user": 42})
    started.post([ada, phone])
    assert person(started, actor_id="phone")["actor_ids"] == ["phone"]
    both = trigger(
        actor_id="cookie-2",
        recorded_at="2026-11-22T10:00:00Z",
        captured_identities={"email": " Ada@Example.com", "user": "42"},
        captured_attributes={"plan": "pro"},
    )
    started.post(both)
    found = person(started, identity="email:ADA@example.com")
    assert found.pop("triggers") == [both, phone, ada]
    assert found == {
        "actor_ids": ["cookie-1", "cookie-2", "phone"],
        "identities": {"email": ["ada@example.com"], "user": ["42"]},
        "attributes": {"plan": "pro"},
        "first_seen": "2026-11-21T10:00:00.000000Z",
        "last_seen": "2026-11-23T10:00:00.000000Z",
        "not_joined": [],
        "total": 3,
        "next": None,
        "pending": 0,
    }
    assert person(started, actor_id="phone")["actor_ids"] == found["actor_ids"]


def test_an_identity_whose_name_has_colons_is_found(started: Running) -> None:
    """The text is split at the first colon that leads to a person."""
    started.post(trigger(actor_id="7", captured_identities={"urn:shop:user": "a:b", "urn": "x:y"}))
    for text in ("urn:shop:user:a:b", "urn:x:y"):
        assert person(started, identity=text)["actor_ids"] == ["7"]
    assert started.get("person/", identity="urn:" * 1000).status_code == 404


def test_a_person_is_read_page_by_page(started: Running) -> None:
    """In both orders; an actor id that nobody has is a 404."""
    sent = [trigger(actor_id=f"cookie-{n % 2}", captured_identities={"user": "ada"}) for n in range(5)]
    started.post(sent)
    for order, expected in (("newest", sent[::-1]), ("oldest", sent)):
        found, after = [], {}
        while True:
            page = person(started, actor_id="cookie-1", order=order, limit="2", **after)
            assert (page["total"], len(page["triggers"]) <= 2) == (5, True)
            found += page["triggers"]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert found == expected
    for unknown in ({"actor_id": "bob"}, {"identity": "user:bob"}, {"identity": "user:"}):
        answer = started.get("person/", **unknown)
        assert (answer.status_code, answer.json()) == (404, {"error": "no person has it"})


def test_people_are_listed_page_by_page(started: Running) -> None:
    """The last seen first; an identity that joins nobody is named."""
    sent = [
        trigger(
            actor_id=f"actor {n:02}",
            recorded_at=f"2026-11-{n + 1:02}T00:00:00Z",
            captured_identities={"user": "none"},
        )
        for n in range(12)
    ]
    started.post(sent)
    found, after = [], {}
    while True:
        page = started.get("people/", limit="5", search="ACTOR", **after).json()
        found += page["people"]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert [entry["actor_ids"] for entry in found] == [[f"actor {n:02}"] for n in range(11, -1, -1)]
    assert page["not_joined"] == [{"name": "user", "value": "none", "actors": 12}]
    assert (page["total"], page["pending"]) == (12, 0)
    assert found[0] == {
        "actor_ids": ["actor 11"],
        "actors": 1,
        "identities": {},
        "attributes": {},
        "first_seen": "2026-11-12T00:00:00.000000Z",
        "last_seen": "2026-11-12T00:00:00.000000Z",
        "total": 1,
    }


@pytest.mark.parametrize(
    ("path", "parameters", "field"),
    [
        ("person/", {}, "actor_id"),
        ("person/", {"actor_id": "7", "identity": "user:7"}, "actor_id"),
        ("person/", {"actor_id": " "}, "actor_id"),
        ("person/", {"identity": "ada@example.com"}, "identity"),
        ("person/", {"actor_id": "7", "limit": "0"}, "limit"),
        ("person/", {"actor_id": "7", "after": "x"}, "after"),
        ("person/", {"actor_id": "7", "search": "x"}, "search"),
        ("people/", {"after": "7"}, "after"),
        ("people/", {"order": "newest"}, "order"),
        ("people/", {"search": "x" * 1001}, "search"),
    ],
)
def test_a_malformed_query_is_rejected(shared: Running, path: str, parameters: dict[str, str], field: str) -> None:
    answer = shared.get(path, **parameters)
    assert answer.status_code == 400
    assert field in answer.json()["error"]


@pytest.mark.parametrize("path", ["person/", "people/"])
def test_people_need_the_key(shared: Running, path: str) -> None:
    assert shared.get(path, key="wrong").status_code == 403


def test_the_bound_is_a_setting(start: Callable[..., Running]) -> None:
    collector = start(max_actors_per_identity=1)
    collector.post([trigger(actor_id=name, captured_identities={"user": "ada"}) for name in ("a", "b")])
    assert person(collector, actor_id="a")["not_joined"] == [{"name": "user", "value": "ada", "actors": 2}]
    answer = collector.get("person/", identity="user:ada")
    assert answer.status_code == 404
    assert "2 actor ids carry this identity" in answer.json()["error"]


def test_joining_goes_on_when_the_store_is_back(
    start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    """Requests for people get a 503 meanwhile; the log has a line at the begin, and one at the end."""
    collector = start()
    collector.post(trigger(actor_id="ada"))
    assert person(collector, actor_id="ada")["total"] == 1
    moved = collector.database.with_name("moved")
    collector.database.rename(moved)
    assert collector.get("person/", actor_id="ada").status_code == 503
    assert collector.get("people/").status_code == 503
    moved.rename(collector.database)
    collector.post(trigger(actor_id="ada"))
    assert eventually(lambda: collector.get("person/", actor_id="ada").json().get("total") == 2)
    assert eventually(lambda: "joined to people again" in caplog.text)
    lines = [record.getMessage() for record in caplog.records if "joined to people" in record.getMessage()]
    assert [line.split(":")[1].strip() for line in lines] == [
        "triggers are not joined to people",
        "triggers are joined to people again",
    ]


def test_a_kill_joins_each_trigger_once(location: str, tmp_path: Path) -> None:
    """Two collectors on one store join at the same time, and one of them is killed at any time."""
    rand, ports = random.Random(3), [free_port(), free_port()]

    def make() -> dict[str, Any]:
        actor = rand.randrange(300)
        return trigger(actor_id=str(actor), captured_identities={"user": f"user {actor % 200}"})

    with serving(location, tmp_path, ports[0]), Senders(ports, make=make) as senders:
        for _ in range(3):
            with serving(location, tmp_path, ports[1]) as collector:
                goal = senders.goal()
                assert eventually(lambda goal=goal: len(senders.acknowledged) > goal)
                assert collector.process is not None
                collector.process.kill()
    with closing(open_store(location)) as store:
        people = People(store)
        join(people)
        bodies = [json.loads(body) for body in store.page(Query(limit=1_000_000)).bodies]
        found = [people.find_actor(entry.actor_ids[0]) for entry in all_people(people)]
        assert {frozenset(person.actor_ids) for person in found if person} == components(bodies)
        counts = Counter(body["actor_id"] for body in bodies)
        assert len(bodies) == len(senders.acknowledged)
        for person in found:
            assert person is not None
            assert person.triggers == sum(counts[actor_id] for actor_id in person.actor_ids)
            timeline = people.timeline(person, limit=10_000).bodies
            assert len(timeline) == len(set(timeline)) == person.triggers


@contextmanager
def serving(location: str, folder: Path, port: int) -> Iterator[Running]:
    with listening([*SERVE, "--port", str(port), "--store", location], folder) as collector:
        yield collector
