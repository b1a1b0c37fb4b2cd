"""record_trigger in the middle of another, where triggers go to disk: signals, finalizers, exceptions.

Each scenario runs in a process of its own, with a deadline: a deadlock is a test that fails. Files are mapped, or,
as where the file system is not trusted, written. A small spool overflows and begins segments all the time.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brockman.buffer.spool.buffer import SpoolBuffer
from brockman.stats import FlushResult
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport
from tests.spool.disks import PAD, MakeClient

ROOT = Path(__file__).parent.parent.parent / "brockman"
SMALL = 2**20  # bytes: the smallest spool, of eight segments
FAILING = 2**21  # of EXCEPTIONS: the disk fails now and then
LARGE = 2**30
PRELUDE = """
import gc, json, os, random, resource, signal, sys, threading, time
spool, way, overflow, size, seed = sys.argv[1:]
if way == "written":
    del os.posix_fallocate
from brockman.client import FocusLabClient
from brockman.exceptions import ConnectionFailed, InvalidTrigger
from brockman.transport import Answer

class Endpoint:
    is_up = True
    def __init__(self):
        self.accepted = []
    def send(self, body, timeout=None):
        if not self.is_up:
            raise ConnectionFailed("down")
        self.accepted.append(body)
        return Answer(201)
    def close(self):
        pass

DEEPEST = 20  # handlers within handlers: on a busy machine one may take longer than the time to the next signal
depth = 0

def let_the_disk_take(is_working):
    # Where a file may not grow beyond some bytes, no segment can be made, nor written on.
    soft = resource.RLIM_INFINITY if is_working else 64
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))

def ids(bodies):
    for body in bodies:
        content = json.loads(body)
        for trigger in content if isinstance(content, list) else [content]:
            yield trigger["id"]

endpoint, dropped = Endpoint(), []
client = FocusLabClient(
    api_key="k", transport=endpoint, flush_interval=0.001, max_batch_size=50, overflow=overflow,
    max_queue_size=1000, block_timeout=0.001, spool_dir=spool, max_spool_bytes=int(size),
    backoff_base=0.001, backoff_cap=0.005, on_drop=lambda reason, body: dropped.append(body),
)

def check(fewest, most):
    endpoint.is_up = True
    assert client.flush(60), client.stats()
    stats = client.stats()
    assert fewest <= stats.recorded <= most, (stats, fewest, most)
    assert stats.delivered + sum(stats.dropped.values()) == stats.recorded, stats
    assert set(stats.dropped) <= {"overflow"} and not stats.recovered, stats
    assert stats.queued_bytes == 0, stats
    delivered = list(ids(endpoint.accepted))
    assert len(delivered) == len(set(delivered)) == stats.delivered, (len(delivered), len(set(delivered)), stats)
    assert not set(delivered) & set(ids(dropped))
    if fewest == most:
        assert len(dropped) == sum(stats.dropped.values()), (len(dropped), stats)
    assert client.record_trigger("main", "works", "still")
    assert client.close(30)
    print("exact", stats.delivered > 0, bool(stats.dropped))
"""

HANDLER = """
made = 0
def handler(number, frame):
    global made, depth
    if depth < DEEPEST:
        depth += 1
        client.record_trigger("signal", "interrupted", "program")
        depth -= 1
        made += 1

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
"""

SIGNALS = """
def work():
    for _ in range(3000):
        client.record_trigger("thread", "worked", "hard", variables={"tags": ["a", "b"]})
endpoint.is_up = int(size) > 2**20 or overflow == "block"  # a handler that waits for room never ends
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
mine = 0
while any(thread.is_alive() for thread in threads) or made < 300:
    client.record_trigger("main", "worked", "hard")  # the handler runs in this thread
    mine += 1
signal.setitimer(signal.ITIMER_REAL, 0)
for thread in threads:
    thread.join()
check(4 * 3000 + made + mine, 4 * 3000 + made + mine)
assert os.listdir(spool) == []
"""

FINALIZERS = """
died = []
class Recorder:
    def __del__(self):
        client.record_trigger("finalizer", "died", "object")
        died.append(None)
gc.set_threshold(1)
endpoint.is_up = int(size) > 2**20
def work():
    for _ in range(1000):
        a, b = Recorder(), Recorder()
        a.other, b.other = b, a  # a cycle: the collector finds it at some allocation, here or in another thread
        del a, b
        client.record_trigger("thread", "worked", "hard", variables={"tags": ["a", "b"]})
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
deadline = time.monotonic() + 60
while len(died) < 4 * 1000 * 2 and time.monotonic() < deadline:
    gc.collect()  # does nothing while another thread collects
assert len(died) == 4 * 1000 * 2
check(4 * 1000 * 3, 4 * 1000 * 3)
assert os.listdir(spool) == []
"""

FLUSH_IN_HANDLER = """
flushed = []
def handler(number, frame):
    global depth
    if depth < DEEPEST:
        depth += 1
        client.record_trigger("signal", "interrupted", "program")
        flushed.append(bool(client.flush(20)))
        depth -= 1
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
mine = 0
while len(flushed) < 300:
    client.record_trigger("main", "worked", "hard")
    client.stats()
    mine += 1
signal.setitimer(signal.ITIMER_REAL, 0)
assert all(flushed)
check(mine + len(flushed), mine + len(flushed))
assert os.listdir(spool) == []
"""

FAILING_DISK = """
from brockman.buffer.spool.fallback import DiskState
DiskState.cooldown = DiskState.idle_cooldown = 0.1  # so that it is back soon
done = threading.Event()
counts = [0, 0]
def work(number):
    while not done.is_set():
        client.record_trigger("thread", "worked", "hard", variables={"tags": ["a", "b"]})
        counts[number] += 1
threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
for thread in threads:
    thread.start()
mine, deadline = 0, time.monotonic() + 60
for is_working in (False, True) * 5:
    let_the_disk_take(is_working)
    while (client.stats().spool_error is None) != is_working and time.monotonic() < deadline:
        client.record_trigger("main", "worked", "hard")
        mine += 1
done.set()
for thread in threads:
    thread.join()
signal.setitimer(signal.ITIMER_REAL, 0)
assert time.monotonic() < deadline
check(mine + made + sum(counts), mine + made + sum(counts))
assert os.listdir(spool) == []
"""

EXCEPTIONS = """
class Struck(Exception):
    pass

def strike(number, frame):
    raise Struck

signal.signal(signal.SIGALRM, strike)
chance = random.Random(seed)
struck, returned, calls = 0, 1, 1
client.record_trigger("main", "worked", "hard")
fails = int(size) == 2**21
while struck < 2000:
    endpoint.is_up = int(size) > 2**20 or struck % 400 > 300
    if fails and struck % 100 == 0:
        let_the_disk_take(struck % 200 > 0)
    try:
        # Now and then later, in the middle of a new segment.
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, chance.choice([60e-6, 60e-6, 1e-3])))
        for _ in range(40):
            calls += 1
            client.record_trigger("main", "worked", "hard", variables={"n": calls, "tags": ["a" * 500, "b"]})
            returned += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
    except (Struck, InvalidTrigger):  # an exception in the middle of fitting may come out as the latter
        struck += 1
signal.signal(signal.SIGALRM, signal.SIG_IGN)
let_the_disk_take(True)
# A call that was struck may have committed its trigger or not; each call that returned has.
check(returned, calls)
"""


def run(scenario: str, spool: Path, way: str, overflow: str, size: int) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + scenario, spool / "spool", way, overflow, str(size), "7"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.strip()


each_way = pytest.mark.parametrize("way", ["mapped", "written"])


@each_way
@pytest.mark.parametrize(
    ("overflow", "size"),
    [("drop_newest", SMALL), ("drop_oldest", SMALL), ("block", SMALL), ("drop_newest", LARGE)],
)
def test_a_signal_handler_at_1_khz_records_exactly(way, overflow, size, tmp_path):
    """Threads and a handler that interrupts the main one record: no deadlock, counts exact, no file left."""
    assert run(HANDLER + SIGNALS, tmp_path, way, overflow, size).startswith("exact True")


@each_way
@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_a_disk_that_fails_and_comes_back_leaves_the_counts_exact(way, overflow, tmp_path):
    """Threads and a handler record while files cannot be made, then can, five times: each trigger counts once."""
    assert run(HANDLER + FAILING_DISK, tmp_path, way, overflow, FAILING).startswith("exact True")


@each_way
@pytest.mark.parametrize(("overflow", "size"), [("drop_oldest", SMALL), ("drop_newest", LARGE)])
def test_finalizers_under_gc_pressure_record_exactly(way, overflow, size, tmp_path):
    """__del__ records at any allocation, in any thread: no deadlock, counts exact, no file left."""
    assert run(FINALIZERS, tmp_path, way, overflow, size) == f"exact True {size == SMALL}"


@each_way
def test_a_signal_handler_may_flush(way, tmp_path):
    """A handler that flushes in the middle of record_trigger or stats gets an answer, not a deadlock."""
    assert run(FLUSH_IN_HANDLER, tmp_path, way, "drop_newest", LARGE) == "exact True False"


@each_way
@pytest.mark.parametrize(
    ("overflow", "size"),
    [
        *(("drop_newest", size) for size in (SMALL, FAILING, LARGE)),
        ("drop_oldest", SMALL),
        ("drop_oldest", FAILING),
    ],
)
def test_an_exception_at_2000_random_points_leaves_the_counts_exact(way, overflow, size, tmp_path):
    """An exception raised from outside in the middle of record_trigger loses and doubles nothing."""
    expected = "exact True False" if size == LARGE else "exact True"
    assert run(EXCEPTIONS, tmp_path, way, overflow, size).startswith(expected)


@pytest.mark.parametrize(
    "module",
    ["memory.py", "spool/fallback.py", "spool/reader.py", "spool/writer.py"],
)
def test_no_count_is_read_before_a_call_and_stored_after_it(module):
    """Where threads share a count, `count += call()` would store over what others added during the call."""
    tree = ast.parse((ROOT / "buffer" / module).read_text())
    changes = [node for node in ast.walk(tree) if isinstance(node, ast.AugAssign)]
    assert changes
    for change in changes:
        parts = [*ast.walk(change.value), *ast.walk(change.target)]
        assert not [part for part in parts if isinstance(part, (ast.Call, ast.Await, ast.comprehension))], (
            f"{module}, line {change.lineno}"
        )


def _once(name: str, call: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have something called where the main thread next calls a function of `os`: a signal handler, say."""
    real = getattr(os, name)

    def called(*arguments: Any, **more: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            monkeypatch.setattr(os, name, real)
            call()
        return real(*arguments, **more)

    monkeypatch.setattr(os, name, called)


@pytest.mark.parametrize("name", ["listdir", "makedirs"])
def test_a_handler_that_flushes_in_the_middle_of_a_flush(
    name: str, make_spooled: MakeClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A signal handler may flush while the program looks for triggers to adopt, or opens the spool again."""
    monkeypatch.setattr(SpoolBuffer, "adopt_every", 0.01)
    client = make_spooled()
    client.record_trigger("a", "b", "c")
    assert client.flush(20)
    results: list[FlushResult] = []

    def handler() -> None:
        client.record_trigger("a", "b", "c")
        results.append(client.flush(8))

    if name == "makedirs":
        shutil.rmtree(tmp_path / "spool")
    _once(name, handler, monkeypatch)
    assert client.flush(20)
    assert [bool(result) for result in results] == [True]


def test_a_handler_that_flushes_in_the_middle_of_an_eviction(
    make_spooled: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`drop_oldest`: what is delivered while a file is being dropped is not counted or reported as dropped too."""
    is_up = threading.Event()
    transport = MemoryTransport(lambda body: Answer(201 if is_up.is_set() else 503))
    dropped: list[object] = []
    client = make_spooled(
        transport=transport,
        overflow="drop_oldest",
        max_spool_bytes=2**20,
        on_drop=lambda reason, body: dropped.append(body),
    )
    flushed: list[FlushResult] = []

    def handler() -> None:
        is_up.set()
        flushed.append(client.flush(20))

    _once("pread", handler, monkeypatch)
    count = 0
    while not flushed:
        client.record_trigger("a", "b", "c", variables={"n": count, "pad": PAD})
        count += 1
    assert client.flush(20)
    stats = client.stats()
    assert stats.delivered + len(dropped) == stats.recorded == count
    assert stats.dropped.get("overflow", 0) == len(dropped)
