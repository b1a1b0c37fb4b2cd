"""The cost of proof of arrival, for each batch: `python -m tests.benchmarks.sender`.

In the client: making the two headers, in the worker's thread. In the collector: reading them, and noting the
counts in the transaction that stores the triggers, on each engine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from starlette.datastructures import Headers

from brockman.client import FocusLabClient
from brockman.collector.sender_headers import read_sender
from brockman.collector.store import open_store
from brockman.collector.store.values import Sender
from brockman.collector.validation import Row
from brockman.delivery.sender import Sender as Headed
from brockman.transport.memory import MemoryTransport
from tests.benchmarks.collector import make_bodies, parse
from tests.support.postgresql import postgresql_server

CALLS = 10_000


def microseconds(call: Callable[[], object]) -> float:
    """Return the median over rounds of the time of one call."""
    taken = []
    for _ in range(7):
        started = time.perf_counter()
        for _ in range(CALLS):
            call()
        taken.append((time.perf_counter() - started) / CALLS * 1e6)
    return statistics.median(taken)


def make_headers(client: FocusLabClient) -> Callable[[], dict[str, str]]:
    for number in range(400):
        client.record_trigger(str(number), "viewed", "page")
    pipeline = client._current()
    sender = Headed(client.options, pipeline.buffer, pipeline.counters)
    return lambda: dict(sender._counts())


def renamed(rows: list[Row]) -> list[Row]:
    """Return rows with new ids."""
    start = uuid.uuid4().hex[:24]
    return [(str(uuid.UUID(f"{start}{number:08x}")), *row[1:]) for number, row in enumerate(rows)]


def measure_store(title: str, location: str, sender: Sender, rows: list[Row], number: int) -> None:
    """Print the medians of storing a batch: one with a sender, one without, and so on."""
    taken: dict[bool, list[float]] = {True: [], False: []}
    with closing(open_store(location)) as store:
        for batch in range(number):
            is_noted, new = batch % 2 == 0, renamed(rows)
            started = time.perf_counter()
            store.add(new, sender=sender if is_noted else None)
            taken[is_noted].append((time.perf_counter() - started) * 1000)
    noted, plain = statistics.median(taken[True]), statistics.median(taken[False])
    share = f"{100 * (noted / plain - 1):+.1f} %"
    print(f"{title}: {noted:.2f} ms to store {len(rows)} triggers and note them, {plain:.2f} without: {share}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="on each engine (default: %(default)s)")
    parser.add_argument("--size", type=int, default=500, help="triggers in each request (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        client = FocusLabClient(transport=MemoryTransport(), flush_interval=600)
        make = make_headers(client)
        print(f"client, in memory: {microseconds(make):.1f} us to make the headers of a batch")
        client.close()
        with FocusLabClient(transport=MemoryTransport(), flush_interval=600, spool_dir=folder) as client:
            print(f"client, on disk: {microseconds(make_headers(client)):.1f} us")
        headers, now = Headers(make()), time.time_ns() // 1000
        print(f"collector: {microseconds(lambda: read_sender(headers, now)):.1f} us to read them")
        sender = read_sender(headers, now)
        assert sender is not None
        (rows,) = parse(make_bodies(1, options.size))
        measure_store("SQLite", str(Path(folder) / "store"), sender, rows, options.requests)
        with postgresql_server(options=()) as server:
            measure_store("PostgreSQL", server.empty_database(), sender, rows, options.requests)


if __name__ == "__main__":
    main()
