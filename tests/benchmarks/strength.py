"""The collector in trouble: `python -m tests.benchmarks.strength`.

Kills one of two collectors on one PostgreSQL at random, again and again, while clients send to both, and compares
what was acknowledged with what is stored and joined to its person. Then opens connections that never end their
headers, and takes the time of the requests of another client. Exits with 1 when something was lost or is stored
twice, or a request took over a second.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing, suppress

import requests

from brockman.collector.store import open_store
from brockman.collector.store.people import People
from tests.benchmarks.processes import running_collectors
from tests.collector.killing import Senders
from tests.collector.running import trigger
from tests.collector.test_serving_postgresql import read_ids, serving
from tests.support.client import KEY
from tests.support.postgresql import postgresql_server
from tests.support.programs import free_port
from tests.support.waiting import eventually

MAX_SECONDS = 1.0


def kill_collectors(kills: int) -> bool:
    """Kill one of two collectors at random; return whether each acknowledged trigger is stored once."""
    ports = [free_port(), free_port()]
    with postgresql_server(options=()) as server:
        url = server.empty_database()
        with serving(url, ports[0]), Senders(ports) as senders:
            for _ in range(kills):
                with serving(url, ports[1]) as collector:
                    goal = senders.goal()
                    assert eventually(lambda goal=goal: len(senders.acknowledged) > goal)
                    assert collector.process is not None
                    collector.process.kill()
        stored = Counter(read_ids(url))
        with closing(open_store(url)) as store:
            people = People(store)
            while people.join_some():
                pass
            joined = sum(person.triggers for person in people.page(limit=10).people)
    lost = set(senders.acknowledged) - set(stored)
    unknown = set(stored) - set(senders.acknowledged)
    double = sum(times > 1 for times in stored.values())
    print(f"{kills} kills: {len(senders.acknowledged)} acknowledged, {len(stored)} stored,", end=" ")
    print(f"{len(lost)} lost, {double} stored twice, {len(unknown)} not acknowledged,", end=" ")
    print(f"{joined} joined to their person", flush=True)
    return not lost and not double and joined == len(stored)


def hold_connections(number: int, runs: int) -> bool:
    """Open connections whose headers never end; return whether others are answered in time."""
    with (
        tempfile.TemporaryDirectory() as directory,
        running_collectors(f"{directory}/triggers.sqlite3") as collectors,
        ExitStack() as stack,
    ):
        address = ("127.0.0.1", collectors.ports[0])
        held = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(number)]
        for connection in held:
            connection.sendall(b"POST /api/v1/trigger/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        times = []
        for _ in range(runs):
            for connection in held:
                with suppress(OSError):  # closed after its time for the headers
                    connection.sendall(b"a")
            started = time.perf_counter()
            requests.post(collectors.url() + "trigger/", json=trigger(), timeout=20).raise_for_status()
            times.append(time.perf_counter() - started)
    print(f"{number} connections that never end their headers: another client's request takes", end=" ")
    print(f"{statistics.median(times) * 1000:.1f} ms, at most {max(times) * 1000:.1f} ms of {runs}", flush=True)
    return max(times) < MAX_SECONDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=12, help="(default: %(default)s)")
    parser.add_argument("--connections", type=int, default=300, help="(default: %(default)s)")
    parser.add_argument("--runs", type=int, default=50, help="(default: %(default)s)")
    options = parser.parse_args()
    os.environ["FL_API_KEY"] = KEY  # of the collectors that are killed
    is_kept = [kill_collectors(options.kills), hold_connections(options.connections, options.runs)]
    sys.exit(not all(is_kept))


if __name__ == "__main__":
    main()
