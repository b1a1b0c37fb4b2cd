"""Groups read through the client: pages as they are needed, retries, errors."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import islice, pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from brockman.client import FocusLabClient
from brockman.exceptions import (
    BadAPIKey,
    BadRequest,
    ClientClosed,
    ConfigurationError,
    ConnectionFailed,
    FocusLabError,
    ResourceNotFound,
    ServerError,
    UnknownError,
)
from brockman.groups import Group, Member
from brockman.transport.answer import MAX_FETCHED_BYTES
from brockman.transport.memory import MemoryTransport
from tests.support.client import KEY
from tests.support.endpoint import Endpoint
from tests.support.server import RecordingServer, Reply, Request, cut, reset, silence

TIME = "2026-11-23T17:22:32.123456Z"
MOMENT = datetime(2026, 11, 23, 17, 22, 32, 123456, tzinfo=timezone.utc)
MakeClient = Callable[..., FocusLabClient]


def member(number: int) -> dict[str, Any]:
    return {
        "actor_ids": [f"user {number}"],
        "actors": 1,
        "identities": {"email": [f"{number}@example.com"]},
        "attributes": {"tags": ["a", 1]},
        "first_seen": TIME,
        "last_seen": TIME,
        "total": number,
        "later": "an unknown field",
    }


def reply(content: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(content).encode(), {"Content-Type": "application/json", **headers})


def pages(count: int) -> Callable[[Request], Reply]:
    """Answer with pages of three members."""

    def answer(request: Request) -> Reply:
        after = int(parse_qs(urlsplit(request.path).query).get("after", ["0"])[0])
        last = min(after + 3, count)
        following = None if last == count else str(last)
        return reply({"members": [member(n + 1) for n in range(after, last)], "next": following, "total": count})

    return answer


@pytest.fixture
def client(make_client: MakeClient) -> FocusLabClient:
    return make_client(backoff_base=0.01)


def test_members_come_page_by_page_as_they_are_needed(client: FocusLabClient, server: RecordingServer) -> None:
    """Nothing is requested before the first `next`, and a page only when the one before is used up."""
    Endpoint(server, pages(8))
    members = client.download_group("hot leads/ü?")
    assert server.requests == []
    assert next(members) == Member(
        ("user 1",), 1, {"email": ("1@example.com",)}, {"tags": ["a", 1]}, MOMENT, MOMENT, total=1
    )
    assert [one.total for one in islice(members, 2)] == [2, 3]
    assert len(server.requests) == 1
    assert [one.total for one in members] == [4, 5, 6, 7, 8]
    assert [request.path for request in server.requests] == [
        f"/api/v1/group/hot%20leads%2F%C3%BC%3F/?limit=2000{after}" for after in ("", "&after=3", "&after=6")
    ]
    assert {request.method for request in server.requests} == {"GET"}
    assert {request.headers["x-fl-api-key"] for request in server.requests} == {KEY}
    assert {request.connection for request in server.requests} == {1}


def test_groups_are_listed_and_saved(client: FocusLabClient, server: RecordingServer) -> None:
    """With times as datetimes, in both directions."""
    group = {"name": "a", "where": {"attributes.plan": "pro"}, "did": [{"action": "x"}], "did_not": []}
    saved = {**group, "created_at": TIME, "updated_at": TIME}
    Endpoint(server, lambda request: reply(saved if request.method == "PUT" else {"groups": [saved]}))
    expected = Group("a", {"attributes.plan": "pro"}, ({"action": "x"},), (), MOMENT, MOMENT)
    assert client.groups() == [expected]
    since = MOMENT.astimezone(timezone(timedelta(hours=2)))
    assert (
        client.save_group("a", where={"attributes.plan": "pro"}, did=[{"action": "x", "since": since}]) == expected
    )
    put = server.requests[-1]
    assert (put.method, put.path, put.headers["content-type"]) == ("PUT", "/api/v1/group/a/", "application/json")
    assert put.content == {
        "where": {"attributes.plan": "pro"},
        "did": [{"action": "x", "since": TIME}],
        "did_not": [],
    }
    with pytest.raises(TypeError, match="a value of type object should be one of JSON"):
        client.save_group("a", where={"attributes.x": object()})


@pytest.mark.parametrize(
    "failure",
    [
        Reply(503),
        Reply(429, headers={"Retry-After": "1"}),
        Reply(500),
        Reply(act=reset),
        Reply(act=cut),
        Reply(200, b'{"members": [', {"Content-Length": "1000"}, hang_up=True),
    ],
    ids=["503", "429", "500", "reset", "cut", "broken off"],
)
def test_a_page_is_asked_for_again(client: FocusLabClient, server: RecordingServer, failure: Reply) -> None:
    """A service that is away in the middle costs time, and no member."""
    good, failures = pages(8), iter([failure] if failure.headers else [failure, failure])
    Endpoint(server, lambda request: next(failures, good(request)) if "after=3" in request.path else good(request))
    assert [one.total for one in client.download_group("a")] == list(range(1, 9))
    if failure.headers.get("Retry-After"):
        times = [request.at for request in server.requests if "after=3" in request.path]
        assert [later - before >= 1 for before, later in pairwise(times)] == [True]


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, BadRequest), (401, BadAPIKey), (403, BadAPIKey), (302, UnknownError), (418, UnknownError)],
)
def test_an_answer_that_is_final_is_raised_at_once(
    client: FocusLabClient, server: RecordingServer, status: int, error: type[FocusLabError]
) -> None:
    """As `send_trigger` raises it; a redirect is not followed."""
    Endpoint(server, lambda request: reply({"error": f"no {KEY}"}, status, Location=server.endpoint))
    for ask in (client.groups, lambda: next(client.download_group("a"))):
        with pytest.raises(error) as caught:
            ask()
        assert KEY not in "".join(traceback.format_exception(caught.value))
    assert len(server.requests) == 2


def test_an_unknown_group_is_named(client: FocusLabClient, server: RecordingServer) -> None:
    """404 names it, and says what the server said; a name that no URL can have is not asked for."""
    Endpoint(server, lambda request: reply({"error": "there is none"}, 404))
    with pytest.raises(ResourceNotFound, match=r"no group 'hot leads': .*there is none"):
        next(client.download_group("hot leads"))
    for name in ("", ".", ".."):
        with pytest.raises(ResourceNotFound, match="no group"):
            next(client.download_group(name))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [(Reply(503), ServerError), (Reply(act=reset), ConnectionFailed), (Reply(act=silence), ConnectionFailed)],
    ids=["503", "reset", "silence"],
)
def test_retries_end_with_the_timeout(
    client: FocusLabClient, server: RecordingServer, answer: Reply, error: type[FocusLabError]
) -> None:
    """The last error is raised."""
    Endpoint(server, lambda request: answer)
    with pytest.raises(error):
        client.groups(timeout=0.5)
    with pytest.raises(error):
        next(client.download_group("a", timeout=0.3))


def test_a_wait_that_is_too_long_is_not_begun(client: FocusLabClient, server: RecordingServer) -> None:
    """A server that asks for more time than there is ends the call at once."""
    Endpoint(server, lambda request: Reply(503, headers={"Retry-After": "100"}))
    with pytest.raises(ServerError):
        client.groups(timeout=50)
    assert len(server.requests) == 1


def test_a_server_that_always_fails_is_not_asked_for_ever(
    make_client: MakeClient, server: RecordingServer
) -> None:
    """A 500 is tried `max_attempts` times."""
    Endpoint(server, 500)
    with pytest.raises(ServerError):
        make_client(backoff_base=0.001, max_attempts=3).groups(timeout=None)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Please log in</html>",
        b"[]",
        b'{"groups": 7}',
        b'{"groups": [{"name": "a"}]}',
        b'{"groups": [{"name": "a", "where": 1, "did": [], "did_not": [], "created_at": "x", "updated_at": 1}]}',
        b"[" * 100_000,
        b"\xff\xfe",
        KEY.encode(),
    ],
)
def test_an_answer_that_is_not_of_the_api_is_an_error(
    client: FocusLabClient, server: RecordingServer, body: bytes
) -> None:
    """With words, without the key, and not retried."""
    Endpoint(server, lambda request: Reply(200, body))
    with pytest.raises(UnknownError) as caught:
        client.groups()
    assert "answer" in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("next_of", "count", "requests"),
    [(lambda number: "5", 1, 2), (lambda number: "ab"[number % 2], 1, 3), (str, 0, 100)],
    ids=["the same", "in a circle", "without members"],
)
def test_pages_that_do_not_end_are_an_error(
    client: FocusLabClient, server: RecordingServer, next_of: Callable[[int], str], count: int, requests: int
) -> None:
    """And not an endless iterator."""
    numbers = iter(range(1000))
    Endpoint(server, lambda request: reply({"members": [member(1)] * count, "next": next_of(next(numbers))}))
    with pytest.raises(UnknownError, match="do not end"):
        list(client.download_group("a"))
    assert len(server.requests) == requests


@pytest.mark.parametrize("change", [{"actors": float("inf")}, {"actor_ids": 7}, {"identities": [1]}])
def test_a_member_that_is_not_of_the_api_is_an_error(
    client: FocusLabClient, server: RecordingServer, change: dict[str, Any]
) -> None:
    Endpoint(server, lambda request: reply({"members": [{**member(1), **change}], "next": None}))
    with pytest.raises(UnknownError, match="not as expected"):
        next(client.download_group("a"))


def test_a_cursor_that_is_no_text_is_an_error(client: FocusLabClient, server: RecordingServer) -> None:
    """Half a surrogate pair, which no URL can have."""
    Endpoint(server, lambda request: reply({"members": [member(1)], "next": "\ud800"}))
    with pytest.raises(UnknownError, match="not as expected"):
        next(client.download_group("a"))


def test_an_endless_page_is_an_error(client: FocusLabClient, server: RecordingServer) -> None:
    """Of 64 MiB or more, which are read in part: it is not parsed, and its size is named."""
    Endpoint(server, lambda request: Reply(200, b" " * (MAX_FETCHED_BYTES + 1)))
    with pytest.raises(UnknownError, match="67108864 bytes or more"):
        next(client.download_group("a"))


def test_a_large_page_is_read_whole(client: FocusLabClient, server: RecordingServer) -> None:
    """Unlike the words of an answer to triggers, of which 64 KiB are read."""
    large = {**member(1), "attributes": {"text": "x\x7f" * 500_000}}
    Endpoint(server, lambda request: reply({"members": [large], "next": None}))
    (found,) = client.download_group("a")
    assert len(found.attributes["text"]) == 1_000_000


def test_triggers_are_sent_meanwhile(client: FocusLabClient, server: RecordingServer) -> None:
    """Both go over the same connections, each to its path."""
    good = pages(4)
    Endpoint(server, lambda request: good(request) if request.method == "GET" else Reply(201))
    for found in client.download_group("a"):
        client.record_trigger(found.actor_ids[0], "read", "group")
        assert client.flush()
    assert [request.path for request in server.requests if request.method == "POST"] == ["/api/v1/trigger/"] * 4
    assert client.stats().delivered == 4


def test_a_client_that_reads_nothing_says_why(make_client: MakeClient, server: RecordingServer) -> None:
    """Closed, disabled, or with a transport of its own."""
    closed = make_client()
    closed.close()
    with pytest.raises(ClientClosed):
        closed.groups()
    with pytest.raises(ConfigurationError, match="enabled is off"):
        make_client(enabled=False).download_group("a")
    with FocusLabClient(transport=MemoryTransport()) as client, pytest.raises(ConfigurationError, match="Memory"):
        client.groups()
    assert server.requests == []


def test_groups_are_read_in_asyncio(client: FocusLabClient, server: RecordingServer) -> None:
    """In a thread, as documented."""
    Endpoint(server, lambda request: reply({"groups": []}))
    assert asyncio.run(asyncio.to_thread(client.groups)) == []


def test_members_and_groups_do_not_change() -> None:
    """They are values."""
    with pytest.raises(AttributeError):
        Member(("a",)).total = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Group("a").name = "b"  # type: ignore[misc]
