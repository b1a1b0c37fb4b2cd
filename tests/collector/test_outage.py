"""The rehearsed outage."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from starlette.types import Message, Receive, Scope, Send

from brockman.collector.outage import RehearsedOutage
from tests.collector.running import Running, trigger
from tests.support.waiting import eventually

Start = Callable[..., Running]


def test_it_begins_after_so_many_triggers(start: Start) -> None:
    collector = start(outage_after=10, outage_for=60.0)
    assert collector.post([trigger() for _ in range(9)]).status_code == 201
    assert collector.post(trigger()).status_code == 201

    answer = collector.post(trigger())

    assert (answer.status_code, answer.json()) == (503, {"error": "this is a rehearsed outage of 60 s"})
    assert "Retry-After" not in answer.headers
    assert collector.post(trigger(), key=None).status_code == 503  # a service that is away checks no key
    assert collector.get().status_code == 200
    assert collector.stats()["triggers"] == 10


def test_it_ends_by_itself_and_does_not_come_back(start: Start) -> None:
    collector = start(outage_after=0, outage_for=0.1)

    assert collector.post(trigger()).status_code == 503
    assert eventually(lambda: collector.post(trigger()).status_code == 201)
    assert [collector.post(trigger()).status_code for _ in range(5)] == [201] * 5


def test_it_counts_from_its_own_start(start: Start) -> None:
    first = start()
    first.post([trigger() for _ in range(10)])
    first.stop.set()
    assert first.thread is not None
    first.thread.join(10)

    second = start(outage_after=10, outage_for=60.0)

    assert second.post([trigger() for _ in range(10)]).status_code == 201
    assert second.post(trigger()).status_code == 503


def test_it_can_be_asked_for_from_the_shell(spawn: Callable[..., tuple[subprocess.Popen[str], Running]]) -> None:
    _, collector = spawn("--outage-after", "1", "--outage-for", "60")

    assert [collector.post(trigger()).status_code for _ in range(2)] == [201, 503]


def test_it_lasts_as_long_as_it_was_told_from_the_first_refusal_on() -> None:
    now, stored = [0.0], [0]
    passed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["method"])

    outage = RehearsedOutage(app, stored=lambda: stored[0], after=3, seconds=10.0, clock=lambda: now[0])

    def post(method: str = "POST") -> int:
        answers: list[Message] = []

        async def send(message: Message) -> None:
            answers.append(message)

        async def receive() -> Message:
            raise AssertionError("nothing is read of what is refused")

        scope = {"type": "http", "method": method, "path": "/", "headers": [], "query_string": b""}
        steps = outage(scope, receive, send)
        try:
            steps.send(None)  # a coroutine that waits for nothing
        except StopIteration:
            return answers[0]["status"] if answers else 0
        raise AssertionError("it waited")

    assert post() == 0
    stored[0], now[0] = 3, 100.0
    assert [post(), post("GET"), post()] == [503, 0, 503]
    now[0] = 109.9
    assert post() == 503
    now[0] = 110.0
    assert post() == 0
    now[0] = 111.0
    assert post() == 0
    assert passed == ["POST", "GET", "POST", "POST"]
