"""Triggers a second that the collector accepts, on each engine: `python -m tests.benchmarks.collector`.

Each line is the median over rounds; each round measures all lines, on a new store. Beside the collector, which
answers after the commit, stand the engines alone, fed the same rows in the same requests: `executemany` of sqlite3
and COPY of PostgreSQL, one transaction for each request, into a table without an index, and into one whose id is
unique. `the page open`: a stream and the numbers are read meanwhile.

PostgreSQL runs with its own defaults: each commit is on the disk before the answer. In SQLite it is in the file,
and survives a crash of the process; the line with `synchronous=FULL` is what it costs to survive a power failure.
CPU is that of this process, or of the collectors for the lines through HTTP, and hardly depends on what else the
machine does.
"""

from __future__ import annotations

import argparse
import socket
import sqlite3
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import partial

import psycopg
import requests

from brockman.collector.ingest import read_triggers
from brockman.collector.store import open_store
from brockman.collector.validation import Row
from brockman.process.identity import Identity
from tests.benchmarks.population import Population, dump
from tests.benchmarks.processes import Collectors, Cost, Meter, running_collectors
from tests.support.postgresql import Postgresql, postgresql_server

Bodies = list[bytes]
Rows = list[list[Row]]
NOW = 1_790_000_000_000_000  # microseconds since 1970
COLUMNS = "id, actor_id, action, object, recorded_at, received_at, body"
TYPES = "{}, actor_id text, action text, object text, recorded_at bigint, received_at bigint, body text"
PRAGMAS = ("journal_mode = WAL", "wal_autocheckpoint = 4000", "synchronous = NORMAL")
PAGE = "through HTTP, 4, the page open"


def make_bodies(number: int, size: int, *, random_ids: bool = False) -> Bodies:
    """Return the bodies of requests with `size` triggers each."""
    population = Population(number * size, max(1, number * size // 10), random_ids=random_ids)
    return [dump(rows) for rows in population.rows(size)]


def parse(bodies: Bodies) -> Rows:
    return [read_triggers(body, NOW).rows for body in bodies]


def run_sqlite_alone(path: str, requests: Rows, id_type: str, *pragmas: str) -> Cost:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in (*PRAGMAS, *pragmas):
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


def run_intake(bodies: Bodies) -> Cost:
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


def run_http(
    place: str | Postgresql, bodies: Bodies, connections: int, *, collectors: int = 1, page: bool = False
) -> Cost:
    """Post the bodies over some connections; the client does next to nothing, and is not counted."""
    location, server = (place, None) if isinstance(place, str) else (place.empty_database(), place)
    with running_collectors(location, collectors) as running, open_page(running) if page else nullcontext():

        def post(number: int) -> None:
            sender = Identity().text
            with socket.create_connection(("127.0.0.1", running.ports[number % collectors])) as connection:
                for body in bodies[number::connections]:
                    exchange(connection, body, sender)

        threads = [threading.Thread(target=post, args=(number,)) for number in range(connections)]
        meter = Meter(server, running.processes)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return meter.stop()


def exchange(connection: socket.socket, body: bytes, sender: str) -> None:
    """Post a body with the headers of a client, and wait for the answer."""
    head = (
        f"POST /api/v1/trigger/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-FL-Sender: {sender}\r\n"
        "X-FL-Counts: recorded=500; recovered=0; delivered=0; rejected=0; waiting=500\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 201 "), answer


@contextmanager
def open_page(collectors: Collectors) -> Iterator[None]:
    """Ask for what an open page asks for: the stream, and the numbers every two seconds."""
    end = threading.Event()
    with socket.create_connection(("127.0.0.1", collectors.ports[0])) as stream:
        stream.sendall(b"GET /api/v1/stream/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")

        def read() -> None:
            with suppress(OSError):
                while stream.recv(1 << 20):
                    pass

        def poll() -> None:
            while not end.wait(2):
                requests.get(collectors.url() + "overview/", timeout=20).raise_for_status()

        threads = [threading.Thread(target=read), threading.Thread(target=poll)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            end.set()
            stream.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def sqlite_lines(bodies: Bodies, at_random: Bodies) -> dict[str, Callable[[], Cost]]:
    rows, random_rows = parse(bodies), parse(at_random)

    def on_file(run: Callable[..., Cost], *arguments: object) -> Callable[[], Cost]:
        def on_new_file() -> Cost:
            with tempfile.TemporaryDirectory() as directory:
                return run(f"{directory}/triggers.sqlite3", *arguments)

        return on_new_file

    return {
        "sqlite3 alone, no index": on_file(run_sqlite_alone, rows, "id text"),
        "sqlite3 alone, unique id": on_file(run_sqlite_alone, rows, "id text UNIQUE"),
        "sqlite3 alone, synchronous=FULL": on_file(run_sqlite_alone, rows, "id text UNIQUE", "synchronous = FULL"),
        "intake: parse and validate": lambda: run_intake(bodies),
        "store": on_file(run_store, rows),
        "store, random ids (uuid4)": on_file(run_store, random_rows),
        "store, one more index: actor_id": on_file(run_store, rows, "actor_id"),
        "through HTTP, 1 connection": on_file(run_http, bodies, 1),
        "through HTTP, 4 connections": on_file(partial(run_http, bodies=bodies, connections=4)),
        PAGE: on_file(partial(run_http, bodies=bodies, connections=4, page=True)),
    }


def postgresql_lines(server: Postgresql, bodies: Bodies, at_random: Bodies) -> dict[str, Callable[[], Cost]]:
    rows, random_rows = parse(bodies), parse(at_random)

    return {
        "COPY alone, no index": partial(run_copy_alone, server, rows, "id uuid"),
        "COPY alone, unique id": partial(run_copy_alone, server, rows, "id uuid UNIQUE"),
        "store": partial(run_store, server, rows),
        "store, random ids (uuid4)": partial(run_store, server, random_rows),
        "through HTTP, 1 connection": partial(run_http, server, bodies, 1),
        "through HTTP, 4 connections": partial(run_http, server, bodies, 4),
        PAGE: partial(run_http, server, bodies, 4, page=True),
        "two collectors, 4 connections": partial(run_http, server, bodies, 4, collectors=2),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200, help="in each round (default: %(default)s)")
    parser.add_argument("--size", type=int, default=500, help="triggers in each request (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    options = parser.parse_args()
    bodies, at_random = (
        make_bodies(options.requests, options.size, random_ids=random_ids) for random_ids in (False, True)
    )
    triggers = options.requests * options.size
    print(
        f"{options.requests} requests of {options.size} triggers, {len(bodies[0]) / options.size:.0f} bytes each"
    )
    with postgresql_server(options=()) as server:
        measure("SQLite", sqlite_lines(bodies, at_random), options.rounds, triggers)
        measure("PostgreSQL", postgresql_lines(server, bodies, at_random), options.rounds, triggers)


if __name__ == "__main__":
    main()
