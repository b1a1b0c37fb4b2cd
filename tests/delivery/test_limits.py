"""Limits that were learned from wrong answers, firewalls and slow links grow back."""

from __future__ import annotations

import pytest

from brockman.exceptions import ConnectionFailed
from brockman.transport import Answer
from tests.support.client import record
from tests.support.endpoint import Endpoint
from tests.support.engine import OK, Bench, is_array
from tests.support.relay import relayed


def deliver_through(status: int, *, begin: float, seconds: float, count: int = 10_000) -> Bench:
    """Deliver triggers to a server that answers with a status for some seconds; a request takes 10 ms."""

    def answer(body: bytes) -> Answer:
        bench.now += 0.01
        is_wrong = begin <= bench.now - 1000 < begin + seconds
        return Answer(status) if is_wrong and (status == 413 or is_array(body)) else OK

    bench = Bench(answer, max_batch_size=100)
    bench.deliver(count, size=200)
    return bench


@pytest.mark.parametrize("status", [413, 405, 400, 501])
@pytest.mark.parametrize("begin", [0.02, 0.1])
def test_a_second_of_wrong_refusals_costs_seconds(status, begin):
    """Where larger requests have passed before, nothing is rejected, and full batches are sent again soon."""
    bench = deliver_through(status, begin=begin, seconds=1.0)
    assert (bench.counters.delivered, bench.counters.rejected) == (10_000, 0)
    assert bench.now - 1000 < 20
    assert [len(sent) for sent in bench.sent[-6:-1]] == [100] * 5


def test_a_firewall_that_resets_large_requests_gets_small_ones():
    """Two resets, then half; larger ones are tried from time to time."""
    most = 30_000
    bench = Bench(lambda body: ConnectionFailed("reset", unanswered=True) if len(body) > most else OK)
    bench.deliver(1000, size=200)
    assert (bench.counters.delivered, bench.counters.rejected) == (1000, 0)
    assert len(bench.waits) < 20
    most = 10**9
    bench.now += 300
    bench.deliver(2000, start=1000, size=200)
    assert max(map(len, bench.sent[-5:])) == 500


def test_attempts_that_fail_before_anything_is_sent_keep_their_size():
    """A server that refuses connections gets the same batch when it is back."""
    bench = Bench([*[ConnectionFailed("refused")] * 8, OK])
    bench.deliver(500, size=200)
    assert [len(sent) for sent in bench.sent] == [500] * 9


def test_an_attempt_that_close_cuts_short_teaches_nothing():
    """Only the time that an attempt has of its own says something about the link."""
    bench = Bench([ConnectionFailed("no answer in time", unanswered=True)] * 5)
    bodies = [b'{"n": %d}' % number for number in range(100)]
    left = iter([5.0] * 20)
    for _ in range(2):
        next(bench.engine.deliver(bodies, lambda: next(left)))
    assert bench.engine.limits.max_bytes == bench.options.max_batch_bytes


@pytest.mark.parametrize("link", [{"max_request": 100_000}, {"bytes_per_second": 400_000.0}], ids=str)
def test_large_batches_get_through_a_bad_link(server, make_client, link):
    """A firewall that resets what is over 100 KB, and a link on which 256 KB take longer than an attempt."""
    endpoint = Endpoint(server)
    with relayed(server.port, **link) as relay:
        client = make_client(
            endpoint=relay.endpoint, connect_timeout=0.1, read_timeout=0.3, max_batch_bytes=256 * 1024
        )
        record(client, 1000, pad="x" * 400)
        assert client.flush(60)
        assert client.stats().delivered == 1000
        assert set(endpoint.numbers()) == set(range(1000))
        client.close(5)
