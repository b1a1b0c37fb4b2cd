"""What waits in large numbers is delivered in longer batches."""

from __future__ import annotations

import threading

import pytest

from tests.conftest import record
from tests.support.server import RecordingServer, Reply, Request


class Gate:
    """A server that holds its second array until it is told to go on, and refuses those longer than `longest`."""

    def __init__(self, longest: int, status: int = 400) -> None:
        self.opened = threading.Event()
        self.refused = 0
        self._longest = longest
        self._status = status
        self._arrays = 0

    def __call__(self, request: Request) -> Reply:
        self._arrays += 1
        if self._arrays > 1:
            assert self.opened.wait(20)
        if request.is_array and len(request.triggers) > self._longest:
            self.refused += 1
            return Reply(self._status)
        return Reply(201)


def deliver_backlog(make_client, server: RecordingServer, gate: Gate) -> list[int]:
    """Have 10 delivered, then 390 wait behind a request; return how long the arrays were."""
    server.respond = gate
    client = make_client(max_batch_size=10, max_queue_size=400)
    record(client, 10)
    assert client.flush(20)
    record(client, 390, start=10)
    gate.opened.set()
    assert client.flush(20)
    assert sorted(trigger["variables"]["n"] for trigger in accepted(server, gate)) == list(range(400))
    assert client.stats().rejected == 0
    return [len(request.triggers) for request in server.requests]


def accepted(server: RecordingServer, gate: Gate) -> list[dict]:
    return [t for request in server.requests if len(request.triggers) <= gate._longest for t in request.triggers]


def test_a_backlog_is_delivered_in_longer_batches(make_client, server):
    """A slow network delivers more in a request when much waits, up to ten times `max_batch_size`."""
    lengths = deliver_backlog(make_client, server, Gate(longest=1000))
    assert max(lengths) == 100
    assert len(lengths) < 40


@pytest.mark.parametrize("status", [400, 413, 500])
def test_an_endpoint_that_refuses_long_batches_gets_short_ones(make_client, server, status):
    """Nothing is lost when the server takes no more than `max_batch_size`, and it is not asked again and again."""
    gate = Gate(longest=10, status=status)
    lengths = deliver_backlog(make_client, server, gate)
    assert gate.refused <= 15  # 100, 50 and 50, 25 four times, 12 and 13
    assert max(lengths) == 100
