"""Clients with the same settings share one pipeline: one buffer, one thread, one connection."""

from __future__ import annotations

import gc
import threading

import pytest

from brockman.client import FocusLabClient
from brockman.transport.memory import MemoryTransport
from tests.support.client import KEY, law_holds, record, worker_threads
from tests.support.server import Reply, silence
from tests.support.waiting import eventually


def test_clients_with_the_same_settings_share_everything(make_client, server):
    """One flushes and counts what the other records, over one connection and one thread."""
    first, second = make_client(), make_client()
    record(first, 3)
    record(second, 4, start=3)
    assert second.flush()
    assert first.stats().delivered == second.stats().delivered == 7
    assert (len(worker_threads()), server.connections) == (1, 1)


@pytest.mark.parametrize("other", [{"flush_interval": 0.06}, {"on_drop": print}, {"api_key": "another"}])
def test_one_different_setting_is_enough_to_share_nothing(make_client, other):
    """Whichever setting it is, the clients have separate pipelines."""
    first, second = make_client(), make_client(**other)
    record(first, 3)
    assert first.flush()
    assert (first.stats().delivered, second.stats().delivered) == (3, 0)


def test_functions_are_compared_by_identity(make_client):
    """A method of one object is one setting however often it is looked up; that of an equal object is another."""

    class Sink(list):  # not hashable, and all empty ones are equal
        def dropped(self, reason, body):
            self.append(reason)

    sink, other = Sink(), Sink()
    first, second = make_client(on_drop=sink.dropped), make_client(on_drop=sink.dropped)
    third = make_client(on_drop=other.dropped)
    record(first, 1)
    assert first.flush()
    assert (second.stats().delivered, third.stats().delivered) == (1, 0)


def test_wrappers_of_one_method_are_different_settings(make_client) -> None:
    """Two callables that pass on the attributes of one method are not the same function."""

    class Wrapper:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def __call__(self, *arguments):
            pass

    class Sink:
        def dropped(self, reason, body):
            pass

    sink = Sink()
    first, second = (make_client(on_drop=Wrapper(sink.dropped)) for _ in range(2))
    record(first, 1)
    assert first.flush()
    assert second.stats().delivered == 0


def test_closing_one_client_drops_nothing_of_the_others(make_client, server):
    """In an outage, close on one client waits and drops nothing; the other one delivers when it is over."""
    server.respond = lambda request: Reply(503)
    first, second = make_client(), make_client()
    record(first, 5)
    result = first.close(0.2)
    assert result.pending == 5
    assert first.record_trigger("x", "viewed", "page") is False
    assert second.record_trigger("x", "viewed", "page") is True
    server.respond = lambda request: Reply()
    assert second.close(20)
    assert (second.stats().delivered, second.stats().dropped) == (6, {"closed": 1})
    assert law_holds(first, 5 + 1 + 1)


def test_a_client_made_after_the_last_was_closed_starts_from_zero(make_client):
    """The old client stays closed; the new one has counts of its own, and works."""
    first = make_client()
    record(first, 2)
    assert first.close()
    second = make_client()
    record(second, 3)
    assert second.close()
    assert (first.stats().delivered, second.stats().delivered) == (2, 3)
    assert first.record_trigger("x", "viewed", "page") is False


def test_a_client_made_while_the_last_one_closes_loses_nothing(server):
    """Made, used and closed from many threads at once, with the same settings: every trigger is received once."""
    done = []

    def work(number: int) -> None:
        for round_ in range(20):
            with FocusLabClient(api_key=KEY, endpoint=server.endpoint, flush_interval=0.01) as client:
                record(client, 5, start=(number * 20 + round_) * 5)
        done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 6
    assert set(server.ids().values()) == {1}
    assert sorted(trigger["variables"]["n"] for trigger in server.triggers) == list(range(600))


def test_a_dropped_client_leaves_its_thread_to_the_next_one(server):
    """Made and dropped one after the other, as in views, clients use one connection; then the thread ends."""
    for number in range(30):
        client = FocusLabClient(api_key=KEY, endpoint=server.endpoint, flush_interval=0.001)
        record(client, 1, start=number)
        assert client.flush(10)
        del client
    assert server.connections == 1
    gc.collect()
    assert eventually(lambda: worker_threads() == [])
    assert eventually(lambda: not server.open_connections)


def test_a_client_with_a_transport_of_its_own_shares_nothing():
    """Two clients with a transport each, and otherwise the same settings, send through their own."""
    transports = [MemoryTransport(), MemoryTransport()]
    clients = [FocusLabClient(api_key=KEY, transport=transport) for transport in transports]
    for number, client in enumerate(clients):
        record(client, number + 1)
        assert client.close(20)
    assert [len(transport.triggers) for transport in transports] == [1, 2]


def test_a_disabled_client_counts_what_it_drops():
    """It accepts nothing, starts nothing, and can be closed."""
    client = FocusLabClient(enabled=False)
    record(client, 3)
    assert client.stats().dropped == {"disabled": 3}
    assert client.close()
    assert worker_threads() == []


def test_the_last_close_drops_what_is_left_after_its_timeout(make_client, server):
    """The last of two clients to close counts what is left as dropped."""
    server.respond = lambda request: Reply(act=silence)
    first, second = make_client(), make_client()
    record(first, 3)
    assert first.close(0.1).pending == 3
    assert second.close(0.1).pending == 3
    assert second.stats().dropped == {"shutdown": 3}
    server.hang_up()
