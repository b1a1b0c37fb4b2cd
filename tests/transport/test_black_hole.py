"""An endpoint that accepts connections and never answers, and 200 000 triggers: memory and calls stay small."""

from __future__ import annotations

import json

import pytest

from tests.support.client import KEY
from tests.support.programs import ran_python
from tests.support.server import Reply, silence

SCRIPT = """
import gc, json, logging, sys, threading, time
from brockman.client import FocusLabClient

lines = []
class Lines(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())
logging.getLogger("brockman").addHandler(Lines())

def rss():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

client = FocusLabClient(api_key=sys.argv[1], endpoint=sys.argv[2], overflow=sys.argv[3],
                        read_timeout=1.0, connect_timeout=0.5, shutdown_timeout=0.5)
client.record_trigger("actor", "viewed", "page")
client.flush(0.2)
gc.collect()
before, calls = rss(), []
for n in range(100_000):
    started = time.thread_time_ns()
    client.record_trigger("actor", "viewed", "page", variables={"n": n, "pad": "x" * 500})
    calls.append(time.thread_time_ns() - started)
grown = rss() - before - 100_000 * 40  # a list of ints is the test's own
stats = client.stats()
begun = time.monotonic()
result = client.close(0.5)
print(json.dumps({"grown": grown, "slow": sorted(calls)[-10], "slowest": max(calls), "lines": lines,
                  "queued": stats.queued, "bytes": stats.queued_bytes, "recorded": client.stats().recorded,
                  "dropped": sum(client.stats().dropped.values()), "close": time.monotonic() - begun}))
"""


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_a_black_hole_costs_bounded_memory_one_line_and_no_stall(server, overflow):
    """Memory within the bounds, at most one line of log a minute (and one at the end), no call over 5 ms."""
    server.respond = lambda request: Reply(act=silence)
    ended = ran_python(SCRIPT, KEY, server.endpoint, overflow, limit=120)
    assert ended.status == 0, ended.err
    seen = json.loads(ended.out)
    assert seen["recorded"] == seen["dropped"] == 100_001
    assert seen["queued"] <= 100_000
    assert seen["bytes"] <= 32 * 1024 * 1024
    assert seen["grown"] < seen["bytes"] + 150 * seen["queued"] + 4_000_000
    # The call's own time on the processor, and of ten in 100 000 not: a shared machine stops a thread at times.
    assert seen["slow"] < 5_000_000
    assert seen["close"] < 0.5 + 5
    troubles = [line for line in seen["lines"] if "not delivered" not in line]
    assert len(troubles) <= 1, seen["lines"]
    assert len(seen["lines"]) <= 2, seen["lines"]
    print("slowest call:", seen["slowest"] / 1e6, "ms")
