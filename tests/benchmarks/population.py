"""Triggers of many people, as a shop would have them, to fill a store with.

Some people are frequent and most are not (weights as in Zipf's law). A quarter of them come with one actor id, the
others with two or three that share an email: browsers' cookies, and a number once they have logged in.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from itertools import accumulate

from brockman.collector.store.base import Store
from brockman.collector.timestamps import format_timestamp
from brockman.collector.validation import Row, make_row

DAYS = 90
ACTIONS = [
    *("viewed", "searched", "clicked", "added", "removed", "saved", "shared", "compared", "rated", "asked"),
    *("opened", "closed", "logged in", "logged out", "ordered", "paid", "returned", "cancelled", "rang", "wrote"),
]
OBJECTS = ["pricing", "home", "cart", "invoice", *(f"product {number}" for number in range(196))]
PLANS = ["free", "free", "free", "team", "pro"]
COUNTRIES = ["de", "fr", "us", "gb", "in", "br", "jp", "pl"]
RARE = "needle-4711"  # in three titles of a population, each in another third


class Population:
    """A number of triggers of a number of people; the same ones each time, but for their times and ids."""

    def __init__(self, triggers: int, people: int, *, random_ids: bool = False, seed: int = 7) -> None:
        self.triggers, self.people = triggers, people
        self._random = random.Random(seed)
        self._end = time.time_ns() // 1000
        self._step = DAYS * 86_400_000_000 / triggers
        self._ids = random.Random(f"{seed} {self._end}")
        self._random_ids = random_ids
        self._rare = {triggers // 6, triggers // 2, triggers * 5 // 6}
        order = list(range(people))
        self._random.shuffle(order)
        chosen = self._random.choices(order, cum_weights=self._zipf(people, 0.8), k=max(0, triggers - people))
        self._who = order[:triggers] + chosen  # everybody at least once
        self._random.shuffle(self._who)
        self._actions = self._zipf(len(ACTIONS), 1)
        self._objects = self._zipf(len(OBJECTS), 1)
        self.frequent, self.rare = order[0], order[-1]  # the one with the most triggers, and one with few

    @staticmethod
    def actor_ids(person: int) -> list[str]:
        """Return the ids of a person: one, two or three."""
        cookies = [f"{uuid.UUID(int=(person << 8) + number)}" for number in range(person % 4 // 2 + person % 2)]
        return [f"user-{person}", *cookies[:2]]

    @staticmethod
    def email(person: int) -> str:
        return f"person-{person}@example.com"

    def rows(self, at_once: int = 5000) -> Iterator[list[Row]]:
        """Yield them in the order of their arrival, some at a time."""
        for first in range(0, self.triggers, at_once):
            numbers = range(first, min(first + at_once, self.triggers))
            yield [self._row(number) for number in numbers]

    def _row(self, number: int) -> Row:
        rand, person = self._random, self._who[number]
        at = int(self._end - (self.triggers - number) * self._step)
        (action,) = rand.choices(ACTIONS, cum_weights=self._actions)
        (obj,) = rand.choices(OBJECTS, cum_weights=self._objects)
        title = f"{obj.title()} in season {rand.randrange(1000)}"
        trigger = {
            "actor_id": rand.choice(self.actor_ids(person)),
            "action": action,
            "object": obj,
            "captured_identities": {"email": self.email(person)},
            "captured_attributes": {"plan": PLANS[person % 5], "country": COUNTRIES[person % 8]},
            "variables": {
                "title": f"{title} {RARE}" if number in self._rare else title,
                "tags": rand.sample(COUNTRIES, 2),
                "price": rand.randrange(1, 50_000) / 100,
            },
            "id": self._id(at),
            "recorded_at": format_timestamp(at),
        }
        return make_row(trigger, at, str)

    def _id(self, micros: int) -> str:
        """Return an id of version 7, as brockman makes them: the time, and random bits; or one of version 4."""
        if self._random_ids:
            return str(uuid.UUID(int=self._ids.getrandbits(128), version=4))
        bits = f"{self._ids.getrandbits(72):018x}"
        time = f"{micros // 1000:012x}"
        return f"{time[:8]}-{time[8:]}-7{bits[:3]}-8{bits[3:6]}-{bits[6:]}"

    def _zipf(self, number: int, exponent: float) -> list[float]:
        """Return cumulative weights."""
        return list(accumulate(rank**-exponent for rank in range(1, number + 1)))


def fill(store: Store, population: Population) -> None:
    """Store a population."""
    for rows in population.rows():
        store.add(rows)


def dump(rows: list[Row]) -> bytes:
    """Return rows as the body of a request."""
    return f"[{','.join(row[6] for row in rows)}]".encode()
