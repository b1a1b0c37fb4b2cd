"""Trouble on purpose: outages, failures, delays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from brockman.collector.errors import InvalidSetting
from brockman.collector.rehearsal import Rehearsal, choose
from brockman.collector.settings import Settings
from tests.collector.running import Running, trigger
from tests.support.waiting import eventually

Start = Callable[..., Running]


def test_it_starts_after_a_number_of_triggers(start: Start) -> None:
    collector = start(outage_after=10, outage_for=60.0)
    assert collector.post([trigger() for _ in range(9)]).status_code == 201
    assert collector.post(trigger()).status_code == 201

    response = collector.post(trigger())

    assert (response.status_code, response.json()) == (503, {"error": "simulated outage of 60 s"})
    assert "Retry-After" not in response.headers
    assert collector.post(trigger(), key=None).status_code == 503  # during an outage no key is checked
    assert collector.get().status_code == 200
    assert collector.stats()["triggers"] == 10


def test_it_ends_and_does_not_return(start: Start) -> None:
    collector = start(outage_after=0, outage_for=0.1)

    assert collector.post(trigger()).status_code == 503
    assert eventually(lambda: collector.post(trigger()).status_code == 201)
    assert [collector.post(trigger()).status_code for _ in range(5)] == [201] * 5


def test_it_counts_triggers_since_the_start(start: Start) -> None:
    first = start()
    first.post([trigger() for _ in range(10)])
    first.stop.set()
    assert first.thread is not None
    first.thread.join(10)

    second = start(outage_after=10, outage_for=60.0)

    assert second.post([trigger() for _ in range(10)]).status_code == 201
    assert second.post(trigger()).status_code == 503


def test_its_duration_is_counted_from_the_first_503() -> None:
    now, stored = [0.0], [0]
    passed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["method"])

    settings = Settings(database="x", outage_after=3, outage_for=10.0)
    outage = Rehearsal(app, settings=settings, stored=lambda: stored[0], rand=lambda: 1.0, clock=lambda: now[0])

    def post(method: str = "POST") -> int:
        messages: list[Message] = []

        async def send(message: Message) -> None:
            messages.append(message)

        async def receive() -> Message:
            raise AssertionError("the body of a rejected request is not read")

        scope = {"type": "http", "method": method, "path": "/", "headers": [], "query_string": b""}
        steps = outage(scope, receive, send)
        try:
            steps.send(None)  # a coroutine that waits for nothing
        except StopIteration:
            return messages[0]["status"] if messages else 0
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


def test_a_share_of_the_requests_fails(start: Start) -> None:
    """With the statuses that were asked for; what failed is not stored, and reading never fails."""
    collector = start(failures={503: 0.3, 429: 0.2})

    answers = Counter(collector.post(trigger()).status_code for _ in range(200))

    assert set(answers) == {201, 503, 429}
    assert collector.stats()["triggers"] == answers[201]


def test_each_status_has_its_share() -> None:
    failures = {503: 0.25, 429: 0.5}
    drawn = Counter(choose(failures, number / 1000) for number in range(1000))

    assert drawn == {503: 250, 429: 500, None: 250}
    assert choose({}, 0.0) is None
    assert choose({500: 1.0}, 0.999) == 500


def test_requests_are_delayed(start: Start) -> None:
    collector = start(delay=0.3)

    assert collector.post(trigger()).elapsed.total_seconds() >= 0.3
    assert collector.post(trigger(), key=None).status_code == 401


@pytest.mark.parametrize(
    "options",
    [
        *({"failures": {status: 0.1}} for status in (200, 399, 600)),
        *({"failures": {503: share}} for share in (-0.1, 1.1, float("nan"))),
        {"failures": {503: 0.6, 500: 0.5}},
        *({"delay": seconds} for seconds in (-1.0, float("inf"))),
    ],
    ids=str,
)
def test_trouble_that_cannot_be_had_is_a_mistake(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting, match=f"^{next(iter(options))}: .* (should be|give at most)"):
        Settings(database="x", **options)
