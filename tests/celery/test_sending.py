"""The results of the triggers that confirmed mode sends together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from brockman.celery.confirm import Confirming
from brockman.client import FocusLabClient
from brockman.delivery.pipeline import Pipeline
from brockman.delivery.policy import Outcome
from tests.support.server import RecordingServer, Reply


@pytest.fixture
def send(make_client: Callable[..., FocusLabClient]) -> Iterator[Callable[..., list[Outcome]]]:
    """A function that sends three triggers together, always with the same engine, and returns their outcomes."""
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
        assert stats.recorded == settled  # a trigger that is to be sent again is the caller's, and not counted
        assert stats.rejected == outcomes.count(Outcome.REFUSED)
        return outcomes

    yield send_three
    pipeline.close(1)


def test_a_result_for_each(server: RecordingServer, send: Callable[..., list[Outcome]]) -> None:
    """A 207 names the rejected ones by index."""
    server.respond = lambda request: Reply(207, b'{"rejected": [{"index": 1, "error": "no"}]}')
    assert send("a", "b", "c") == [Outcome.ACCEPTED, Outcome.REFUSED, Outcome.ACCEPTED]
    assert len(server.requests) == 1


def test_a_server_without_arrays(server: RecordingServer, send: Callable[..., list[Outcome]]) -> None:
    """Rejected arrays are halved down to single triggers; from then on each trigger is sent alone."""
    server.respond = lambda request: Reply(400 if request.is_array else 201)
    for _ in range(2):
        assert send("a", "b", "c") == [Outcome.ACCEPTED] * 3
    assert [request.is_array for request in server.requests] == [True, True] + [False] * 6


def test_an_outage_in_the_middle(server: RecordingServer, send: Callable[..., list[Outcome]]) -> None:
    """The service becomes unavailable while each is sent alone: the rest is not sent."""
    alone = iter((201, 503))
    server.respond = lambda request: Reply(400 if request.is_array else next(alone))
    assert send("a", "b", "c") == [Outcome.ACCEPTED, Outcome.UNAVAILABLE, Outcome.UNAVAILABLE]
    assert [len(request.triggers) for request in server.requests] == [3, 2, 1, 1]


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_closed_client_sends_nothing(
    server: RecordingServer, make_client: Callable[..., FocusLabClient], in_thread: bool
) -> None:
    """It counts the trigger as dropped, on the main thread and in a batch."""
    client = make_client()
    confirming = Confirming(client)
    body = client.encode_trigger("7", "viewed", "page")
    client.close()
    assert body is not None
    task: Any = None  # not used: the message is not requeued
    if in_thread:
        with ThreadPoolExecutor(1) as threads:
            assert threads.submit(confirming.record, task, body, 0).result(20) is False
    else:
        assert confirming.record(task, body, 0) is False
    assert client.stats().dropped == {"closed": 1}
    assert server.requests == []
