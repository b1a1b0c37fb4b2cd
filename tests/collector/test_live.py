"""The stream of new triggers, and their numbers, on each engine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
import requests

from tests.collector.running import Running, trigger
from tests.support.waiting import eventually


@pytest.fixture
def collector(start: Callable[..., Running], location: str) -> Running:
    """A collector on each engine."""
    return start(database=location, api_key=None)


@contextmanager
def stream(collector: Running, last: str | None = None, **parameters: str) -> Iterator[Iterator[dict[str, str]]]:
    """Open a stream, and yield its events."""
    headers = {} if last is None else {"Last-Event-ID": last}
    answer = requests.get(
        collector.endpoint + "stream/", params=parameters, headers=headers, stream=True, timeout=20
    )
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    with closing(answer):
        yield events(answer)


def events(answer: requests.Response) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
        name, _, text = line.partition(": ")
        if line:
            event[name] = text
        elif event:
            yield event
            event = {}


def take(opened: Iterator[dict[str, str]], count: int) -> tuple[list[Any], str]:
    """Return some triggers of a stream, and the id of the last event."""
    found: list[Any] = []
    last = ""
    while len(found) < count:
        event = next(opened)
        last = event.get("id", last)
        if event.get("event") == "triggers":
            found += json.loads(event["data"])["triggers"]
    return found, last


def test_a_stream_has_what_arrives_from_now_on(collector: Running) -> None:
    """In the order of arrival, each once."""
    collector.post(trigger(object="before"))
    with stream(collector) as opened:
        assert next(opened)["event"] == "ready"
        sent = [trigger(object=f"page {number}") for number in range(20)]
        for one in sent:
            collector.post(one)
        assert take(opened, 20)[0] == sent


def test_a_reader_that_comes_back_misses_nothing(collector: Running) -> None:
    """It says where it was, as browsers do."""
    first, second = trigger(), [trigger() for _ in range(50)]
    with stream(collector) as opened:
        next(opened)
        collector.post(first)
        _, last = take(opened, 1)
    collector.post(second)
    with stream(collector, last) as opened:
        assert take(opened, 50)[0] == second


def test_a_reader_gets_only_what_it_asks_for(collector: Running) -> None:
    with stream(collector, action="paid", search="Invoice 7") as opened:
        next(opened)
        wanted = trigger(action="paid", object="invoice 7")
        collector.post([trigger(action="paid"), trigger(object="invoice 7"), wanted])
        assert take(opened, 1)[0] == [wanted]


def test_more_than_a_person_can_read_is_left_out(collector: Running) -> None:
    """An event has the newest then, and says so."""
    with stream(collector) as opened:
        next(opened)
        sent = [trigger(variables={"n": number}) for number in range(1000)]
        collector.post(sent)
        event = next(opened)
    data = json.loads(event["data"])
    assert (data["triggers"], data["gap"]) == (sent[-200:], True)


def test_an_event_is_no_larger_than_a_page_can_take(collector: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trigger that is too big is left out, and said to be; so are the older ones of a large number of bytes."""
    monkeypatch.setattr("brockman.collector.live._MAX_TRIGGER_CHARS", 3_000)
    monkeypatch.setattr("brockman.collector.live._MAX_EVENT_CHARS", 10_000)
    with stream(collector) as opened:
        next(opened)
        small, huge = trigger(), trigger(variables={"text": "x" * 4_000})
        collector.post([huge, small])
        event = next(opened)
        assert json.loads(event["data"]) == {"triggers": [small], "gap": True}
        many = [trigger(variables={"text": "x" * 1_000}) for _ in range(40)]
        collector.post(many)
        event = next(opened)
    data = json.loads(event["data"])
    assert len(event["data"]) < 14_000
    assert data["triggers"] == many[-len(data["triggers"]) :]
    assert data["gap"] is True


def test_streams_end_when_the_collector_stops(collector: Running) -> None:
    """At once, and without an error."""
    with stream(collector) as opened:
        next(opened)
        started = time.monotonic()
        collector.stop.set()
        assert list(opened) == []
        assert collector.thread is not None
        collector.thread.join(20)
        assert not collector.thread.is_alive()
        assert time.monotonic() - started < 15


def test_the_number_of_streams_is_bounded(collector: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it, a reader is asked to come back; one that leaves makes room."""
    monkeypatch.setattr("brockman.collector.live.MAX_STREAMS", 2)
    with stream(collector) as one:
        next(one)
        with stream(collector) as two:
            next(two)
            refused = collector.session.get(collector.endpoint + "stream/", timeout=20)
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert eventually(lambda: _status(collector) == 200, 20)


def test_the_number_is_bounded_also_when_many_come_at_once(
    collector: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brockman.collector.live.MAX_STREAMS", 5)
    request = f"GET /api/v1/stream/ HTTP/1.1\r\nHost: 127.0.0.1:{collector.address[1]}\r\n\r\n".encode()
    with ExitStack() as stack:
        opened = [stack.enter_context(closing(collector.connect())) for _ in range(40)]
        for connection in opened:
            connection.sendall(request)
        statuses = [connection.recv(12) for connection in opened]

    assert statuses.count(b"HTTP/1.1 200") == 5
    assert statuses.count(b"HTTP/1.1 503") == 35


def test_a_request_for_the_head_of_a_stream_ends(collector: Running) -> None:
    """The same connection is used again."""
    for _ in range(2):
        answer = collector.session.head(collector.endpoint + "stream/", timeout=20)
        assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (200, "text/event-stream")


def test_a_stream_ends_without_an_error_when_the_store_cannot_be_read(
    start: Callable[..., Running], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader comes back, and gets a 503 until it can; the log has no traceback for each of them."""
    monkeypatch.setattr("brockman.collector.live._HEARTBEAT", 0.1)
    collector = start(api_key=None)
    with stream(collector) as opened:
        next(opened)
        collector.database.rename(collector.database.with_name("moved"))
        assert [event for event in opened if "event" in event] == []  # a comment may have come before
    answer = collector.session.get(collector.endpoint + "stream/", timeout=20)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert [record for record in caplog.records if record.exc_info] == []


def _status(collector: Running) -> int:
    with closing(requests.get(collector.endpoint + "stream/", stream=True, timeout=20)) as answer:
        return answer.status_code


def test_a_cursor_that_is_none_is_rejected(collector: Running) -> None:
    answer = collector.session.get(collector.endpoint + "stream/", headers={"Last-Event-ID": "x"}, timeout=20)
    assert answer.status_code == 400


def test_the_overview_has_the_rate_and_what_is_frequent(collector: Running) -> None:
    """Names come as they were sent, NUL characters too."""
    sent = [
        trigger(action=action, object=obj) for action in ("a", "b", "b", "c\0\ufdd0") for obj in ("x", "y", "y")
    ]
    collector.post([*sent, sent[0], {}])

    found = collector.session.get(collector.endpoint + "overview/", timeout=20).json()

    assert found["counts"] == {"triggers": 12, "duplicates": 1, "rejected": 1, "requests": 1, "removed": 0}
    assert found["actions"] == [["b", 6], ["a", 3], ["c\0\ufdd0", 3]]
    assert found["objects"] == [["y", 8], ["x", 4]]
    assert sum(count for _, count in found["minutes"]) == 12
    assert all(minute % 60 == 0 for minute, _ in found["minutes"])
    assert found["is_partial"] is False


def test_the_overview_is_computed_once_for_all_pages(collector: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a second, whoever asks."""
    monkeypatch.setattr("brockman.collector.api.overview._MIN_AGE", 3600.0)
    collector.post(trigger())
    answers = {collector.session.get(collector.endpoint + "overview/", timeout=20).text}
    collector.post(trigger())
    answers.add(collector.session.get(collector.endpoint + "overview/", timeout=20).text)
    assert len(answers) == 1


@pytest.mark.parametrize("path", ["trigger/", "stats/", "overview/", "nothing/", "trigger/?x=y"])
def test_no_other_site_can_include_an_answer(path: str, collector: Running) -> None:
    answer = collector.session.get(collector.endpoint + path, timeout=20)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize("path", ["stream/", "overview/"])
def test_both_need_the_key(path: str, start: Callable[..., Running]) -> None:
    collector = start()
    assert collector.session.get(collector.endpoint + path, timeout=20).status_code == 401
