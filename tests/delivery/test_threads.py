"""Counts and ids when many threads record at once, with or without the GIL."""

from __future__ import annotations

import sys
import threading
from collections import Counter

import pytest

from brockman.client import FocusLabClient
from brockman.transport.memory import MemoryTransport
from tests.support.client import KEY

THREADS, EACH = 8, 5000


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest", "block"])
def test_many_threads_lose_and_double_nothing(policy):
    """Each accepted trigger is sent once or counted as dropped; ids differ; an empty buffer has no bytes."""
    transport = MemoryTransport()
    client = FocusLabClient(
        api_key=KEY,
        transport=transport,
        overflow=policy,
        max_queue_size=500,
        flush_interval=0.01,
        block_timeout=60,
    )
    accepted = []

    def work(number: int) -> None:
        accepted.append(sum(client.record_trigger(f"{number}", "viewed", "page") for _ in range(EACH)))

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
    assert len(ids) == stats.delivered == sum(accepted) - evicted
    assert stats.recorded == THREADS * EACH
    assert stats.queued_bytes == 0
    assert client.close(20)
