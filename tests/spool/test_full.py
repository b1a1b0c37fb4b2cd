"""A spool that is full before a process leaves anything in it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from brockman.client import FocusLabClient
from brockman.exceptions import BufferFull, ConnectionFailed
from brockman.transport.memory import MemoryTransport
from tests.support.client import KEY

FILL = """
import os, sys
from brockman.client import FocusLabClient
from brockman.exceptions import ConnectionFailed
from brockman.transport.memory import MemoryTransport
transport = MemoryTransport(lambda body: ConnectionFailed("down"))
client = FocusLabClient(api_key="k", transport=transport, spool_dir=sys.argv[1], max_spool_bytes=2**20)
count = 0
while client.record_trigger("actor", "viewed", "page", variables={"pad": "x" * 9000}):
    count += 1
print(count, flush=True)
os._exit(9)
"""


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block", "raise"])
def test_a_process_that_finds_the_spool_full_takes_nothing_that_its_death_would_lose(overflow, tmp_path):
    """No call returns True for a trigger that is not on disk: the overflow policy holds from the first one on."""
    spool = tmp_path / "spool"
    filled = subprocess.run([sys.executable, "-c", FILL, spool], capture_output=True, text=True, timeout=60)
    client = FocusLabClient(
        api_key=KEY,
        transport=MemoryTransport(lambda body: ConnectionFailed("down")),
        spool_dir=spool,
        max_spool_bytes=2**20,
        overflow=overflow,
        block_timeout=0.001,
    )
    try:
        if overflow == "raise":
            with pytest.raises(BufferFull):
                client.record_trigger("actor", "viewed", "page")
        else:
            assert not client.record_trigger("actor", "viewed", "page")
        assert not client.flush(0.01)
        stats = client.stats()
        assert stats.dropped == {"overflow": 1}
        assert stats.recovered == stats.queued + stats.in_flight == int(filled.stdout)
    finally:
        client.close(0)
