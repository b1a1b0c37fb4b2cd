"""One part, for one side, in a process of its own: prints its figures as JSON.

Times are in microseconds, seconds where the name says so, sizes in bytes.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.benchmarks.peers.sides import SIDES, be_quiet
from tests.benchmarks.peers.sink import Received, Remote

Figures = dict[str, float]
PATIENCE = 10.0  # seconds in which nothing comes, after which the rest is lost


def spread(times: list[int]) -> Figures:
    """Return the percentiles of the times of calls."""
    times = sorted(times)

    def at(share: float) -> float:
        return times[min(len(times) - 1, math.ceil(share * len(times)) - 1)] / 1000

    return {"median": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": times[-1] / 1000}


def time_calls(record: Callable[[], object], count: int) -> list[int]:
    clock = time.perf_counter_ns
    times = [0] * count
    for index in range(count):
        started = clock()
        record()
        times[index] = clock() - started
    return times


def time_paced(record: Callable[[], object], count: int, rate: float) -> list[int]:
    """Time calls at a steady rate; one that is late does not make the next ones early."""
    clock, times, due = time.perf_counter_ns, [0] * count, time.monotonic()
    for index in range(count):
        due = max(due + 1 / rate, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        started = clock()
        record()
        times[index] = clock() - started
    return times


class Run:
    """A side that is open and warm, with the counts of its sink at that time."""

    def __init__(self, name: str, sink: Remote, capacity: int, **options: Any) -> None:
        self.sink = sink
        self.side = SIDES[name].open(sink.url, capacity + 1000, **options)
        self.side.record()  # connects, starts threads, imports
        self.side.flush()
        sink.wait_for(1, PATIENCE)
        self.before = sink.count()

    def finish(self, count: int) -> Received:
        """Deliver everything; return the counts of the sink."""
        self.side.flush()
        return self.sink.wait_for(self.before.triggers + count, PATIENCE)

    def delivered(self, count: int, record: Callable[[], Any]) -> Figures:
        """Run `record`, which records `count` triggers; return its cost up to the last acknowledgement."""
        cpu, started = time.process_time(), time.monotonic()
        record()
        recorded = time.monotonic() - started
        self.side.flush()  # asking the sink is not the side's work
        cpu = time.process_time() - cpu
        received = self.finish(count)
        came = received.triggers - self.before.triggers
        return {
            "lost": count - came,
            "cpu": cpu / max(1, came) * 1e6,
            "rate": came / (received.last - started),
            "recorded_rate": count / recorded,
            "wire": (received.bytes - self.before.bytes) / max(1, came),
        }


def burst(name: str, sink: Remote, *, count: int, **options: Any) -> Figures:
    run, times = Run(name, sink, count, **options), [0]
    figures = run.delivered(count, lambda: times.extend(time_calls(run.side.record, count)))
    return {**figures, **spread(times[1:])}


def paced(name: str, sink: Remote, *, count: int, **options: Any) -> Figures:
    run, times = Run(name, sink, count, **options), [0]
    figures = run.delivered(count, lambda: times.extend(time_paced(run.side.record, count, 1000)))
    return {**figures, **spread(times[1:])}


def loop(name: str, sink: Remote, *, count: int, rate: float) -> Figures:
    """Time a loop instead of a call, which takes about as long: the pauses of the machine itself."""

    def turn() -> None:
        for _ in range(250):
            pass

    return spread(time_paced(turn, count, rate) if rate else time_calls(turn, count))


def spooled(name: str, sink: Remote, *, part: str, count: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        return PARTS[part](name, sink, count=count, spool_dir=folder)


def threads(name: str, sink: Remote, *, count: int, threads: int) -> Figures:
    run = Run(name, sink, count)
    times: list[int] = []
    gate = threading.Barrier(threads + 1)

    def work() -> None:
        gate.wait()
        times.extend(time_calls(run.side.record, count // threads))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()

    def record() -> None:
        gate.wait()
        for worker in workers:
            worker.join()

    figures = run.delivered(count // threads * threads, record)
    return {**figures, **spread(times)}


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory(name: str, sink: Remote, *, count: int) -> Figures:
    """Record while the sink does not answer."""
    run = Run(name, sink, count)
    sink.reset(60.0)
    before = resident()
    for _ in range(count):
        run.side.record()
    figures = {"each": (resident() - before) / count}
    if name == "brockman":
        stats = run.side.client.stats()
        figures["beside"] = figures["each"] - stats.queued_bytes / stats.queued
    print_and_exit(figures)


def depth(name: str, sink: Remote, *, count: int, depth: int) -> Figures:
    """Time calls while `depth` triggers wait, and the sink does not answer."""
    run = Run(name, sink, depth + count)
    sink.reset(600.0)
    for _ in range(depth):
        run.side.record()
    print_and_exit(spread(time_calls(run.side.record, count)))


def print_and_exit(figures: Figures) -> Any:
    """Print the figures, and exit without delivering the rest."""
    print(json.dumps(figures), flush=True)
    os._exit(0)


def ending(name: str, sink: Remote, *, count: int) -> Figures:
    """Record, and exit: the runner measures the end of the process and reads the counts."""
    run = Run(name, sink, count)
    for _ in range(count):
        run.side.record()
    return {"left_at": time.monotonic(), "before": run.before.triggers}


def delayed(name: str, sink: Remote, *, count: int, delay: float) -> Figures:
    sink.reset(delay)
    return burst(name, sink, count=count)


def steady(name: str, sink: Remote, *, seconds: float, rate: int, delay: float) -> Figures:
    """Record at a steady rate behind a delay, at brockman's own bounds, and watch how many wait."""
    sink.reset(delay)
    run = Run(name, sink, 9_000)
    depths: list[int] = []
    due = time.monotonic()
    for tick in range(int(seconds * 100)):
        due += 0.01
        for _ in range(rate // 100):
            run.side.record()
        if tick % 10 == 9:
            depths.append(run.side.depth())
        time.sleep(max(0.0, due - time.monotonic()))
    third = len(depths) // 3
    figures = {"early": max(depths[:third]), "late": max(depths[-third:])}
    count = int(seconds * 100) * (rate // 100)
    return {**figures, "lost": count - (run.finish(count).triggers - run.before.triggers)}


PARTS: dict[str, Callable[..., Figures]] = {
    "burst": burst,
    "paced": paced,
    "loop": loop,
    "spooled": spooled,
    "threads": threads,
    "memory": memory,
    "depth": depth,
    "ending": ending,
    "delayed": delayed,
    "steady": steady,
}


def main() -> None:
    part, name, port, options = sys.argv[1:]
    be_quiet()
    print(json.dumps(PARTS[part](name, Remote(int(port)), **json.loads(options))), flush=True)


if __name__ == "__main__":
    main()
