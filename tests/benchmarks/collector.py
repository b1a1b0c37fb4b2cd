"""Triggers a second that the collector accepts: `python -m tests.benchmarks.collector`.

Each line is the median over rounds; each round measures all lines, on a new file. The floor is the least that must
be done: JSON is parsed, and its texts are inserted into a table of one column, in one
transaction for each request, on the same file system with the same pragmas.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import requests

from brockman.collector import strict_json
from brockman.collector.ingest import read_triggers
from brockman.collector.store import Store
from brockman.collector.timestamps import format_timestamp

Texts = list[list[str]]
NOW = 1_790_000_000_000_000  # microseconds since 1970


def make_texts(number: int, size: int, next_id: Callable[[], str]) -> Texts:
    """Return triggers as JSON texts, in requests of `size`."""
    rand = random.Random(7)
    arrival = count()
    return [[make_text(next(arrival), rand, next_id()) for _ in range(size)] for _ in range(number)]


def make_text(arrival: int, rand: random.Random, trigger_id: str) -> str:
    return strict_json.dump(
        {
            "actor_id": f"user-{rand.randrange(5000)}",
            "action": rand.choice(["viewed", "bought", "clicked"]),
            "object": "blog post",
            "captured_identities": {"email": f"user-{arrival}@example.com"},
            "captured_attributes": {"plan": "pro"},
            "variables": {"tags": ["a", "b", "c"], "title": "The title of a post", "price": 12.5},
            "id": trigger_id,
            "recorded_at": format_timestamp(NOW + arrival * 50),
        }
    )


def ordered_ids() -> Callable[[], str]:
    """Make ids as brockman does: a random prefix and a counter."""
    prefix, counter = str(uuid.uuid4())[:24], count()
    return lambda: f"{prefix}{next(counter):012x}"


def encode(texts: Texts) -> list[bytes]:
    return [f"[{','.join(request)}]".encode() for request in texts]


def run_floor(directory: Path, texts: Texts) -> float:
    rows, bodies = [[(text,) for text in request] for request in texts], encode(texts)
    with closing(sqlite3.connect(directory / "floor.sqlite3", isolation_level=None)) as connection:
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "wal_autocheckpoint = 4000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("CREATE TABLE raw (body TEXT)")
        started = time.perf_counter()
        for body, request in zip(bodies, rows, strict=True):
            strict_json.parse(body)
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO raw VALUES (?)", request)
            connection.execute("COMMIT")
        return time.perf_counter() - started


def run_intake(directory: Path, texts: Texts) -> float:
    bodies = encode(texts)
    started = time.perf_counter()
    for body in bodies:
        read_triggers(body, NOW)
    return time.perf_counter() - started


def run_store(directory: Path, texts: Texts, *, index: str | None = None) -> float:
    rows = [read_triggers(body, NOW).rows for body in encode(texts)]
    with closing(new_store(directory, index)) as store:
        started = time.perf_counter()
        for request in rows:
            store.add(request)
        return time.perf_counter() - started


def run_both(directory: Path, texts: Texts) -> float:
    bodies = encode(texts)
    with closing(new_store(directory)) as store:
        started = time.perf_counter()
        for body in bodies:
            store.add(read_triggers(body, NOW).rows)
        return time.perf_counter() - started


def new_store(directory: Path, index: str | None = None) -> Store:
    path = directory / f"{uuid.uuid4()}.sqlite3"
    store = Store(path)
    if index is not None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"CREATE INDEX extra ON triggers ({index})")
    return store


def run_http(directory: Path, texts: Texts) -> float:
    bodies = encode(texts)
    headers = {"Content-Type": "application/json", "X-FL-API-KEY": "benchmark"}
    with running_collector(directory) as endpoint, requests.Session() as session:
        started = time.perf_counter()
        for body in bodies:
            session.post(endpoint + "trigger/", data=body, headers=headers).raise_for_status()
        return time.perf_counter() - started


@contextmanager
def running_collector(directory: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "brockman", "serve", "--port", "0", "--api-key", "benchmark"]
    database = directory / f"{uuid.uuid4()}.sqlite3"
    with subprocess.Popen([*command, "--database", database], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().removeprefix("listening on ").strip()
        finally:
            process.terminate()


def scan(directory: Path, texts: Texts) -> tuple[float, int]:
    """Return the seconds that a filter without an index takes, and the triggers it reads through."""
    from brockman.collector.schema import Query

    with closing(new_store(directory)) as store:
        for body in encode(texts):
            store.add(read_triggers(body, NOW).rows)
        started = time.perf_counter()
        page = store.page(Query(actor_id="user-7"))
        seconds = time.perf_counter() - started
        assert page.total
        return seconds, store.stored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200, help="in each round (default: %(default)s)")
    parser.add_argument("--size", type=int, default=500, help="triggers in each request (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    options = parser.parse_args()
    ordered = make_texts(options.requests, options.size, ordered_ids())
    at_random = make_texts(options.requests, options.size, lambda: str(uuid.uuid4()))
    lines: dict[str, Callable[[Path], float]] = {
        "floor: parse, and insert the text": lambda directory: run_floor(directory, ordered),
        "intake": lambda directory: run_intake(directory, ordered),
        "store": lambda directory: run_store(directory, ordered),
        "intake and store": lambda directory: run_both(directory, ordered),
        "through HTTP, one connection": lambda directory: run_http(directory, ordered),
        "store, random ids (uuid4)": lambda directory: run_store(directory, at_random),
        "store, one more index: action": lambda directory: run_store(directory, ordered, index="action"),
        "store, one more index: object": lambda directory: run_store(directory, ordered, index="object"),
        "store, one more index: actor_id": lambda directory: run_store(directory, ordered, index="actor_id"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(options.rounds):
        for name, run in lines.items():
            with tempfile.TemporaryDirectory() as directory:
                seconds[name].append(run(Path(directory)))
    report(seconds, options.requests * options.size)
    with tempfile.TemporaryDirectory() as directory:
        taken, number = scan(Path(directory), ordered)
    print(f"a filter by actor_id reads through {number} triggers in {taken * 1000:.0f} ms")


def report(seconds: dict[str, list[float]], triggers: int) -> None:
    floors = next(iter(seconds.values()))
    print(f"{'':36}{'triggers/s':>12}{'us each':>10}{'x floor':>10}")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        ratio = statistics.median(own / floor for own, floor in zip(taken, floors, strict=True))
        print(f"{name:36}{triggers / median:12,.0f}{median / triggers * 1e6:10.2f}{ratio:10.2f}")


if __name__ == "__main__":
    main()
