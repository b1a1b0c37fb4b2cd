"""The cost of a trigger that is written to disk: python -m tests.benchmarks.spool [FOLDER]

The floor is measured in the same run: `os.write` with O_APPEND of as many bytes, on the same file system (that of
FOLDER; the temporary one is the default). Each figure is the median over rounds; the sides take turns, each round
in a process of its own.

Exits with 1 when a bound is broken: a spooled record costs at most a memory record and two such writes; with two
threads beside it that only compute, 99 of 100 take less than a millisecond.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.record import record, resident

if "written" in sys.argv[1:2]:  # before brockman looks for it: as on a file system without it
    del os.posix_fallocate

from brockman.client import FocusLabClient
from brockman.exceptions import ConnectionFailed
from brockman.transport import Answer

ROUNDS = 5
BURST = 10_000
CROWDED_BURST = 5000
CROWDED_ROUNDS = 3
MANY = 1_000_000
SENT = 200_000
MAX_WRITES = 2
MAX_P99 = 1000.0  # microseconds
FRAME = b"\x1e1234567890 " + b"x" * 330 + b"\n"  # as long as that of the example trigger


class Endpoint:
    """Accepts everything and keeps nothing while it is up."""

    def __init__(self, *, is_up: bool) -> None:
        self.is_up = is_up

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        if not self.is_up:
            raise ConnectionFailed("down")
        return Answer(201)

    def close(self) -> None:
        """Do nothing."""


def make_client(
    folder: Path | None, *, endpoint: Endpoint | None = None, size: int = 10 * BURST, **options: object
) -> FocusLabClient:
    """Return a client that delivers when it is asked to, and when a batch is full."""
    settings: dict[str, object] = {
        "flush_interval": 3600.0,
        "max_queue_size": size,
        "max_queue_bytes": 2**30,
        "max_batch_size": size,
        "max_batch_bytes": 2**30,
        **({} if folder is None else {"spool_dir": folder / "spool"}),
    }
    return FocusLabClient(api_key="k", transport=endpoint or Endpoint(is_up=True), **{**settings, **options})


def time_calls(call: Callable[[], object], count: int) -> list[float]:
    """Return what each call took, in microseconds, sorted."""
    clock = time.perf_counter_ns
    times = []
    for _ in range(count):
        started = clock()
        call()
        times.append((clock() - started) / 1000)
    return sorted(times)


def spread(times: list[float]) -> dict[str, float]:
    return {"p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100], "max": times[-1]}


@contextmanager
def two_threads_that_compute() -> Iterator[None]:
    stopped = threading.Event()

    def compute() -> None:
        while not stopped.is_set():
            sum(number * number for number in range(1000))

    threads = [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def time_client(client: FocusLabClient, count: int = BURST) -> dict[str, float]:
    for _ in range(100):
        record(client)
    client.flush()
    figures = spread(time_calls(lambda: record(client), count))
    client.close(30)
    return figures


def crowd_client(client: FocusLabClient) -> dict[str, float]:
    with two_threads_that_compute():
        return time_client(client, CROWDED_BURST)


def open_plain(folder: Path) -> Callable[[], object]:
    file = os.open(folder / "plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return lambda: os.write(file, FRAME)


def crowd_write(folder: Path) -> dict[str, float]:
    write = open_plain(folder)
    with two_threads_that_compute():
        return spread(time_calls(write, CROWDED_BURST))


def segments_in(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def time_segments(folder: Path) -> dict[str, float]:
    """Time the records that begin a segment."""
    client = make_client(folder)
    record(client)
    clock, times = time.perf_counter_ns, []
    while len(times) < 20:
        before, started = segments_in(folder), clock()
        record(client)
        took = (clock() - started) / 1000
        if segments_in(folder) - before:
            times.append(took)
    client.close(30)
    return spread(sorted(times))


def deliver(folder: Path | None) -> dict[str, float]:
    endpoint = Endpoint(is_up=False)
    client = make_client(folder, endpoint=endpoint, size=2 * SENT, max_batch_size=500, max_batch_bytes=2**19)
    for _ in range(SENT):
        record(client)
    endpoint.is_up = True
    started = time.perf_counter()
    assert client.flush(300)
    took = time.perf_counter() - started
    client.close(30)
    return {"a second": SENT / took}


def grow(folder: Path) -> dict[str, float]:
    client = make_client(folder, endpoint=Endpoint(is_up=False))
    record(client)
    before = resident()
    for _ in range(MANY):
        record(client)
    return {"bytes": resident() - before, "queued": client.stats().queued}


SIDES: dict[str, Callable[[Path], dict[str, float]]] = {
    "mapped": lambda folder: time_client(make_client(folder)),
    "memory": lambda folder: time_client(make_client(None)),
    "write": lambda folder: spread(time_calls(open_plain(folder), BURST)),
    "written": lambda folder: time_client(make_client(folder)),
    "interval": lambda folder: time_client(make_client(folder, spool_fsync="interval")),
    "always": lambda folder: time_client(make_client(folder, spool_fsync="always"), 1000),
    "mapped crowded": lambda folder: crowd_client(make_client(folder)),
    "memory crowded": lambda folder: crowd_client(make_client(None)),
    "write crowded": crowd_write,
    "segments": time_segments,
    "delivered mapped": deliver,
    "delivered memory": lambda folder: deliver(None),
    "grow": grow,
}
ONCE = {"grow"}


def measure(side: str, folder: str) -> dict[str, float]:
    """Run one side in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        command = [sys.executable, "-m", __spec__.name, side, place]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def rounds_of(side: str) -> int:
    return 1 if side in ONCE else CROWDED_ROUNDS if "crowded" in side or "delivered" in side else ROUNDS


def main(folder: str) -> int:
    """Print the table; return the exit status."""
    rounds: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for number in range(ROUNDS):
        for side, results in rounds.items():
            if number < rounds_of(side):
                results.append(measure(side, folder))

    def median(side: str, figure: str) -> float:
        return statistics.median(result[figure] for result in rounds[side])

    print(f"medians of rounds in turn, the example trigger of the README, in {folder}; microseconds")
    print(f"{'':38}{'p50':>10}{'p99':>10}{'max':>12}")
    for side, label in {
        "mapped": "spooled",
        "memory": "in memory",
        "write": f"os.write of {len(FRAME)} bytes",
        "written": "spooled, where files are not mapped",
        "interval": 'spooled, spool_fsync="interval"',
        "always": 'spooled, spool_fsync="always"',
        "mapped crowded": "beside two threads: spooled",
        "memory crowded": "beside two threads: in memory",
        "write crowded": "beside two threads: os.write",
        "segments": "a record that begins a segment",
    }.items():
        print(f"{label:38}{median(side, 'p50'):10.2f}{median(side, 'p99'):10.2f}{median(side, 'max'):12.1f}")
    bound = median("memory", "p50") + MAX_WRITES * median("write", "p50")
    spooled, p99 = median("mapped", "p50"), median("mapped crowded", "p99")
    print(f"bound: spooled {spooled:.2f} <= in memory + {MAX_WRITES} writes = {bound:.2f}")
    print(f"bound: p99 of spooled beside two threads {p99:.1f} < {MAX_P99:.0f}")
    print(
        f"delivered a second: {median('delivered mapped', 'a second'):.0f} from disk,"
        f" {median('delivered memory', 'a second'):.0f} from memory"
    )
    print(
        f"{MANY} triggers with the endpoint down: {median('grow', 'bytes') / 1e6:.1f} MB more of resident memory"
    )
    return 0 if spooled <= bound and p99 < MAX_P99 else 1


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in SIDES:
        print(json.dumps(SIDES[sys.argv[1]](Path(sys.argv[2]))))
    else:
        sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir()))
