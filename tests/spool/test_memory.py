"""A day without network: a million triggers wait on disk, and memory stays flat."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

MAX_GROWTH = 20_000_000  # bytes
CHILD = """
import json, os, re, sys, threading
from brockman.client import FocusLabClient
from brockman.exceptions import ConnectionFailed
from brockman.transport import Answer

spool, count = sys.argv[1], int(sys.argv[2])
number_of = re.compile(rb'"variables":{"n":([0-9]+)}').findall

class Endpoint:
    is_up, delivered, in_order = False, 0, True
    def send(self, body, timeout=None):
        if not self.is_up:
            raise ConnectionFailed("down")
        numbers = list(map(int, number_of(body)))
        self.in_order &= numbers == list(range(self.delivered, self.delivered + len(numbers)))
        self.delivered += len(numbers)
        return Answer(201)
    def close(self):
        pass

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

endpoint = Endpoint()
client = FocusLabClient(api_key="k", transport=endpoint, spool_dir=spool, max_batch_size=5000)

def record(first, stop):
    for number in range(first, stop):
        client.record_trigger("actor", "viewed", "page", variables={"n": number})

record(0, 1)
before = resident()
record(1, count)
grown = resident() - before
stats = client.stats()
endpoint.is_up = True
flushed = client.flush(200)
after = client.stats()
closed = client.close(30)
print(json.dumps({
    "grown": grown, "waited": stats.queued + stats.in_flight, "flushed": bool(flushed),
    "delivered": endpoint.delivered,
    "counted": after.delivered, "in_order": endpoint.in_order, "dropped": dict(after.dropped),
    "closed": bool(closed),
}))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="resident memory is read from /proc")
def test_a_million_triggers_wait_on_disk_and_memory_stays_flat(tmp_path):
    """With the endpoint down memory grows by less than 20 MB; then all arrive in order, and no file is left."""
    spool, count = tmp_path / "spool", 1_000_000
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, spool, str(count)],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen.pop("grown") < MAX_GROWTH
    assert seen == {
        "waited": count,
        "flushed": True,
        "delivered": count,
        "counted": count,
        "in_order": True,
        "dropped": {},
        "closed": True,
    }
    assert os.listdir(spool) == []
