"""Triggers a second that are joined to people, on each engine: `python -m tests.benchmarks.people`.

It stores triggers of 100 000 actors, joins them in this thread, and times what a page asks. "lock" is the share
of the time in which a transaction of the joiner is open, "longest" the longest of these. CPU is that of this
process and of PostgreSQL. The lines through HTTP of tests/benchmarks/collector.py have what it costs the intake.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing

from brockman.collector.ingest import read_triggers
from brockman.collector.store import open_store
from brockman.collector.store.base import Store, T, Transaction
from brockman.collector.store.people import People
from brockman.collector.store.values import Person
from tests.benchmarks.collector import NOW, Meter, make_text, ordered_id
from tests.support.postgresql import Postgresql, postgresql_server

_AT_ONCE = 10_000


class Timed:
    """Times the transactions of a store."""

    def __init__(self, store: Store) -> None:
        self.seconds: list[float] = []
        self._write = store.write
        store.write = self.write  # type: ignore[method-assign]

    def write(self, action: Callable[[Transaction], T]) -> T:
        begun = time.perf_counter()
        try:
            return self._write(action)
        finally:
            self.seconds.append(time.perf_counter() - begun)


def fill(store: Store, number: int) -> None:
    for first in range(0, number, _AT_ONCE):
        rand = random.Random(first)
        numbers = range(first, min(first + _AT_ONCE, number))
        text = ",".join(make_text(n, rand, ordered_id(n)) for n in numbers)
        store.add(read_triggers(f"[{text}]".encode(), NOW).rows)


def measure(title: str, location: str, number: int, server: Postgresql | None) -> None:
    with closing(open_store(location)) as store:
        fill(store, number)
        people, timed, meter = People(store), Timed(store), Meter(server)
        while people.join_some():
            pass
        cost = meter.stop()
        lock, longest = sum(timed.seconds) / cost.wall, max(timed.seconds) * 1000
        each = f"{cost.python / number * 1e6:.1f} us of CPU, {cost.engine / number * 1e6:.1f} us in PostgreSQL"
        print(f"{title}: {number / cost.wall:,.0f} joined/s, {each}, lock {lock:.0%}, longest {longest:.0f} ms")
        time_queries(people)


def time_queries(people: People) -> None:
    last = people.page(limit=1).people[0]

    def timeline() -> None:
        found = people.find_actor(last.actor_ids[0])
        assert isinstance(found, Person)
        people.timeline(found, limit=100)

    queries: dict[str, Callable[[], object]] = {
        "a person and 100 triggers": timeline,
        "by identity": lambda: people.find_identity("email", f"{last.actor_ids[0]}@example.com"),
        "the first 100 people": lambda: people.page(limit=100),
        "search, many found": lambda: people.page(limit=100, search="user-1"),
        "search, none found": lambda: people.page(limit=100, search="exploded"),
        "shared identities": people.shared_identities,
        "pending": people.pending,
    }
    for name, query in queries.items():
        taken = []
        for _ in range(3):
            begun = time.perf_counter()
            query()
            taken.append(time.perf_counter() - begun)
        print(f"  {name:34}{statistics.median(taken) * 1000:8.1f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triggers", type=int, default=300_000, help="(default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        measure("SQLite", f"{directory}/triggers.sqlite3", options.triggers, None)
    with postgresql_server(options=()) as server:
        measure("PostgreSQL", server.empty_database(), options.triggers, server)


if __name__ == "__main__":
    main()
