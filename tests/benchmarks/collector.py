"""Triggers a second that the collector accepts, on each engine: `python -m tests.benchmarks.collector`.

Each line is the median over rounds; each round measures all lines, on a new store. Beside the collector, which
answers after the commit, stand the engines alone, fed the same rows in the same requests: `executemany` of sqlite3
and COPY of PostgreSQL, one transaction for each request, into a table without an index, and into one whose id is
unique.

`--queries 1000000` times the queries of a page; `--kills 12` kills one of two collectors on one PostgreSQL, and
counts what was lost. PostgreSQL runs with its own defaults: each commit is on the disk. CPU is that of this
process, or of the collectors for the lines through HTTP, and hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psycopg

from brockman.collector import strict_json
from brockman.collector.ingest import read_triggers
from brockman.collector.store import open_store
from brockman.collector.store.base import Store
from brockman.collector.store.values import Query
from brockman.collector.timestamps import format_timestamp
from brockman.collector.validation import Row
from tests.collector.killing import Senders
from tests.collector.test_serving_postgresql import read_ids, serving
from tests.support.postgresql import Postgresql, postgresql_server
from tests.support.programs import free_port
from tests.support.waiting import eventually

Texts = list[list[str]]
Rows = list[list[Row]]
NOW = 1_790_000_000_000_000  # microseconds since 1970
COLUMNS = "id, actor_id, action, object, recorded_at, received_at, body"
TYPES = "{}, actor_id text, action text, object text, recorded_at bigint, received_at bigint, body text"
PRAGMAS = ("journal_mode = WAL", "synchronous = NORMAL", "wal_autocheckpoint = 4000")
ACTORS = 100_000
TICKS = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """Seconds that a run took: by the clock, of CPU in Python, and of CPU in PostgreSQL."""

    wall: float
    python: float
    engine: float


class Meter:
    """Measures from its creation to `stop`: this process, or others in its place."""

    def __init__(self, server: Postgresql | None = None, collectors: Sequence[int] = ()) -> None:
        self._server = server
        self._collectors = collectors
        self._begin = self._now()

    def stop(self) -> Cost:
        return Cost(*(now - then for now, then in zip(self._now(), self._begin, strict=True)))

    def _now(self) -> Cost:
        python = sum(map(cpu_of, self._collectors)) if self._collectors else time.process_time()
        return Cost(time.perf_counter(), python, sum(map(cpu_of, self._server.processes())) if self._server else 0)


def cpu_of(process: int) -> float:
    """Return the seconds of CPU that a process has used; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def make_texts(number: int, size: int, next_id: Callable[[int], str]) -> Texts:
    """Return triggers as JSON texts, in requests of `size`."""
    rand = random.Random(7)
    arrivals = [range(first, first + size) for first in range(0, number * size, size)]
    return [[make_text(arrival, rand, next_id(arrival)) for arrival in request] for request in arrivals]


def make_text(arrival: int, rand: random.Random, trigger_id: str) -> str:
    actor = f"user-{rand.randrange(ACTORS)}"
    return strict_json.dump(
        {
            "actor_id": actor,
            "action": rand.choice(["viewed", "bought", "clicked"]),
            "object": "blog post",
            "captured_identities": {"email": f"{actor}@example.com"},
            "captured_attributes": {"plan": "pro"},
            "variables": {"tags": ["a", "b", "c"], "title": f"The title of post {arrival}", "price": 12.5},
            "id": trigger_id,
            "recorded_at": format_timestamp(NOW + arrival * 50),
        }
    )


def ordered_id(number: int) -> str:
    """Return an id of version 7, as brockman makes them: the time, and random bits."""
    digits = f"{NOW // 1000 + number // 20:012x}7{number % 4096:03x}8{uuid.uuid4().hex[:15]}"
    return str(uuid.UUID(digits))


def random_id(number: int) -> str:
    return str(uuid.uuid4())


def encode(texts: Texts) -> list[bytes]:
    return [f"[{','.join(request)}]".encode() for request in texts]


def parse(texts: Texts) -> Rows:
    return [read_triggers(body, NOW).rows for body in encode(texts)]


def run_sqlite_alone(path: str, requests: Rows, id_type: str) -> Cost:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(f"CREATE TABLE alone ({TYPES.format(id_type)})")
        meter = Meter()
        for rows in requests:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO alone VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            connection.execute("COMMIT")
        return meter.stop()


def run_copy_alone(server: Postgresql, requests: Rows, id_type: str) -> Cost:
    with psycopg.connect(server.empty_database(), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS alone")
        connection.execute(f"CREATE TABLE alone ({TYPES.format(id_type)})".encode())
        meter = Meter(server)
        for rows in requests:
            with connection.cursor() as cursor, cursor.copy(f"COPY alone ({COLUMNS}) FROM STDIN".encode()) as copy:
                for row in rows:
                    copy.write_row(row)
        return meter.stop()


def run_intake(texts: Texts) -> Cost:
    bodies = encode(texts)
    meter = Meter()
    for body in bodies:
        read_triggers(body, NOW)
    return meter.stop()


def run_store(place: str | Postgresql, requests: Rows, index: str = "") -> Cost:
    location, server = (place, None) if isinstance(place, str) else (place.empty_database(), place)
    with closing(open_store(location)) as store:
        if index:
            with closing(sqlite3.connect(location)) as connection:
                connection.execute(f"CREATE INDEX extra ON triggers ({index})")
        meter = Meter(server)
        for rows in requests:
            store.add(rows)
        return meter.stop()


def run_http(place: str | Postgresql, bodies: list[bytes], connections: int, collectors: int = 1) -> Cost:
    """Post the bodies over some connections; the client does next to nothing, and is not counted."""
    location, server = (place, None) if isinstance(place, str) else (place.empty_database(), place)
    with running_collectors(location, collectors) as (processes, ports):

        def post(number: int) -> None:
            with socket.create_connection(("127.0.0.1", ports[number % collectors])) as connection:
                for body in bodies[number::connections]:
                    exchange(connection, body)

        threads = [threading.Thread(target=post, args=(number,)) for number in range(connections)]
        meter = Meter(server, processes)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return meter.stop()


def exchange(connection: socket.socket, body: bytes) -> None:
    head = (
        "POST /api/v1/trigger/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-FL-API-KEY: benchmark\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 201 "), answer


@contextmanager
def running_collectors(location: str, number: int) -> Iterator[tuple[list[int], list[int]]]:
    """Run collectors on a store; yield their process ids and their ports."""
    command = [
        sys.executable,
        "-m",
        "brockman",
        "serve",
        "--port",
        "0",
        "--api-key",
        "benchmark",
        "--store",
        location,
    ]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(number)]
    try:
        lines = [process.stdout.readline() for process in processes if process.stdout is not None]
        ports = [urlsplit(line.removeprefix("listening on ").strip()).port or 0 for line in lines]
        yield [process.pid for process in processes], ports
    finally:
        for process in processes:
            process.terminate()
            process.communicate()


def sqlite_lines(texts: Texts, at_random: Texts) -> dict[str, Callable[[], Cost]]:
    rows, bodies, random_rows = parse(texts), encode(texts), parse(at_random)

    def on_file(run: Callable[..., Cost], *arguments: object) -> Callable[[], Cost]:
        def on_new_file() -> Cost:
            with tempfile.TemporaryDirectory() as directory:
                return run(f"{directory}/triggers.sqlite3", *arguments)

        return on_new_file

    return {
        "sqlite3 alone, no index": on_file(run_sqlite_alone, rows, "id text"),
        "sqlite3 alone, unique id": on_file(run_sqlite_alone, rows, "id text UNIQUE"),
        "intake: parse and validate": lambda: run_intake(texts),
        "store": on_file(run_store, rows),
        "store, random ids (uuid4)": on_file(run_store, random_rows),
        "store, one more index: actor_id": on_file(run_store, rows, "actor_id"),
        "through HTTP, 1 connection": on_file(run_http, bodies, 1),
        "through HTTP, 4 connections": on_file(run_http, bodies, 4),
    }


def postgresql_lines(server: Postgresql, texts: Texts, at_random: Texts) -> dict[str, Callable[[], Cost]]:
    rows, bodies, random_rows = parse(texts), encode(texts), parse(at_random)

    return {
        "COPY alone, no index": partial(run_copy_alone, server, rows, "id uuid"),
        "COPY alone, unique id": partial(run_copy_alone, server, rows, "id uuid UNIQUE"),
        "store": partial(run_store, server, rows),
        "store, random ids (uuid4)": partial(run_store, server, random_rows),
        "through HTTP, 1 connection": partial(run_http, server, bodies, 1),
        "through HTTP, 4 connections": partial(run_http, server, bodies, 4),
        "two collectors, 4 connections": partial(run_http, server, bodies, 4, 2),
    }


def measure(title: str, lines: dict[str, Callable[[], Cost]], rounds: int, triggers: int) -> None:
    costs: dict[str, list[Cost]] = {name: [] for name in lines}
    for _ in range(rounds):
        for name, run in lines.items():
            costs[name].append(run())
    bare = costs[next(name for name in lines if name.endswith("unique id"))]
    print(f"{title:36}{'triggers/s':>12}{'x unique id':>13}{'us each':>10}{'us of CPU':>11}{'in PostgreSQL':>15}")
    for name, taken in costs.items():
        wall, python, engine = (statistics.median(times) for times in zip(*taken, strict=True))
        ratio = statistics.median(own.wall / floor.wall for own, floor in zip(taken, bare, strict=True))
        each = f"{wall / triggers * 1e6:10.1f}{python / triggers * 1e6:11.1f}{engine / triggers * 1e6:15.1f}"
        print(f"{name:36}{triggers / wall:12,.0f}{ratio:13.2f}{each}", flush=True)


def measure_queries(title: str, location: str, number: int) -> None:
    """Time the queries of a page on a number of triggers of 100 000 people."""
    with closing(open_store(location)) as store:
        started = time.perf_counter()
        for first in range(0, number, 10_000):
            rand = random.Random(first)
            numbers = range(first, min(first + 10_000, number))
            text = ",".join(make_text(n, rand, ordered_id(n)) for n in numbers)
            store.add(read_triggers(f"[{text}]".encode(), NOW).rows)
        print(f"{title}: {number} triggers of {ACTORS} people in {time.perf_counter() - started:.0f} s")
        time_queries(store, number)


def time_queries(store: Store, number: int) -> None:
    last = strict_json.parse(store.page(Query(newest_first=True, limit=1)).bodies[0].encode())
    queries = {
        "the newest": Query(newest_first=True),
        "of one person": Query(actor_id=last["actor_id"], newest_first=True),
        "by id": Query(id=last["id"]),
        "of one action": Query(action="bought", newest_first=True),
        "of an action that there is not": Query(action="exploded", newest_first=True),
        "the last tenth": Query(since=NOW + number * 45, newest_first=True),
    }
    for name, query in queries.items():
        taken = []
        for _ in range(3):
            started = time.perf_counter()
            total = store.page(query).total
            taken.append(time.perf_counter() - started)
        print(f"  {name:34}{statistics.median(taken) * 1000:8.1f} ms of {total}")


def kill_collectors(server: Postgresql, kills: int) -> None:
    """Kill one of two collectors on one database at random; print what was lost or doubled."""
    url, ports = server.empty_database(), [free_port(), free_port()]
    os.environ["FL_API_KEY"] = "benchmark"
    with serving(url, ports[0]), Senders(ports) as senders:
        for _ in range(kills):
            with serving(url, ports[1]) as collector:
                goal = senders.goal()
                assert eventually(lambda goal=goal: len(senders.acknowledged) > goal)
                assert collector.process is not None
                collector.process.kill()
    stored = Counter(read_ids(url))
    lost = set(senders.acknowledged) - set(stored)
    double = sum(times > 1 for times in stored.values())
    print(f"{kills} kills: {len(senders.acknowledged)} acknowledged, {len(lost)} lost, {double} stored twice")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200, help="in each round (default: %(default)s)")
    parser.add_argument("--size", type=int, default=500, help="triggers in each request (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument(
        "--queries", type=int, default=0, metavar="N", help="time the queries of a page on N triggers"
    )
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="kill collectors N times")
    options = parser.parse_args()
    texts, at_random = (make_texts(options.requests, options.size, ids) for ids in (ordered_id, random_id))
    with postgresql_server(options=()) as server:
        triggers = options.requests * options.size
        measure("SQLite", sqlite_lines(texts, at_random), options.rounds, triggers)
        measure("PostgreSQL", postgresql_lines(server, texts, at_random), options.rounds, triggers)
        if options.queries:
            with tempfile.TemporaryDirectory() as directory:
                measure_queries("SQLite", f"{directory}/triggers.sqlite3", options.queries)
            measure_queries("PostgreSQL", server.empty_database(), options.queries)
        if options.kills:
            kill_collectors(server, options.kills)


if __name__ == "__main__":
    main()
