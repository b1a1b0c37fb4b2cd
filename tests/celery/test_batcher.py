"""Group commit: what is sent together, and what an exception in the middle leaves behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from brockman.celery.confirm import Batcher, Confirming
from brockman.client import FocusLabClient
from brockman.delivery.pipeline import Pipeline
from brockman.delivery.policy import Outcome
from tests.conftest import eventually
from tests.support.server import RecordingServer, Reply

BODIES = [b"%d" % number for number in range(20)]


class Sender:
    """Sends when it is let; the verdict on each is its own text."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.gate = threading.Semaphore(0)
        self.error: BaseException | None = None

    def __call__(self, bodies: Sequence[bytes]) -> list[str]:
        self.batches.append(list(bodies))
        assert self.gate.acquire(timeout=20)
        error, self.error = self.error, None
        if error is not None:
            raise error
        return [body.decode() for body in bodies]


@pytest.fixture
def sender() -> Sender:
    return Sender()


def make(sender: Sender, **limits: int) -> Batcher[str]:
    return Batcher(sender, "interrupted", **{"max_count": 500, "max_bytes": 10_000, **limits})


def waiting(group: Batcher[str], count: int) -> bool:
    """Return whether so many have come to wait."""
    return eventually(lambda: group.waiting == count)


def test_who_waits_goes_together_and_gets_its_own(sender: Sender) -> None:
    """The first goes alone, the others when it is through; one by one where the limits say so."""
    group = make(sender, max_count=10)
    with ThreadPoolExecutor(20) as threads:
        first = threads.submit(group.send, BODIES[0])
        assert eventually(lambda: len(sender.batches) == 1)
        rest = [threads.submit(group.send, body) for body in BODIES[1:]]
        assert waiting(group, 19)
        sender.gate.release(3)
        assert [verdict.result(20) for verdict in (first, *rest)] == [body.decode() for body in BODIES]
    assert [len(batch) for batch in sender.batches] == [1, 10, 9]


def test_an_exception_strikes_the_one_that_sends(sender: Sender) -> None:
    """It alone raises; those that went with it may try again; those that wait are sent."""
    group = make(sender)
    with ThreadPoolExecutor(20) as threads:
        first = threads.submit(group.send, b"first")
        assert eventually(lambda: len(sender.batches) == 1)
        rest = [threads.submit(group.send, body) for body in BODIES[:5]]
        assert waiting(group, 5)
        sender.gate.release()
        assert first.result(20) == "first"
        assert eventually(lambda: len(sender.batches) == 2)
        later = [threads.submit(group.send, body) for body in BODIES[5:8]]
        assert waiting(group, 3)
        sender.error = KeyboardInterrupt()
        sender.gate.release(2)
        errors = [verdict.exception(20) for verdict in rest]
        assert sum(isinstance(error, KeyboardInterrupt) for error in errors) == 1
        assert {verdict.result() for verdict, error in zip(rest, errors, strict=True) if error is None} == {
            "interrupted"
        }
        assert [verdict.result(20) for verdict in later] == ["5", "6", "7"]


def test_an_exception_leaves_nothing_held(sender: Sender) -> None:
    """Who comes next is sent."""
    group = make(sender)
    sender.error = SystemExit()
    sender.gate.release(2)
    with pytest.raises(SystemExit):
        group.send(b"1")
    assert group.send(b"2") == "2"


# Four greenlets: one sends, and three wait, of which the first is told by a time limit to wait no more.
LIMITED = """
from gevent import monkey; monkey.patch_all()
import gevent, time
from brockman.celery.confirm import Batcher

sent = []

def send(bodies):
    sent.append(list(bodies))
    time.sleep(0.2)
    return bodies

group = Batcher(send, b"interrupted", max_count=500, max_bytes=1000)

def limited():
    with gevent.Timeout(0.05, False):
        group.send(b"limited")

greenlets = [gevent.spawn(group.send, b"1"), gevent.spawn(limited)]
greenlets += [gevent.spawn(group.send, body) for body in (b"2", b"3")]
gevent.joinall(greenlets, timeout=20, raise_error=True)
assert [greenlet.value for greenlet in greenlets] == [b"1", None, b"2", b"3"], greenlets
assert sent == [[b"1"], [b"2", b"3"]], sent
"""


def test_a_time_limit_strikes_one_that_waits() -> None:
    """It leaves the line, and the others do not stand still."""
    pytest.importorskip("gevent")
    subprocess.run([sys.executable, "-c", LIMITED], check=True, timeout=60)


@pytest.fixture
def send(make_client: Callable[..., FocusLabClient]) -> Iterator[Callable[..., list[Outcome]]]:
    """Send three triggers together, with one client and what it learned, and return the rulings."""
    client = make_client()
    pipeline = Pipeline(client.options)
    engine = pipeline.make_engine()
    settled = 0

    def send_three(*things: str) -> list[Outcome]:
        nonlocal settled
        bodies = [client.encode_trigger("7", "viewed", thing) for thing in things]
        results = pipeline.send_each(engine, [body for body in bodies if body is not None])
        for body, result in zip(bodies, results, strict=True):
            if result.outcome is Outcome.REFUSED and result.error is not None and body is not None:
                pipeline.reject(body, result.error)
        outcomes = [result.outcome for result in results]
        settled += outcomes.count(Outcome.ACCEPTED) + outcomes.count(Outcome.REFUSED)
        stats = pipeline.stats()
        assert stats.recorded == settled  # what is to be sent again is the caller's, and not counted
        assert stats.rejected == outcomes.count(Outcome.REFUSED)
        return outcomes

    yield send_three
    pipeline.close(1)


def test_verdicts_on_each(server: RecordingServer, send: Callable[..., list[Outcome]]) -> None:
    """A 207 rules on each by its place."""
    server.respond = lambda request: Reply(207, b'{"rejected": [{"index": 1, "error": "no"}]}')
    assert send("a", "b", "c") == [Outcome.ACCEPTED, Outcome.REFUSED, Outcome.ACCEPTED]
    assert len(server.requests) == 1


def test_a_server_that_knows_no_arrays(server: RecordingServer, send: Callable[..., list[Outcome]]) -> None:
    """Its refusals are halved down to single triggers; from then on each trigger goes alone."""
    server.respond = lambda request: Reply(400 if request.is_array else 201)
    for _ in range(2):
        assert send("a", "b", "c") == [Outcome.ACCEPTED] * 3
    assert [request.is_array for request in server.requests] == [True, True] + [False] * 6


def test_an_outage_in_the_middle(server: RecordingServer, send: Callable[..., list[Outcome]]) -> None:
    """The service goes away while each is sent alone: the rest is not tried."""

    alone = iter((201, 503))
    server.respond = lambda request: Reply(400 if request.is_array else next(alone))
    assert send("a", "b", "c") == [Outcome.ACCEPTED, Outcome.UNAVAILABLE, Outcome.UNAVAILABLE]
    assert [len(request.triggers) for request in server.requests] == [3, 2, 1, 1]


def test_a_client_that_is_closed_sends_nothing(
    server: RecordingServer, make_client: Callable[..., FocusLabClient]
) -> None:
    """It counts."""
    client = make_client()
    confirming = Confirming(client)
    body = client.encode_trigger("7", "viewed", "page")
    client.close()
    assert body is not None
    assert confirming.record(None, body, 0) is False
    assert client.stats().dropped == {"closed": 1}
    assert server.requests == []
