"""Outages on real sockets, while threads record: nothing lost, nothing sent twice, few attempts."""

from __future__ import annotations

import threading
import time

import pytest

from tests.support.client import law_holds, record
from tests.support.endpoint import Endpoint
from tests.support.programs import free_port
from tests.support.server import RecordingServer, Reply, cut, reset, silence
from tests.support.waiting import eventually

THREADS, EACH = 20, 200


def record_from_threads(client) -> None:
    threads = [threading.Thread(target=record, args=(client, EACH, n * EACH)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def assert_exact(client, accepted: list[str], *, may_repeat: bool) -> None:
    assert client.flush(30)
    stats = client.stats()
    assert (stats.delivered, stats.rejected, stats.dropped) == (THREADS * EACH, 0, {})
    assert law_holds(client, THREADS * EACH)
    assert len(set(accepted)) == THREADS * EACH
    if not may_repeat:
        assert len(accepted) == THREADS * EACH


def test_503_for_seconds_loses_and_doubles_nothing(server, make_client):
    """Twenty threads record into an outage of 2 s: all is delivered once, by attempts spaced by backoff."""
    until = time.monotonic() + 2
    endpoint = Endpoint(server, lambda request: 503 if time.monotonic() < until else 201)
    client = make_client(backoff_base=0.1, backoff_cap=0.5)
    record_from_threads(client)
    server.wait_until(lambda s: len(s.requests) > 3)
    assert eventually(lambda: time.monotonic() > until, 10)
    assert client.flush(30)
    assert_exact(client, list(endpoint.ids().elements()), may_repeat=False)
    unavailable = [request for request in server.requests if request.at < until]
    assert len({request.connection for request in server.requests}) == 1  # one at a time, over one connection
    assert len(unavailable) <= 60  # 2 s at waits of up to 0.5 s; without backoff there would be thousands
    assert client.stats().retries >= len(unavailable)


def test_a_refused_connection_loses_and_doubles_nothing(make_client):
    """The server comes up later, on the same port."""
    port = free_port()
    client = make_client(endpoint=f"http://127.0.0.1:{port}/api/v1/")
    record_from_threads(client)
    assert eventually(lambda: client.stats().retries >= 3)
    server = RecordingServer(port=port)
    try:
        assert client.flush(30)
        assert_exact(client, [t["id"] for t in server.triggers], may_repeat=False)
    finally:
        server.hang_up()
        client.close(1)
        server.stop()


@pytest.mark.parametrize("act", [reset, cut, silence])
def test_a_lost_answer_repeats_only_its_own_batch(server, make_client, act):
    """Reset, cut off or never sent: the same ids are sent again, nothing else is sent twice."""
    stored: list[str] = []
    ambiguous: set[str] = set()

    def respond(request):
        ids = [trigger["id"] for trigger in request.triggers]
        stored.extend(ids)
        if len(server.requests) % 3 == 0 and len(server.requests) < 12:
            ambiguous.update(ids)
            return Reply(act=act)
        return Reply()

    server.respond = respond
    client = make_client(read_timeout=0.3)
    record_from_threads(client)
    assert_exact(client, stored, may_repeat=True)
    repeated = {id for id in stored if stored.count(id) > 1} if len(stored) > THREADS * EACH else set()
    assert ambiguous
    assert repeated <= ambiguous


def test_a_server_that_closes_idle_connections_is_no_outage(server, make_client, caplog):
    """A connection closed while idle causes no wait and no warning, and loses no trigger."""
    server.respond = lambda request: Reply(hang_up=True)
    client = make_client()
    for n in range(40):
        record(client, 1, n)
        assert client.flush(10)
    assert client.stats().delivered == 40
    assert caplog.records == []
