"""The worker: its sending, waiting, waking and stopping."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import weakref

import pytest
from freezegun import freeze_time

from brockman.client import FocusLabClient
from brockman.exceptions import ConnectionFailed
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport
from tests.support.client import KEY, law_holds, record, worker_threads
from tests.support.programs import Ended, ran_python
from tests.support.server import Reply, reset, silence
from tests.support.waiting import eventually


def test_nothing_starts_before_the_first_trigger(make_client, server):
    """A client that records nothing has no thread and no connection, also when it is flushed and closed."""
    client = make_client()
    assert client.flush()
    assert worker_threads() == []
    assert client.close()
    assert server.connections == 0


def test_a_full_batch_goes_at_once(make_client, server):
    """A batch of max_batch_size does not wait for the interval."""
    client = make_client(flush_interval=600, max_batch_size=50)
    record(client, 49)
    assert server.requests == []
    record(client, 1, 49)
    server.wait_until(lambda s: len(s.triggers) == 50)


def test_a_batch_that_is_full_by_bytes_goes_at_once(make_client, server):
    """A batch of max_batch_bytes does not wait for the interval, and no request is larger."""
    client = make_client(flush_interval=600, max_batch_bytes=4000)
    record(client, 20, pad="x" * 300)
    server.wait_until(lambda s: len(s.triggers) >= 8)
    assert client.flush()
    assert max(len(request.body) for request in server.requests) <= 4000


def test_a_lone_trigger_goes_within_the_interval(make_client, server):
    """One trigger, and no more traffic: it is sent after flush_interval, by itself."""
    client = make_client(flush_interval=0.3)
    started = time.monotonic()
    record(client, 1)
    server.wait_until(lambda s: len(s.triggers) == 1)
    assert server.requests[0].at - started >= 0.25


def test_an_idle_worker_sleeps(make_client, server):
    """With nothing to do the thread uses no processor time at all: it waits without polling."""
    client = make_client()
    record(client, 1)
    assert client.flush()
    (thread,) = worker_threads()
    clock = time.pthread_getcpuclockid(thread.ident)
    half_a_second = threading.Event()

    def slept() -> bool:
        before = time.clock_gettime(clock)
        half_a_second.wait(0.5)
        return time.clock_gettime(clock) == before

    assert eventually(slept)  # at first it may still be on its way to sleep


def test_flush_cuts_a_backoff_wait_short_for_one_attempt(make_client, server):
    """After an outage, flush delivers at once what would have waited for minutes."""
    server.respond = lambda request: Reply(503)
    client = make_client(backoff_base=600, backoff_cap=600)
    record(client, 1)
    server.wait_until(lambda s: len(s.requests) == 1)
    assert eventually(lambda: client.stats().last_error is not None)
    assert not client.flush(0.5)
    assert len(server.requests) <= 3  # one attempt for the flush, not a storm
    server.respond = lambda request: Reply()
    assert client.flush(20)


def test_flush_does_not_cut_retry_after_short(make_client, server):
    """Retry-After is obeyed; close makes one last attempt all the same."""
    server.respond = lambda request: Reply(503, headers={"Retry-After": "300"})
    client = make_client()
    record(client, 1)
    server.wait_until(lambda s: len(s.requests) == 1)
    assert eventually(lambda: client.stats().last_error is not None)
    result = client.flush(0.3)
    assert (result.pending, bool(result), len(server.requests)) == (1, False, 1)
    server.respond = lambda request: Reply()
    assert client.close(20)
    assert client.stats().delivered == 1


def test_flush_waits_for_what_was_recorded_before_it_and_not_for_more():
    """Producers that never stop do not keep a flush from returning."""
    stop = threading.Event()
    client = FocusLabClient(api_key=KEY, transport=MemoryTransport(), overflow="drop_newest")
    recorded = []

    def produce() -> None:
        count = 0
        while not stop.is_set():
            client.record_trigger("x", "viewed", "page")
            count += 1
        recorded.append(count)

    threads = [threading.Thread(target=produce) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert client.flush(20)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert client.close(20)
    assert len(recorded) == 3
    assert law_holds(client, sum(recorded))


def test_flush_reports_what_happened(make_client, server):
    """The result counts delivered and rejected of the call, and is true when nothing is pending."""
    server.respond = lambda request: Reply(207, b'{"rejected": [{"index": 1, "error": "no"}]}')
    client = make_client(flush_interval=60)
    record(client, 5)
    result = client.flush()
    assert (result.delivered, result.rejected, result.dropped, result.pending) == (4, 1, 0, 0)
    assert result


def test_flush_returns_in_time_when_nobody_answers(make_client, server):
    """flush(timeout) comes back after the timeout and says how many are pending."""
    server.respond = lambda request: Reply(act=silence)
    client = make_client()
    record(client, 7)
    started = time.monotonic()
    result = client.flush(0.3)
    assert 0.3 <= time.monotonic() - started < 5
    assert result.pending == 7
    assert not result


def test_flushes_from_many_threads_all_return(make_client, server):
    """Each flush waits for its own triggers."""
    client = make_client()
    results = []

    def work(number: int) -> None:
        record(client, 10, number * 10)
        results.append(client.flush(20))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(results) == 10
    assert all(results)
    assert client.stats().delivered == 100


def test_flush_and_close_inside_a_callback_do_not_wait_for_themselves(server, make_client):
    """A callback runs in the worker thread: flush and close return there at once."""
    server.respond = lambda request: Reply(400)
    results = []

    def on_error(error, bodies):
        results.append(client.flush(30))
        results.append(client.close(30))

    client = make_client(on_error=on_error)
    started = time.monotonic()
    record(client, 1)
    assert eventually(lambda: len(results) == 2)
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("failure", [ValueError, SystemExit, KeyboardInterrupt, MemoryError])
def test_a_callback_that_raises_harms_nothing(server, make_client, failure, caplog):
    """Later triggers are delivered by the same thread, and the log says which callback raised what."""

    def on_error(error, bodies):
        raise failure("secret text")

    server.respond = lambda request: Reply(400 if b'"n":0' in request.body else 201)
    client = make_client(on_error=on_error)
    record(client, 1)
    assert client.flush()
    (thread,) = worker_threads()
    record(client, 5, 1)
    assert client.flush()
    assert worker_threads() == [thread]
    assert client.stats().delivered == 5
    assert f"on_error raised {failure.__name__}" in caplog.text
    assert "secret text" not in caplog.text


def test_a_transport_that_raises_anything_loses_nothing(caplog):
    """An error that is no ConnectionFailed ends no thread: the batch is sent again."""
    replies = iter([ZeroDivisionError("x"), SystemExit(1)])

    def answer(body: bytes) -> Answer:
        failure = next(replies, None)
        if failure:
            raise failure
        return Answer(201)

    client = FocusLabClient(api_key=KEY, transport=MemoryTransport(answer), flush_interval=0.01)
    record(client, 5)
    assert client.flush(20)
    assert client.stats().delivered == 5
    assert "ZeroDivisionError" in caplog.text
    assert client.close()


def test_frozen_time_does_not_stop_delivery(make_client, server):
    """Under freeze_time a trigger is recorded with the frozen time, retried, flushed and closed as ever."""
    replies = iter([503, 503])
    server.respond = lambda request: Reply(next(replies, 201))
    with freeze_time("2020-02-02 12:34:56.123456"):
        client = make_client(flush_interval=0.05)
        record(client, 1)
        server.wait_until(lambda s: len(s.requests) == 3)  # by itself, after the interval and two waits
        record(client, 1)
        assert client.flush(20)
        assert client.close(20)
    assert {trigger["recorded_at"] for trigger in server.triggers} == {"2020-02-02T12:34:56.123456Z"}


def test_a_client_imported_under_frozen_time_still_flushes():
    """Importing brockman while the clock is frozen does no harm either."""
    code = (
        "from freezegun import freeze_time\n"
        "with freeze_time('2020-01-01'):\n"
        "    from brockman.client import FocusLabClient\n"
        "    from brockman.transport.memory import MemoryTransport\n"
        "    client = FocusLabClient(api_key='k', transport=MemoryTransport(), flush_interval=0.05)\n"
        "    client.record_trigger('1', 'viewed', 'page')\n"
        "    assert client.flush(20) and client.close(20)\n"
        "    print(client.stats().delivered)\n"
    )
    assert ran_python(code) == Ended(0, "1\n", "")


def test_a_client_that_is_dropped_delivers_and_leaves_no_thread(server):
    """Once no reference to the client is left, its triggers are delivered, and its thread ends."""
    client = FocusLabClient(api_key=KEY, endpoint=server.endpoint, flush_interval=0.2)
    record(client, 5)
    watch = weakref.ref(client)
    del client
    gc.collect()
    assert watch() is None
    server.wait_until(lambda s: len(s.triggers) == 5)
    assert eventually(lambda: worker_threads() == [])


def test_close_is_idempotent_and_counts_what_comes_later(make_client, server, caplog):
    """Closing twice does nothing more; a later trigger is dropped as closed, with one warning."""
    client = make_client()
    record(client, 3)
    assert client.close()
    assert client.close()
    assert client.stats().delivered == 3
    for _ in range(5):
        assert client.record_trigger("x", "viewed", "page") is False
    assert client.stats().dropped == {"closed": 5}
    assert len([r for r in caplog.records if "closed client" in r.getMessage()]) == 1
    assert law_holds(client, 3 + 5)


def test_a_with_block_closes(server):
    """Leaving the block delivers what was recorded in it."""
    with FocusLabClient(api_key=KEY, endpoint=server.endpoint, flush_interval=60) as client:
        record(client, 5)
    assert len(server.triggers) == 5
    assert client.stats().delivered == 5


@pytest.mark.usefixtures("patient")
def test_close_returns_in_time_and_logs_how_many_were_lost(make_client, server, caplog):
    """A dead server does not hold up close: the rest is counted as shutdown, passed to on_drop and logged."""
    dropped = []
    server.respond = lambda request: Reply(act=silence)
    client = make_client(on_drop=lambda reason, body: dropped.append(reason))
    record(client, 30)
    started = time.monotonic()
    result = client.close(0.3)
    assert time.monotonic() - started < 5
    assert result.pending == 30
    assert not result
    assert client.stats().dropped == {"shutdown": 30}
    assert dropped == ["shutdown"] * 30
    assert "30 triggers not delivered" in caplog.text
    assert law_holds(client, 30)
    server.hang_up()


@pytest.mark.parametrize("reply", [Reply(403), Reply(503, headers={"Retry-After": "200"})])
def test_close_does_not_wait_when_the_next_attempt_would_be_too_late(make_client, server, reply):
    """With a wrong key, or when the server asks for more time than there is: it ends after an attempt."""
    server.respond = lambda request: reply
    client = make_client()
    record(client, 3)
    started = time.monotonic()
    assert client.close(29).pending == 3
    assert time.monotonic() - started < 20
    assert client.stats().dropped == {"shutdown": 3}
    assert len(server.requests) <= 3  # closing cuts the waits before it short
    assert eventually(lambda: worker_threads() == [])


def test_an_answer_that_comes_after_close_changes_no_count(server):
    """Triggers dropped by close stay dropped, even if their answer arrives a moment later."""
    gate = threading.Event()

    def answer(body: bytes) -> Answer:
        gate.wait(30)
        return Answer(201)

    client = FocusLabClient(api_key=KEY, transport=MemoryTransport(answer), flush_interval=0.01)
    record(client, 5)
    assert eventually(lambda: client.stats().in_flight == 5)
    assert not client.close(0.1)
    gate.set()
    assert eventually(lambda: worker_threads() == [])
    assert (client.stats().delivered, client.stats().dropped) == (0, {"shutdown": 5})


def test_oldest_age_says_how_long_the_oldest_trigger_waits():
    """None with nothing waiting; else seconds since the oldest was recorded, in flight or not."""
    client = FocusLabClient(api_key=KEY, transport=MemoryTransport(), flush_interval=600)
    assert client.stats().oldest_age is None
    with freeze_time("2026-01-01 00:00:00") as clock:
        record(client, 1)
        clock.tick(90)
        assert client.stats().oldest_age == 90
    assert client.close()
    assert client.stats().oldest_age is None


def test_close_cut_short_by_ctrl_c_leaves_everything_counted():
    """The exception comes out at once; what was not delivered is counted, and the client is closed."""
    import signal

    client = FocusLabClient(
        api_key=KEY, transport=MemoryTransport(lambda body: ConnectionFailed("x")), flush_interval=0.01
    )
    record(client, 5)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            client.close(60)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert client.stats().dropped == {"shutdown": 5}
    assert client.record_trigger("x", "viewed", "page") is False
    assert law_holds(client, 5 + 1)


def test_a_transport_that_fails_after_close_does_not_keep_the_thread():
    """close from a callback, and a transport with a fault: the thread ends when its time is over, all counted."""
    recorded = threading.Event()

    class Faulty:
        sends = 0

        def send(self, body, timeout=None):
            Faulty.sends += 1
            if Faulty.sends == 1:
                assert recorded.wait(20)
                return Answer(400)
            raise RuntimeError("a fault")

        def close(self):
            pass

    client = FocusLabClient(
        api_key=KEY,
        transport=Faulty(),
        max_batch_size=1,
        flush_interval=0.01,
        on_error=lambda error, bodies: client.close(0.1),
    )
    record(client, 3)
    recorded.set()
    assert eventually(lambda: sum(client.stats().dropped.values()) == 2)
    assert eventually(lambda: worker_threads() == [])
    assert (client.stats().rejected, client.stats().dropped) == (1, {"shutdown": 2})
    assert Faulty.sends < 10


@pytest.mark.usefixtures("patient")
def test_an_on_drop_that_exits_is_called_for_every_trigger_that_close_drops():
    """SystemExit there ends neither the calls nor the process."""
    seen: list[str] = []

    def leave(reason, body):
        seen.append(reason)
        raise SystemExit

    client = FocusLabClient(api_key=KEY, endpoint="http://127.0.0.1:9/", flush_interval=60, on_drop=leave)
    record(client, 10)
    client.close(0.2)
    assert eventually(lambda: seen == ["shutdown"] * 10)


def test_nothing_is_sent_after_close_has_returned(server):
    """A stale connection detected after close is not retried, and no connection stays open."""

    def reset_later(server, connection):
        server.late.wait(20)
        reset(server, connection)

    server.late = threading.Event()
    server.respond = lambda request: Reply(act=reset_later) if len(server.requests) == 1 else Reply()
    client = FocusLabClient(api_key=KEY, endpoint=server.endpoint, flush_interval=0.01)
    record(client, 1)
    assert client.flush(10)
    record(client, 1)
    server.wait_until(lambda s: len(s.requests) == 2)
    assert not client.close(0.1)
    after = client.stats()
    server.late.set()
    assert eventually(lambda: worker_threads() == [])
    assert len(server.requests) == 2
    assert client.stats().batches == after.batches == 1
    assert eventually(lambda: not server.open_connections)


def test_a_slow_on_drop_does_not_hold_close():
    """All are counted; the log says for how many on_drop was not called."""
    client = FocusLabClient(
        api_key=KEY,
        transport=MemoryTransport(lambda body: ConnectionFailed("x")),
        on_drop=lambda reason, body: threading.Event().wait(0.05),
    )
    record(client, 200)
    started = time.monotonic()
    assert client.close(0.1).pending == 200
    assert time.monotonic() - started < 5  # 200 calls would take 10 s
    assert client.stats().dropped == {"shutdown": 200}


@pytest.mark.parametrize("timeout", [float("nan"), -1, 0])
def test_nan_and_negative_timeouts_do_not_wait(timeout, server):
    """nan and negative numbers are taken as 0, None as no limit, by close and by flush."""
    server.respond = lambda request: Reply(act=silence)
    client = FocusLabClient(api_key=KEY, endpoint=server.endpoint)
    record(client, 1)
    assert client.flush(timeout).pending == 1
    assert client.close(timeout).pending == 1
    assert FocusLabClient(api_key=KEY, endpoint=server.endpoint).close(None)
    server.hang_up()


def test_recorded_never_goes_back():
    """Polled from other threads while triggers are evicted and delivered, the count of all only grows."""
    import sys

    client = FocusLabClient(
        api_key=KEY, transport=MemoryTransport(), overflow="drop_oldest", max_queue_size=3, flush_interval=0.001
    )
    stop, seen = threading.Event(), []

    def produce() -> None:
        while not stop.is_set():
            client.record_trigger("x", "viewed", "page")

    def poll() -> None:
        counts = [client.stats().recorded for _ in range(5000)]
        seen.append(all(first <= second for first, second in itertools.pairwise(counts)))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=target) for target in (produce, produce, poll, poll)]
        for thread in threads:
            thread.start()
        for thread in threads[2:]:
            thread.join(60)
        stop.set()
        for thread in threads[:2]:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert seen == [True, True]
    assert client.close(20)


def test_connections_of_a_client_that_is_gone_are_closed_at_once(server):
    """Without waiting for the garbage collector: the thread that ends closes them."""
    gc.disable()
    try:
        for _ in range(20):
            client = FocusLabClient(api_key=KEY, endpoint=server.endpoint, flush_interval=0.001)
            record(client, 1)
            assert client.flush(10)
            del client
        assert eventually(lambda: not server.open_connections)
    finally:
        gc.enable()
