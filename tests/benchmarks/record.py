"""The cost of one record_trigger, and of one waiting trigger: python -m tests.benchmarks.record

Everything is measured against a floor in the same run: `orjson.dumps(body)` and `SimpleQueue.put`. Each figure is
the median over rounds; the two sides take turns, each round in a process of its own, since what was allocated
before decides what memory costs. Two states of memory are shown: new (the first 10 000 triggers of a process, as
after a start or a quiet time) and used (the same again, after the first ones were delivered).

Exits with 1 when a bound of the acceptance list is broken.
"""

from __future__ import annotations

import json
import os
import queue
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable

import orjson

from brockman.client import FocusLabClient
from brockman.process.clock import REAL_NS
from brockman.process.fork import make_fork_flag
from brockman.transport.memory import MemoryTransport
from brockman.trigger.ids import make_ids

ROUNDS = 9
BURST = 10_000
WAITING = 50_000
MAX_RATIO = 2.5
MAX_OVERHEAD = 150  # bytes of resident memory beside the encoded text
WIRE = {
    "actor_id": "42",
    "action": "viewed",
    "object": "blog post",
    "captured_identities": {"email": "ada@example.com"},
    "captured_attributes": {"plan": "pro"},
    "variables": {"tags": ["python", "queues", "testing"], "title": "How to never lose a trigger"},
    "id": "0190c8a1-1111-8222-9333-000000000001",
    "recorded_at": "2026-11-23T17:22:32.123456Z",
}


def make_client(size: int) -> FocusLabClient:
    client = FocusLabClient(api_key="k", transport=MemoryTransport(), max_queue_size=size + 1)
    record(client)
    client.flush()
    return client


def record(client: FocusLabClient) -> None:
    """Record the README's example trigger."""
    client.record_trigger(
        actor_id=42,
        action="viewed",
        obj="blog post",
        identities={"email": "ada@example.com"},
        attributes={"plan": "pro"},
        variables={"tags": ["python", "queues", "testing"], "title": "How to never lose a trigger"},
    )


def time_calls(call: Callable[[], object]) -> float:
    """Return the median of a burst in microseconds."""
    clock = time.perf_counter_ns
    times = []
    for _ in range(BURST):
        started = clock()
        call()
        times.append(clock() - started)
    return statistics.median(times) / 1000


def run_brockman() -> dict[str, float]:
    client = make_client(BURST)
    new = time_calls(lambda: record(client))
    client.flush()
    used = time_calls(lambda: record(client))
    client.close()
    return {"new": new, "used": used}


def run_floor() -> dict[str, float]:
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    dumps, put = orjson.dumps, waiting.put
    new = time_calls(lambda: put(dumps(WIRE)))
    while not waiting.empty():
        waiting.get()
    return {"new": new, "used": time_calls(lambda: put(dumps(WIRE)))}


def run_ids() -> dict[str, float]:
    make = make_ids(os.urandom, *REAL_NS).__next__
    return {"make_ids": time_calls(make), "uuid4": time_calls(uuid.uuid4)}


def run_details() -> dict[str, float]:
    fork_flag, rounds = make_fork_flag(), range(100)  # a single read takes less than the clock

    def look() -> None:
        for _ in rounds:
            fork_flag[0]

    def ask() -> None:
        for _ in rounds:
            os.getpid()

    def pass_on(a: str, b: str, c: str, d: object, e: object, f: object, g: str, h: str) -> None:
        pass

    def call() -> None:
        for _ in rounds:
            pass_on("a", "b", "c", None, None, None, "g", "h")

    return {"fork flag": time_calls(look) / 100, "getpid": time_calls(ask) / 100, "call": time_calls(call) / 100}


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def memory_of(put: Callable[[], object], encoded: int) -> dict[str, float]:
    before = resident()
    for _ in range(WAITING):
        put()
    return {"overhead": (resident() - before) / WAITING - encoded, "encoded": encoded}


def run_memory_floor() -> dict[str, float]:
    kept: list[bytes] = []
    for _ in range(2000):
        orjson.dumps(WIRE)
    return memory_of(lambda: kept.append(orjson.dumps(WIRE)), len(orjson.dumps(WIRE)))


def run_memory_brockman() -> dict[str, float]:
    client = FocusLabClient(
        api_key="k",
        transport=MemoryTransport(),
        max_queue_size=2 * WAITING,
        max_queue_bytes=2**30,
        max_batch_size=4 * WAITING,
        max_batch_bytes=2**30,
        flush_interval=3600,
    )
    for _ in range(2000):
        record(client)
    stats = client.stats()
    return memory_of(lambda: record(client), round(stats.queued_bytes / stats.queued))


SIDES = {
    "brockman": run_brockman,
    "floor": run_floor,
    "ids": run_ids,
    "details": run_details,
    "memory brockman": run_memory_brockman,
    "memory floor": run_memory_floor,
}


def measure(side: str) -> dict[str, float]:
    """Run one side in a process of its own."""
    done = subprocess.run([sys.executable, "-m", __spec__.name, side], capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> int:
    """Print the table; return the exit status."""
    rounds: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(ROUNDS):
        for side, results in rounds.items():
            results.append(measure(side))

    def median(side: str, figure: str) -> float:
        return statistics.median(result[figure] for result in rounds[side])

    print(f"medians of {ROUNDS} rounds of {BURST} calls, the example trigger of the README")
    print(f"{'':24}{'new memory':>14}{'used memory':>14}")
    for side in ("brockman", "floor"):
        print(f"{side:24}{median(side, 'new'):11.2f} us{median(side, 'used'):11.2f} us")
    ratios = {
        state: statistics.median(
            ours[state] / floor[state] for ours, floor in zip(rounds["brockman"], rounds["floor"], strict=True)
        )
        for state in ("new", "used")
    }
    print(f"{'ratio':24}{ratios['new']:11.2f} x {ratios['used']:11.2f} x   (bound {MAX_RATIO} x with new memory)")
    print(f"one id: make_ids {median('ids', 'make_ids'):.2f} us, uuid4 {median('ids', 'uuid4'):.2f} us")
    flag, getpid, call = (median("details", figure) for figure in ("fork flag", "getpid", "call"))
    print(f"one check for a fork: flag {flag:.3f} us, getpid {getpid:.3f} us")
    print(f"one more function in Python, with the arguments of `encode_trigger`: {call:.3f} us")
    overhead = median("memory brockman", "overhead")
    encoded = median("memory brockman", "encoded")
    print(f"resident memory of one that waits, over {WAITING}: its {encoded:.0f} bytes")
    print(f"  and {overhead:.0f} bytes beside (bound {MAX_OVERHEAD})")
    print(f"  an orjson result kept as it is: {median('memory floor', 'overhead'):.0f} bytes beside")
    return 0 if ratios["new"] <= MAX_RATIO and overhead <= MAX_OVERHEAD else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(SIDES[sys.argv[1]]()))
    else:
        sys.exit(main())
