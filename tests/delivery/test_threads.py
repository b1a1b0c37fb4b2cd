"""Counts and ids with many threads at once, with or without a global lock of the interpreter."""

from __future__ import annotations

import sys
import threading
from collections import Counter

import pytest

from brockman.client import FocusLabClient
from brockman.transport.memory import MemoryTransport
from tests.conftest import KEY

THREADS, EACH = 8, 5000


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest", "block"])
def test_many_threads_lose_and_double_nothing(policy):
    """What record_trigger took is sent once or counted as dropped; ids differ; an empty buffer has no bytes."""
    transport = MemoryTransport()
    client = FocusLabClient(
        api_key=KEY,
        transport=transport,
        overflow=policy,
        max_queue_size=500,
        flush_interval=0.01,
        block_timeout=60,
    )
    taken = []

    def work(number: int) -> None:
        taken.append(sum(client.record_trigger(f"{number}", "viewed", "page") for _ in range(EACH)))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert client.flush(60)
    stats = client.stats()
    ids = Counter(trigger["id"] for trigger in transport.triggers)
    evicted = stats.dropped.get("overflow", 0) if policy == "drop_oldest" else 0
    assert set(ids.values()) == {1}
    assert len(ids) == stats.delivered == sum(taken) - evicted
    assert stats.recorded == THREADS * EACH
    assert stats.queued_bytes == client._pipeline.buffer._bytes == 0
    assert client.close(20)
