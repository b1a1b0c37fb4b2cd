"""The headers with which a batch says who sends it, and what that process has counted."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable

import pytest
import requests

from brockman.client import FocusLabClient
from brockman.delivery.pipeline import Pipeline
from brockman.transport import Answer
from tests.support.client import KEY, record
from tests.support.programs import ran_python
from tests.support.server import RecordingServer, Reply, Request, reset

MakeClient = Callable[..., FocusLabClient]
SENDER = re.compile(
    r"id=[0-9a-f]{32}; host=[A-Za-z0-9._~%-]*; pid=[0-9]+; started=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
)


def identity(request: Request) -> dict[str, str]:
    return dict(part.split("=") for part in request.headers["x-fl-sender"].split("; "))


def counts(request: Request) -> dict[str, int]:
    """Return the counts, once it is certain that they add up."""
    found = {name: int(n) for name, n in (p.split("=") for p in request.headers["x-fl-counts"].split("; "))}
    dropped = sum(n for name, n in found.items() if name.startswith("dropped."))
    settled = found["delivered"] + found["rejected"] + dropped + found["waiting"]
    assert found["recorded"] + found["recovered"] == settled
    return found


def test_a_batch_says_who_sends_it_and_what_was_counted(server: RecordingServer, make_client: MakeClient) -> None:
    """The triggers of the batch are among those that wait."""
    client = make_client(on_invalid="drop", flush_interval=60)
    partly = Reply(207, b'{"rejected": [{"index": 1, "error": "no"}]}')
    server.respond = lambda request: partly if request.is_array else Reply(201)
    client.record_trigger("7", "viewed", "page")
    assert client.flush(20)
    client.record_trigger("", "viewed", "page")
    record(client, 3)
    assert client.flush(20)
    record(client, 1)
    assert client.flush(20)
    assert all(SENDER.fullmatch(request.headers["x-fl-sender"]) for request in server.requests)
    assert len({request.headers["x-fl-sender"] for request in server.requests}) == 1
    assert identity(server.requests[0])["pid"] == str(os.getpid())
    assert identity(server.requests[0])["host"] == socket.gethostname()
    zero = {"recovered": 0, "rejected": 0}
    assert [counts(request) for request in server.requests] == [
        {"recorded": 1, "delivered": 0, "waiting": 1, **zero},
        {"recorded": 5, "delivered": 1, "waiting": 3, **zero, "dropped.invalid": 1},
        {"recorded": 6, "delivered": 3, "waiting": 1, **zero, "rejected": 1, "dropped.invalid": 1},
    ]


def test_each_attempt_says_it(server: RecordingServer, make_client: MakeClient) -> None:
    """After an outage, after a lost answer, in halves, and without gzip if a server does not take that."""
    replies = [Reply(503), Reply(act=reset), Reply(415), Reply(400), Reply(201), Reply(201)]
    server.respond = lambda request: replies[len(server.requests)]
    client = make_client(gzip=True, flush_interval=60)
    record(client, 2, text="x" * 2000)
    assert client.flush(20)
    assert [counts(request)["waiting"] for request in server.requests] == [2, 2, 2, 2, 2, 1]
    assert [counts(request)["delivered"] for request in server.requests] == [0, 0, 0, 0, 0, 1]


def test_a_trigger_that_is_not_counted_says_only_who_sends_it(
    server: RecordingServer, make_client: MakeClient
) -> None:
    """`send_trigger` tells its caller what became of it."""
    client = make_client()
    client.send_trigger("7", "viewed", "page")
    assert SENDER.fullmatch(server.requests[0].headers["x-fl-sender"])
    assert "x-fl-counts" not in server.requests[0].headers


def test_triggers_of_celery_messages_wait_while_they_are_sent(
    server: RecordingServer, make_client: MakeClient
) -> None:
    """In confirmed mode they are in no buffer; one that the broker takes back is not counted."""
    server.respond = lambda request: Reply(503 if len(server.requests) == 1 else 201)
    client = make_client()
    pipeline = Pipeline(client.options)
    engine = pipeline.make_engine()
    bodies = [body for n in range(3) if (body := client.encode_trigger("7", "viewed", str(n))) is not None]
    for sent in (bodies[:1], bodies[1:], bodies[1:]):
        pipeline.send_each(engine, sent)
    pipeline.close(1)
    found = [counts(request) for request in server.requests]
    assert [(each["recorded"], each["delivered"], each["waiting"]) for each in found] == [
        (1, 0, 1),
        (3, 1, 2),
        (3, 1, 2),
    ]


@pytest.mark.parametrize("with_session", [True, False])
def test_it_can_be_turned_off(server: RecordingServer, make_client: MakeClient, *, with_session: bool) -> None:
    """Then nothing of it is on the wire."""
    with requests.Session() as session:
        settings = {"session": session} if with_session else {}
        for name, is_there in ((True, True), (False, False)):
            client = make_client(identify_sender=name, **settings)
            record(client, 1)
            assert client.flush(20)
            client.send_trigger("7", "viewed", "page")
            client.close()
            names = [name for request in server.requests for name in request.headers if name.startswith("x-fl-s")]
            assert bool(names) is is_there
            names = [name for request in server.requests for name in request.headers if name.startswith("x-fl-c")]
            assert bool(names) is is_there
            server.requests.clear()


def test_the_environment_turns_it_off(server: RecordingServer) -> None:
    """As every setting: FL_IDENTIFY_SENDER."""
    code = """
import os
from brockman import FocusLabClient
with FocusLabClient() as client:
    client.record_trigger("7", "viewed", "page")
"""
    for value, is_there in (("0", False), ("1", True)):
        settings = {"FL_ENDPOINT": server.endpoint, "FL_API_KEY": KEY, "FL_IDENTIFY_SENDER": value}
        ended = ran_python(code, env={**os.environ, **settings})
        assert (ended.status, ended.err) == (0, "")
        assert ("x-fl-sender" in server.requests[-1].headers) is is_there


def test_a_forked_child_is_a_sender_of_its_own(server: RecordingServer) -> None:
    """It counts from zero, and has a new id; the parent goes on with its own."""
    code = """
import os, warnings
from brockman import FocusLabClient
warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, about a fork with threads
client = FocusLabClient()
client.record_trigger("7", "viewed", "parent")
client.flush()
if os.fork() == 0:
    client.record_trigger("7", "viewed", "child")
    client.close()
    os._exit(0)
os.wait()
client.record_trigger("7", "viewed", "parent")
client.close()
"""
    ended = ran_python(code, env={**os.environ, "FL_ENDPOINT": server.endpoint, "FL_API_KEY": KEY})
    assert (ended.status, ended.err) == (0, "")
    parent, child, again = server.requests
    assert [counts(request)["recorded"] for request in server.requests] == [1, 1, 2]
    assert identity(parent) == identity(again)
    assert {identity(parent)[name] == identity(child)[name] for name in ("id", "pid", "started")} == {False}


def test_clients_with_the_same_settings_are_one_sender(server: RecordingServer, make_client: MakeClient) -> None:
    """They share one buffer; a client with other settings has its own, its own counts, and its own id."""
    for client in (make_client(), make_client(), make_client(max_batch_size=7)):
        record(client, 1)
        assert client.flush(20)
    assert [counts(request)["recorded"] for request in server.requests] == [1, 2, 1]
    ids = [identity(request)["id"] for request in server.requests]
    assert ids[0] == ids[1] != ids[2]


def test_a_client_that_is_opened_again_goes_on_counting(server: RecordingServer, make_client: MakeClient) -> None:
    """With the id that it had."""
    client = make_client()
    for _ in range(2):
        with client:
            record(client, 1)
    assert [counts(request)["recorded"] for request in server.requests] == [1, 2]
    assert len({identity(request)["id"] for request in server.requests}) == 1


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("web-3.example.com", "web-3.example.com"),
        ("a; pid=1\r\nX-Evil: 1", "a%3B%20pid%3D1%0D%0AX-Evil%3A%201"),
        ("b\xfccher\udcff", "b%C3%BCcher%3F"),
        ("x" * 1000, "x" * 100),
        (OSError("no name"), ""),
    ],
)
def test_a_host_name_is_only_a_value(
    server: RecordingServer,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
    name: str | OSError,
    sent: str,
) -> None:
    """Whatever the system says it is."""

    def gethostname() -> str:
        if isinstance(name, OSError):
            raise name
        return name

    monkeypatch.setattr(socket, "gethostname", gethostname)
    client = make_client()
    record(client, 1)
    assert client.flush(20)
    assert identity(server.requests[0])["host"] == sent
    assert identity(server.requests[0])["pid"] == str(os.getpid())
    assert "x-evil" not in server.requests[0].headers


def test_a_transport_gets_the_headers_if_it_asks_for_them() -> None:
    """With a parameter `headers`. One without it is called as ever."""
    sent: list[tuple[bytes, dict[str, str]]] = []

    class Plain:
        def send(self, body: bytes, timeout: float | None = None) -> Answer:
            sent.append((body, {}))
            return Answer(201)

        def close(self) -> None:
            pass

    class WithHeaders(Plain):
        def send(self, body: bytes, timeout: float | None = None, headers: dict[str, str] | None = None) -> Answer:
            sent.append((body, headers or {}))
            return Answer(201)

    for transport in (Plain(), WithHeaders()):
        with FocusLabClient(transport=transport) as client:
            record(client, 1)
    (_, nothing), (body, headers) = sent
    assert nothing == {}
    assert json.loads(body)["actor_id"] == "actor 0"
    assert set(headers) == {"X-FL-Sender", "X-FL-Counts"}
