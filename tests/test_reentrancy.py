"""record_trigger during another: in signal handlers and finalizers, and interrupted by exceptions.

Each scenario runs in a process of its own, with a time limit, so that a deadlock fails the test.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.programs import ran_python

ROOT = Path(__file__).parent.parent / "brockman"
PRELUDE = """
import ctypes, gc, json, random, signal, sys, threading, time
from brockman.client import FocusLabClient
from brockman.exceptions import InvalidTrigger
from brockman.transport.memory import MemoryTransport

transport = MemoryTransport()
client = FocusLabClient(
    api_key="k", transport=transport, flush_interval=0.001, max_batch_size=50, overflow=sys.argv[1],
    max_queue_size=int(sys.argv[2]), block_timeout=0.001,
)

def check(calls):
    assert client.flush(30)
    stats = client.stats()
    assert stats.recorded == calls, (stats, calls)
    assert stats.delivered + sum(stats.dropped.values()) == calls, (stats, calls)
    assert len(transport.triggers) == stats.delivered
    assert len({t["id"] for t in transport.triggers}) == stats.delivered
    assert client.close(30)
    print("exact", stats.delivered > 0, bool(stats.dropped))
"""

SIGNALS = """
made = 0
def handler(number, frame):
    global made
    client.record_trigger("signal", "interrupted", "program")
    made += 1

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
def work():
    for _ in range(5000):
        client.record_trigger("thread", "worked", "hard", variables={"tags": ["a", "b"]})
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
mine = 0
while any(thread.is_alive() for thread in threads) or made < 300:
    client.record_trigger("main", "worked", "hard")  # the handler runs in this thread
    mine += 1
signal.setitimer(signal.ITIMER_REAL, 0)
for thread in threads:
    thread.join()
check(8 * 5000 + made + mine)
"""

FINALIZERS = """
died = []
class Recorder:
    def __del__(self):
        client.record_trigger("finalizer", "died", "object")
        died.append(None)
gc.set_threshold(1)
def work():
    for _ in range(2000):
        a, b = Recorder(), Recorder()
        a.other, b.other = b, a  # a cycle: the collector finds it at some allocation, here or in another thread
        del a, b
        client.record_trigger("thread", "worked", "hard", variables={"tags": ["a", "b"]})
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
deadline = time.monotonic() + 60
while len(died) < 8 * 2000 * 2 and time.monotonic() < deadline:
    gc.collect()  # does nothing while another thread collects
check(8 * 2000 + len(died))
assert len(died) == 8 * 2000 * 2
"""

FLUSH_IN_HANDLER = """
flushed = []
def handler(number, frame):
    client.record_trigger("signal", "interrupted", "program")
    flushed.append(bool(client.flush(20)))
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
mine = 0
while len(flushed) < 500:
    client.record_trigger("main", "worked", "hard")
    client.stats()
    mine += 1
signal.setitimer(signal.ITIMER_REAL, 0)
check(mine + len(flushed))
assert all(flushed)
"""

EXCEPTIONS = """
class Interrupted(Exception):
    pass

def interrupt(number, frame):
    raise Interrupted

signal.signal(signal.SIGALRM, interrupt)
chance = random.Random(7)
interrupted = returned = calls = 0
while interrupted < 2000:
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 60e-6))
        for _ in range(4):
            calls += 1
            client.record_trigger("main", "worked", "hard", variables={"n": calls, "tags": ["a", "b"]})
            returned += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
    except (Interrupted, InvalidTrigger):  # an exception while coercing a value may become the latter
        interrupted += 1
signal.signal(signal.SIGALRM, signal.SIG_IGN)
# An interrupted call may have committed its trigger or not; each call that returned has.
assert client.flush(30)
stats = client.stats()
assert stats.recorded == stats.delivered + sum(stats.dropped.values())
assert returned <= stats.recorded <= calls, (returned, stats, calls)
assert len(transport.triggers) == stats.delivered
numbers = [t["variables"]["n"] for t in transport.triggers]
assert len(set(numbers)) == len(numbers)
assert stats.queued_bytes == 0
assert client.record_trigger("main", "works", "still")
assert client.close(30)
print("exact", stats.delivered > 0, bool(stats.dropped))
"""


def run(scenario: str, overflow: str, max_queue_size: int) -> str:
    ended = ran_python(PRELUDE + scenario, overflow, str(max_queue_size), limit=120)
    assert ended.status == 0, ended.err
    return ended.out.strip()


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block"])
def test_a_signal_handler_at_1_khz_records_exactly(overflow):
    """Eight threads and the main thread record while a handler interrupts it: no deadlock, counts exact."""
    assert run(SIGNALS, overflow, 1000).startswith("exact True")


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_finalizers_under_gc_pressure_record_exactly(overflow):
    """__del__ records at any allocation, in any thread, also the worker: no deadlock, counts exact."""
    assert run(FINALIZERS, overflow, 500).startswith("exact True")


def test_a_signal_handler_may_flush():
    """A handler that flushes during record_trigger or stats does not deadlock."""
    assert run(FLUSH_IN_HANDLER, "drop_newest", 100_000) == "exact True False"


@pytest.mark.parametrize(("overflow", "size"), [("drop_newest", 100_000), ("drop_newest", 2), ("drop_oldest", 2)])
def test_an_exception_at_2000_random_points_leaves_the_counts_exact(overflow, size):
    """An asynchronous exception during record_trigger loses no trigger uncounted."""
    expected = "exact True False" if size > 2 else "exact True True"
    assert run(EXCEPTIONS, overflow, size) == expected


@pytest.mark.parametrize("module", ["buffer/counters.py", "buffer/memory.py"])
def test_no_count_is_read_before_a_call_and_stored_after_it(module):
    """With `count += call()` a thread would overwrite what others added during the call."""
    tree = ast.parse((ROOT / module).read_text())
    changes = [node for node in ast.walk(tree) if isinstance(node, ast.AugAssign)]
    assert changes
    for change in changes:
        parts = [*ast.walk(change.value), *ast.walk(change.target)]
        assert not [part for part in parts if isinstance(part, (ast.Call, ast.Await, ast.comprehension))], (
            f"{module}, line {change.lineno}"
        )
