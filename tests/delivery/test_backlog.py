"""A backlog is delivered in batches larger than `max_batch_size`."""

from __future__ import annotations

import pytest

from brockman.client import FocusLabClient
from tests.support.client import KEY, record
from tests.support.endpoint import Endpoint
from tests.support.server import RecordingServer, Request


def deliver_backlog(make_client, server: RecordingServer, endpoint: Endpoint) -> list[int]:
    """Deliver 10 triggers, then 390 that waited behind a request; return the lengths of the requests."""
    client = make_client(max_batch_size=10, max_queue_size=400)
    record(client, 10)
    assert client.flush(20)
    endpoint.hold()
    record(client, 390, start=10)
    endpoint.release()
    assert client.flush(20)
    assert sorted(endpoint.numbers()) == list(range(400))
    assert client.stats().rejected == 0
    return [len(request.triggers) for request in server.requests]


def test_a_backlog_is_delivered_in_larger_batches(make_client, server):
    """A slow network gets more in a request when much waits, up to ten times `max_batch_size`."""
    lengths = deliver_backlog(make_client, server, Endpoint(server))
    assert max(lengths) == 100
    assert len(lengths) < 40


def test_a_burst_into_a_slow_sink_is_delivered_with_the_default_settings(server):
    """20 000 triggers that are recorded within the time of one request: none is dropped, and batches grow."""
    endpoint = Endpoint(server)
    with FocusLabClient(KEY, server.endpoint) as client:
        record(client, 2)
        assert client.flush(20)  # the endpoint takes arrays
        endpoint.hold()
        record(client, 20_000, start=2)
        assert client.stats().dropped == {}
        endpoint.release()
        assert client.flush(60)
    assert sorted(endpoint.numbers()) == list(range(20_002))
    assert len(server.requests) < 20_000 / 500


@pytest.mark.parametrize("status", [400, 413, 500])
def test_an_endpoint_that_rejects_large_batches_gets_small_ones(make_client, server, status):
    """Nothing is lost when it takes no more than `max_batch_size` at once, and few attempts are made with more."""
    rejected: list[int] = []

    def answer(request: Request) -> int:
        if len(request.triggers) <= 10:
            return 201
        rejected.append(len(request.triggers))
        return status

    lengths = deliver_backlog(make_client, server, Endpoint(server, answer))
    assert len(rejected) <= 15  # 100, 50 and 50, 25 four times, 12 and 13
    assert max(lengths) == 100
