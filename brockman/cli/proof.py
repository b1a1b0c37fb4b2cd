"""The triggers of the demonstration, and the proof that the collector's database has exactly these."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from brockman.cli.source import Arguments

if TYPE_CHECKING:
    from brockman.collector.store.base import Store

NUMBER = "number"  # the variable with the trigger's number, counted from 1
_PEOPLE = 2000
_FIRST = ("Ada", "Björn", "Chidi", "Dolores", "Émile", "Fatima", "Grace", "Hiroshi", "Inés", "Jürgen", "Łucja")
_LAST = ("Okafor", "Novák", "Silva", "García", "Tanaka", "Larsen", "Moreau", "Schmidt", "Иванова")
_PLANS = ("free", "free", "free", "team", "business")
_PRODUCTS = ("desk lamp", "notebook", "headphones", "backpack", "tea pot", "bicycle pump", "camera", "chess set")
_POSTS = ("Ten quiet keyboards", "How we moved house", "What is new in May", "Über Fehler", "四季の料理")
_PAGES = ("home page", "pricing page", "careers page", "help page")
_TAGS = ("news", "product", "howto", "people", "sale", "python")
_WORDS = ("lamp", "blue notebook", "gift", "pump", "café", "noise cancelling", "size 42")
_ACTIONS = ("viewed", "searched", "added to cart", "bought", "signed up", "cancelled", "rated")
_WEIGHTS = (60, 12, 10, 6, 3, 2, 7)


def compose(seed: int, number: int) -> Arguments:
    """Return the trigger of a number, counted from 1."""
    random = Random(seed * 2**40 + number)
    actor = int(_PEOPLE * random.random() ** 2)  # some often, most rarely
    identities, attributes = _person(actor)
    (action,) = random.choices(_ACTIONS, _WEIGHTS)
    obj, variables = _act(random, action)
    return Arguments(str(1000 + actor), action, obj, identities, attributes, {NUMBER: number, **variables})


@lru_cache(maxsize=_PEOPLE)
def _person(actor: int) -> tuple[dict[str, str], dict[str, Any]]:
    random = Random(actor)
    name = f"{random.choice(_FIRST)} {random.choice(_LAST)}"
    identities = {"email": f"person{actor}@example.com"}
    if random.random() < 0.2:
        identities["phone"] = f"+4930{random.randrange(10**6):06d}"
    visits, newsletter, plan = random.randrange(1, 400), random.random() < 0.4, random.choice(_PLANS)
    return identities, {"name": name, "plan": plan, "visits": visits, "newsletter": newsletter}


def _act(random: Random, action: str) -> tuple[str, dict[str, Any]]:
    """Return the object of an action, and variables."""
    if action == "viewed":
        if random.random() < 0.4:
            return random.choice(_PAGES), {"seconds": round(random.expovariate(1 / 20), 1)}
        return "blog post", {"title": random.choice(_POSTS), "tags": random.sample(_TAGS, random.randrange(4))}
    if action == "searched":
        return "shop", {"query": random.choice(_WORDS), "hits": random.randrange(60)}
    if action in ("signed up", "cancelled"):
        return random.choice(_PLANS), {"trial": random.random() < 0.5}
    product = random.choice(_PRODUCTS)
    if action == "rated":
        return product, {"stars": random.randint(1, 5)}
    price = random.randrange(500, 20000) / 100
    return product, {"price": price, "quantity": random.randint(1, 3), "gift": random.random() < 0.1}


_PAGE_SIZE = 10_000
_MAX_LISTED = 10  # numbers in a problem


@dataclass(frozen=True)
class Proof:
    """The result of comparing a database with what was recorded."""

    expected: int  # triggers recorded
    rows: int  # in the database
    distinct_ids: int  # among these
    duplicates: int  # dropped by the collector, because their id was stored already
    missing: list[int]  # numbers of triggers without a row
    double: list[int]  # numbers of triggers with several rows
    altered: list[int]  # numbers of triggers whose row differs
    unexpected: int  # rows of no recorded trigger

    @property
    def problems(self) -> list[str]:
        found = [
            f"{what}: {len(numbers)}, number {_name_some(numbers)}"
            for what, numbers in (("missing", self.missing), ("double", self.double), ("altered", self.altered))
            if numbers
        ]
        if self.unexpected:
            found.append(f"never recorded: {self.unexpected}")
        if self.distinct_ids != self.rows:
            found.append(f"ids: {self.rows} rows have {self.distinct_ids} different ones")
        return found

    @property
    def conclusion(self) -> str:
        """`20000 of 20000, each once`, or what is wrong."""
        found = self.expected - len(self.missing)
        return f"{found} of {self.expected}, " + ("; ".join(self.problems) or "each once")


def examine(database: Path, seed: int, count: int) -> Proof:
    """Compare a collector's database with the triggers 1 to `count`, field by field.

    Raises:
        InvalidSetting, StoreUnavailable: If the database cannot be read (both from brockman.collector.errors).
    """
    from brockman.collector.store import open_store

    ids, numbers, altered = set(), Counter[int](), []
    rows = unexpected = 0
    with closing(open_store(database)) as store:
        duplicates = store.counts().duplicates
        for trigger in _read_all(store):
            rows += 1
            ids.add(trigger.get("id"))
            number = trigger.get("variables", {}).get(NUMBER)
            if type(number) is not int or not 1 <= number <= count:
                unexpected += 1
                continue
            numbers[number] += 1
            if not _is_same(trigger, compose(seed, number)):
                altered.append(number)
    return Proof(
        expected=count,
        rows=rows,
        distinct_ids=len(ids),
        duplicates=duplicates,
        missing=[number for number in range(1, count + 1) if number not in numbers],
        double=sorted(number for number, times in numbers.items() if times > 1),
        altered=sorted(altered),
        unexpected=unexpected,
    )


def _read_all(store: Store) -> Iterator[dict[str, Any]]:
    from brockman.collector.store.values import Query

    after: int | None = 0
    while after is not None:
        page = store.page(Query(limit=_PAGE_SIZE, after=after))
        yield from map(json.loads, page.bodies)
        after = page.next


def _is_same(trigger: dict[str, Any], recorded: Arguments) -> bool:
    return recorded[:6] == (
        trigger.get("actor_id"),
        trigger.get("action"),
        trigger.get("object"),
        trigger.get("captured_identities", {}),
        trigger.get("captured_attributes", {}),
        trigger.get("variables", {}),
    )


def _name_some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:_MAX_LISTED])) + (", ..." if len(numbers) > _MAX_LISTED else "")
