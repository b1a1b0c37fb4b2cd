"""Promises of every buffer: counts that are read while triggers move."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType

import pytest

from brockman.client import FocusLabClient
from brockman.transport import Answer
from tests.buffer.test_memory import make_buffer
from tests.support.client import KEY
from tests.support.waiting import eventually


class HoldingTransport:
    """A transport that holds the first batch until `first` is set, and each later one for a moment."""

    def __init__(self) -> None:
        self.first = threading.Event()
        self.accepted: list[int] = []

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        """Wait, and accept."""
        content = json.loads(body)
        if self.accepted:
            threading.Event().wait(0.05)
        else:
            self.first.wait(20)
        self.accepted.append(len(content) if isinstance(content, list) else 1)
        return Answer(201)

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_flush_that_says_all_is_delivered_is_right(where: str, tmp_path: Path) -> None:
    """Everything recorded before a true `flush` is delivered, also if a batch is settled while it begins."""
    transport = HoldingTransport()
    spool = str(tmp_path / "spool") if where == "disk" else None
    client = FocusLabClient(KEY, transport=transport, max_batch_size=1, flush_interval=0.05, spool_dir=spool)
    client.record_trigger("a", "b", "c")
    assert eventually(lambda: client.stats().in_flight == 1)
    for _ in range(5):
        client.record_trigger("a", "b", "c")

    def settle_in_between(frame: FrameType, event: str, argument: object) -> None:
        names = [caller.f_code.co_name for caller, _ in traceback.walk_stack(frame)][:4]
        if names[0] == "in_flight" and "admitted" in names and not transport.first.is_set():
            transport.first.set()
            assert eventually(lambda: client.stats().delivered >= 1)

    sys.settrace(settle_in_between)
    try:
        flushed = client.flush(20)
    finally:
        sys.settrace(None)
    assert transport.first.is_set()
    assert flushed
    assert sum(transport.accepted) == 6
    client.close()


def test_a_read_is_repeated_when_a_trigger_moved_meanwhile() -> None:
    """`read_consistently` returns values of one instant, and of an unknown one where it runs within a move."""
    buffer = make_buffer(10, 1000)
    for _ in range(3):
        buffer.put(b"{}")
    batches = [buffer.take(1, 100)]
    reads = []

    def read() -> int:
        waiting = len(buffer)
        if batches:
            buffer.settle(len(batches.pop()), delivered=True)
            buffer.take(1, 100)
        reads.append(waiting + buffer.in_flight + buffer.removed)
        return reads[-1]

    assert buffer.read_consistently(read) == 3
    assert reads == [4, 3]
    with buffer._seqlock.write():
        assert buffer.admitted == 3
        assert not buffer.is_idle
