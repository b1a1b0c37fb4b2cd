"""The cost of one `record_trigger`, counted in calls and instructions: independent of the machine's speed.

`python -m tests.benchmarks.peers` measures how long it takes, beside other trackers.
"""

from __future__ import annotations

import dis
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from brockman.client import FocusLabClient
from brockman.options.secret import Secret
from brockman.process.threads import HAS_GIL
from brockman.transport.http import HttpTransport
from brockman.transport.memory import MemoryTransport
from brockman.trigger.encode import orjson
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(
    not HAS_GIL or orjson is None or sys.implementation.name != "cpython" or sys.gettrace() is not None,
    reason="the counts are those of CPython with its global lock",
)

# For the README's example trigger: today's numbers, and a little room.
PYTHON_CALLS, SPOOL_PYTHON_CALLS = 3 + 1, 4 + 1
C_CALLS, SPOOL_C_CALLS = 12 + 2, 10 + 2
INSTRUCTIONS, SPOOL_INSTRUCTIONS = 410, 490  # today up to 361 and 437, as the version of Python has it

# Functions in C that are no lock, no system call, no wakeup, and no clock but for the trigger's time.
HARMLESS = {"ContextVar.get", "datetime.now", "str.strip", "dict.values", "dumps", "len", "deque.append"}


# For one request over an open connection: urllib3 sets two of the timeouts, and sends head and body separately.
TIMEOUTS_SET, SENDS = 3, 2


@pytest.fixture
def make_quiet():
    """Make a client whose worker sleeps during the count."""
    clients = []

    def make(**options: Any) -> FocusLabClient:
        client = FocusLabClient(
            api_key="k", transport=MemoryTransport(), max_batch_size=10_000, flush_interval=3600, **options
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def record(client: FocusLabClient) -> None:
    client.record_trigger(
        actor_id=42,
        action="viewed",
        obj="blog post",
        identities={"email": "ada@example.com"},
        attributes={"plan": "pro"},
        variables={"tags": ["python", "queues", "testing"], "title": "How to never lose a trigger"},
    )


def count_calls(run: Callable[[], object]) -> tuple[Counter[str], Counter[str]]:
    """Return the names of the called functions: those in Python, and those in C."""
    python: Counter[str] = Counter()
    in_c: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            python[frame.f_code.co_name] += 1
        elif event == "c_call":
            in_c[arg.__qualname__] += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(before)
    python -= Counter(["<lambda>", "record"])  # ours
    return python, in_c - Counter(["setprofile"])


def count_instructions(client: FocusLabClient) -> Counter[str]:
    """Return the names of the instructions executed for a trigger."""
    found: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        frame.f_trace_opcodes = True
        if event == "opcode":
            found[dis.opname[frame.f_code.co_code[frame.f_lasti]]] += 1
        return trace

    sys._getframe().f_trace_opcodes = True  # CPython 3.12 looks for it when tracing begins
    sys.settrace(trace)
    try:
        record(client)
    finally:
        sys.settrace(None)
    return found


def count_at_rest(client: FocusLabClient) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Count the cost of a trigger while the worker sleeps until a batch is full, so that no wakeup is set."""

    counts: list[tuple[Counter[str], Counter[str]]] = []

    def wakes_nobody() -> bool:
        counts.append(count_calls(lambda: record(client)))
        return "_wake" not in counts[-1][0]

    record(client)
    assert eventually(wakes_nobody)
    return *counts[-1], count_instructions(client)


def test_the_calls_and_instructions_of_a_trigger(make_quiet):
    """Recording stays as short as it is: two more function calls fail this test."""
    python, in_c, instructions = count_at_rest(make_quiet())
    assert python["record_trigger"] == 1
    assert python.total() <= PYTHON_CALLS, python
    assert in_c.total() <= C_CALLS, in_c
    assert 100 < instructions.total() <= INSTRUCTIONS, instructions


def test_a_trigger_is_encoded_once(make_quiet):
    """The JSON is made in one call."""
    _, in_c, _ = count_at_rest(make_quiet())
    assert [name for name in in_c.elements() if "dump" in name or "encode" in name] == ["dumps"]


def test_a_trigger_takes_no_lock_and_makes_no_system_call(make_quiet):
    """Recording neither waits for another thread nor enters the kernel."""
    _, in_c, instructions = count_at_rest(make_quiet())
    assert set(in_c) <= HARMLESS
    assert not {"BEFORE_WITH", "SETUP_WITH", "LOAD_SPECIAL"} & set(instructions)


def test_the_calls_and_instructions_of_a_spooled_trigger(make_quiet, tmp_path):
    """On disk, too, recording stays as short as it is, and takes no lock."""
    python, in_c, instructions = count_at_rest(make_quiet(spool_dir=str(tmp_path / "spool")))
    assert python["append"] == 1
    assert python.total() <= SPOOL_PYTHON_CALLS, python
    assert in_c.total() <= SPOOL_C_CALLS, in_c
    assert 100 < instructions.total() <= SPOOL_INSTRUCTIONS, instructions
    assert not {"BEFORE_WITH", "SETUP_WITH", "LOAD_SPECIAL"} & set(instructions)


def test_a_request_is_prepared_once_and_sets_few_timeouts(server):
    """All that is equal for every request is prepared once, and a timeout that is set is not set again.

    Setting one is a system call, after which another thread may keep the interpreter's lock for 5 ms.
    """
    transport = HttpTransport(server.endpoint, Secret("k"), connect_timeout=3.05, read_timeout=10)
    transport.send(b"{}")
    python, in_c = count_calls(lambda: transport.send(b"{}"))
    transport.close()
    assert len(server.requests) == 2
    assert python["urlopen"] == 1
    assert not {"prepare", "prepare_headers", "get_environ_proxies", "extract_cookies_to_jar"} & set(python)
    assert 0 < in_c["socket.settimeout"] <= TIMEOUTS_SET
    assert in_c["socket.sendall"] <= SENDS
