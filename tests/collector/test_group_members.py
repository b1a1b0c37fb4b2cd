"""The members of a group, in both engines, against a plain evaluation of its definition in Python."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest

from brockman.collector import strict_json
from brockman.collector.groups import parse_definition
from brockman.collector.store.base import Store
from brockman.collector.store.groups import Groups
from brockman.collector.store.people import People
from brockman.collector.timestamps import format_timestamp
from brockman.collector.validation import make_row
from tests.collector.running import trigger

NOW = 1_800_000_000_000_000  # microseconds since 1970
DAY = 86_400_000_000
SCALARS: list[Any] = [
    *("pro", "Pro", "free", "", "a\0b", "a\\u0000b", "50%", "a_b", "\ufdd0", "100", "true", "ü", 'q"uo\\te'),
    *(0, 1, -1, 1.5, 100, 2**53 + 1, 2**62, True, False),
]
NAMES = ["plan", "age", "a.b", 'q"uo', "n\0ul", "$.x[0]", "ключ"]
ACTIONS, OBJECTS = ["viewed", "paid", "a\0b"], ["pricing", "docs"]


class Shop:
    """Random triggers in a store, and the people in them."""

    def __init__(self, store: Store, rand: random.Random, count: int) -> None:
        self.rand = rand
        self.triggers = [self._trigger(index) for index in range(count)]
        self.groups = Groups(store)
        self._people = People(store)
        rows = [make_row(dict(one), NOW, lambda: "") for one in self.triggers]
        for begin in range(0, count, 100):
            store.add(rows[begin : begin + 100])
        while self._people.join_some():
            pass
        with store.reading() as snapshot:
            people = self._people.read(snapshot, self.groups.members(parse_definition({}), NOW))
        self.actors = {person.number: set(person.actor_ids) for person in people}

    def value(self) -> Any:
        if self.rand.random() < 0.2:
            return [self.rand.choice(SCALARS) for _ in range(self.rand.randrange(3))]
        return self.rand.choice(SCALARS)

    def _values(self) -> dict[str, Any]:
        return {name: self.value() for name in NAMES if self.rand.random() < 0.3}

    def _trigger(self, index: int) -> dict[str, Any]:
        number = self.rand.randrange(40)
        return trigger(
            actor_id=f"user{number}",
            action=self.rand.choice(ACTIONS),
            object=self.rand.choice(OBJECTS),
            captured_identities={"email": f"Ada{number // 2}@example.com"} if number < 20 else {"id": number},
            captured_attributes=self._values(),
            variables=self._values(),
            recorded_at=format_timestamp(NOW - self.rand.randrange(10 * DAY)),
        )

    def members(self, definition: dict[str, Any]) -> set[int]:
        found = self.groups.members(parse_definition(definition), NOW)
        assert list(found) == sorted(set(found))
        return set(found)

    def expected(self, definition: dict[str, Any]) -> set[int]:
        """Return the members by the words of the documentation."""
        found = set()
        for number, actors in self.actors.items():
            own = [one for one in self.triggers if one["actor_id"] in actors]
            if (
                all(meets(own, actors, name, wanted) for name, wanted in definition.get("where", {}).items())
                and all(did(own, clause) for clause in definition.get("did", []))
                and not any(did(own, clause) for clause in definition.get("did_not", []))
            ):
                found.add(number)
        return found


def meets(own: Sequence[dict[str, Any]], actors: set[str], name: str, wanted: Any) -> bool:
    place, _, key = name.partition(".")
    if place == "actor_id":
        return passes(list(actors), wanted)
    if place == "identities":
        carried = [one["captured_identities"][key] for one in own if key in one["captured_identities"]]
        wanted = wanted if type(wanted) is dict else str(wanted).lower()
        return passes([str(value).lower() for value in carried], wanted)
    latest = [
        (one["recorded_at"], strict_json.dump(one["captured_attributes"][key]))
        for one in own
        if key in one["captured_attributes"]
    ]
    return passes(listed(strict_json.parse(max(latest)[1].encode())) if latest else [], wanted)


def did(own: Sequence[dict[str, Any]], clause: dict[str, Any]) -> bool:
    def counts(one: dict[str, Any]) -> bool:
        if "within_days" in clause:
            begin = format_timestamp(NOW - int(clause["within_days"] * DAY))
            if one["recorded_at"] < begin:
                return False
        if not clause.get("since", "") <= one["recorded_at"] < clause.get("until", "9"):
            return False
        return all(
            passes([one[name]] if name in one else listed(one["variables"].get(name[10:], [])), wanted)
            for name, wanted in clause.items()
            if name in ("action", "object") or name.startswith("variables.")
        )

    return sum(map(counts, own)) >= clause.get("times", 1)


def listed(value: Any) -> list[Any]:
    return value if type(value) is list else [value]


def passes(values: Sequence[Any], wanted: Any) -> bool:
    if type(wanted) is not dict:
        return any(same(value, one) for value in values for one in listed(wanted))
    if "not" in wanted:
        return not passes(values, wanted["not"])
    if "exists" in wanted:
        return bool(values) is wanted["exists"]
    if "contains" in wanted:
        return any(type(value) is str and wanted["contains"].lower() in value.lower() for value in values)
    low, high = wanted.get("at_least", float("-inf")), wanted.get("at_most", float("inf"))
    return any(type(value) in (int, float) and low <= value <= high for value in values)


def same(value: Any, wanted: Any) -> bool:
    return value == wanted and (type(value) is bool) is (type(wanted) is bool)


def wanted_value(rand: random.Random) -> Any:
    scalars = [one for one in SCALARS if one != ""]
    return rand.choice(
        [
            *(rand.choice(scalars), rand.choice(scalars), rand.sample(scalars, 3)),
            {"not": rand.choice([rand.choice(scalars), rand.sample(scalars, 2)])},
            {"at_least": rand.choice([0, 1, 1.5, 2**53])},
            {"at_most": rand.choice([0, 100, -0.5])},
            {"at_least": 1, "at_most": 99.5},
            {"contains": rand.choice(["P", "o", "%", "_", "\\", '"', "\0", "u0000", "0"])},
            {"exists": rand.random() < 0.5},
        ]
    )


def random_clause(rand: random.Random) -> dict[str, Any]:
    clause: dict[str, Any] = {}
    if rand.random() < 0.7:
        clause["action"] = rand.choice([*ACTIONS, ACTIONS[:2]])
    if rand.random() < 0.4 or not clause:
        clause["object"] = rand.choice([*OBJECTS, OBJECTS])
    for name in rand.sample(NAMES, rand.choice([0, 0, 1, 2])):
        clause[f"variables.{name}"] = wanted_value(rand)
    if rand.random() < 0.5:
        clause["times"] = rand.randrange(1, 4)
    if rand.random() < 0.3:
        clause["within_days"] = rand.choice([1, 2.5, 7])
    elif rand.random() < 0.3:
        clause["since"] = format_timestamp(NOW - rand.randrange(5, 9) * DAY)
        clause["until"] = format_timestamp(NOW - rand.randrange(1, 5) * DAY)
    return clause


def random_definition(rand: random.Random) -> dict[str, Any]:
    places = [f"attributes.{name}" for name in NAMES]
    where = {name: wanted_value(rand) for name in rand.sample(places, rand.randrange(3))}
    if rand.random() < 0.2:
        where["identities.email"] = rand.choice(
            ["ADA3@example.com", {"contains": "ADA1"}, {"exists": False}, {"not": ["ada1@example.com"]}]
        )
    if rand.random() < 0.1:
        where["identities.id"] = rand.choice([25, "25", {"not": [25, "26"]}, {"contains": "3"}, {"exists": True}])
    if rand.random() < 0.1:
        where["actor_id"] = rand.choice(["user7", ["user7", "user8"], {"contains": "1"}, {"not": "user9"}])
    return {
        "where": where,
        "did": [random_clause(rand) for _ in range(rand.choice([0, 0, 1, 2]))],
        "did_not": [random_clause(rand) for _ in range(rand.choice([0, 0, 1, 2]))],
    }


@pytest.mark.parametrize("seed", range(2))
def test_the_members_are_those_that_the_definition_says(store: Store, seed: int) -> None:
    """Random triggers, with hostile names and values, and random definitions of all operators."""
    shop = Shop(store, random.Random(seed), 600)
    assert len(shop.actors) == 30  # the first twenty actors are ten people
    sizes = set()
    for _ in range(150):
        definition = random_definition(shop.rand)
        members = shop.members(definition)
        assert members == shop.expected(definition), definition
        sizes.add(len(members))
    assert len(sizes) > 10  # the definitions are neither empty nor everybody


def test_people_who_are_joined_later_are_one_member(store: Store) -> None:
    """The triggers of two actors count together once a trigger shows that they are one person."""
    groups, people = Groups(store), People(store)
    numbers = itertools.count(1)

    def record(**more: Any) -> None:
        row = make_row(trigger(recorded_at=format_timestamp(next(numbers)), **more), NOW, lambda: "")
        store.add([row])
        people.join_some()

    twice = parse_definition({"where": {"attributes.plan": "pro"}, "did": [{"action": "viewed", "times": 2}]})
    record(actor_id="phone", captured_attributes={"plan": "pro"})
    record(actor_id="laptop", captured_attributes={"plan": "free"})
    assert len(groups.members(twice, NOW)) == 0
    for actor in ("phone", "laptop"):
        record(actor_id=actor, action="signed in", captured_identities={"email": "ada@example.com"})
    assert len(groups.members(twice, NOW)) == 0  # the plan that was recorded last is the one on the laptop
    record(actor_id="phone", action="upgraded", captured_attributes={"plan": "pro"})
    assert len(groups.members(twice, NOW)) == 1
