"""The published API, byte for byte, as a recording HTTP server sees it."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone

import pytest

from brockman import exceptions
from tests.support.client import KEY, record
from tests.support.server import Reply


def test_one_trigger_is_posted_as_the_api_publishes_it(server, make_client):
    """One trigger goes as one POST to trigger/ with both headers, a bare object, and the six field names."""
    client = make_client()
    before = datetime.now(timezone.utc)
    client.record_trigger(
        actor_id=42,
        action="viewed",
        obj="blog post",
        identities={"email": "ada@example.com"},
        attributes={"plan": "pro"},
        variables={"tags": ["a", "b"], "price": 9.5},
    )
    assert client.flush()
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/api/v1/trigger/")
    assert request.headers["content-type"] == "application/json"
    assert ("X-FL-API-KEY", KEY) in request.raw_headers
    body = request.content
    assert list(body) == [
        "actor_id",
        "action",
        "object",
        "captured_identities",
        "captured_attributes",
        "variables",
        "id",
        "recorded_at",
    ]
    assert body["actor_id"] == "42"
    assert body["variables"] == {"tags": ["a", "b"], "price": 9.5}
    assert str(uuid.UUID(body["id"])) == body["id"]
    recorded_at = datetime.strptime(body["recorded_at"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    assert before <= recorded_at <= datetime.now(timezone.utc)


def test_what_is_empty_is_left_out(server, make_client):
    """No field is sent for None, an empty mapping, or a mapping with nothing but None in it."""
    client = make_client()
    client.record_trigger("1", "viewed", "page", identities={}, attributes=None, variables={"a": None})
    assert client.flush()
    assert set(server.triggers[0]) == {"actor_id", "action", "object", "id", "recorded_at"}


def test_several_triggers_are_one_array(server, make_client):
    """A batch of several is a JSON array of the same objects, in the order of recording."""
    client = make_client(flush_interval=60)
    record(client, 3)
    assert client.flush()
    assert [len(request.content) for request in server.requests] == [3]
    assert [trigger["variables"]["n"] for trigger in server.triggers] == [0, 1, 2]


def test_gzip_compresses_bodies_of_some_size(server, make_client):
    """gzip=True sends larger bodies compressed and says so; a small one goes as it is."""
    client = make_client(gzip=True, flush_interval=60)
    record(client, 100)
    assert client.flush()
    record(client, 1)
    assert client.flush()
    assert server.requests[0].headers["content-encoding"] == "gzip"
    assert len(server.requests[0].triggers) == 100
    assert "content-encoding" not in server.requests[1].headers


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, exceptions.BadRequest),
        (401, exceptions.BadAPIKey),
        (403, exceptions.BadAPIKey),
        (404, exceptions.ResourceNotFound),
        (500, exceptions.ServerError),
        (503, exceptions.ServerError),
        (418, exceptions.UnknownError),
        (302, exceptions.UnknownError),
    ],
)
def test_send_trigger_raises_what_the_status_means(server, make_client, status, kind):
    """send_trigger turns the answer into its exception, with the status and the server's words."""
    server.respond = lambda request: Reply(status, b'{"error": "because"}')
    with pytest.raises(kind) as caught:
        make_client().send_trigger("1", "viewed", "page")
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert "because" in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_send_trigger_takes_any_2xx_as_success(server, make_client, status):
    """Any 2xx is a success, also an empty one that calls itself text/html."""
    server.respond = lambda request: Reply(status, headers={"Content-Type": "text/html"})
    make_client().send_trigger("1", "viewed", "page")
    assert not isinstance(json.loads(server.requests[0].body), list)


def test_send_trigger_says_that_no_answer_came(server, make_client):
    """No answer is a ConnectionFailed that names the cause."""
    client = make_client()
    server.stop()
    with pytest.raises(exceptions.ConnectionFailed, match="Connection refused"):
        client.send_trigger("1", "viewed", "page")


def test_send_trigger_does_not_take_a_portals_page_for_success(server, make_client):
    """A 200 with an HTML page in it is no success."""
    server.respond = lambda request: Reply(200, b"<html>Please log in</html>", {"Content-Type": "text/html"})
    with pytest.raises(exceptions.UnknownError, match="log in"):
        make_client().send_trigger("1", "viewed", "page")


def test_send_trigger_on_a_closed_client_is_an_error(make_client):
    """After close, send_trigger says so instead of opening connections again."""
    client = make_client()
    client.close()
    with pytest.raises(exceptions.ClientClosed):
        client.send_trigger("1", "viewed", "page")


def test_send_trigger_reads_the_verdict_of_a_207(server, make_client):
    """A 207 that rejects the one trigger is a BadRequest with the server's words."""
    server.respond = lambda request: Reply(207, b'{"rejected": [{"index": 0, "error": "no such plan"}]}')
    with pytest.raises(exceptions.BadRequest, match="no such plan"):
        make_client().send_trigger("1", "viewed", "page")


@pytest.mark.parametrize("status", [400, 500])
def test_a_server_of_single_triggers_only_gets_them_all(server, make_client, status):
    """It answers 400 or 500 to arrays, an empty text/html 201 to objects: all arrive, with no wait between."""
    server.respond = lambda request: (
        Reply(status) if request.is_array else Reply(201, headers={"Content-Type": "text/html"})
    )
    client = make_client(backoff_base=600, backoff_cap=600)  # one wait would be too long for the flush
    record(client, 1000)
    assert client.flush(60)
    stats = client.stats()
    assert (stats.delivered, stats.rejected, stats.retries) == (1000, 0, 0)
    objects = [request.content for request in server.requests if not request.is_array]
    assert [trigger["variables"]["n"] for trigger in objects] == list(range(1000))
    assert len({request.connection for request in server.requests}) == 1


def test_one_poison_trigger_among_1000_is_rejected_alone(server, make_client):
    """The server answers 400 whenever it is in the body: about 2 log2 extra requests, the words in on_error."""
    errors = []
    client = make_client(flush_interval=60, on_error=lambda error, bodies: errors.append((str(error), bodies)))
    server.respond = lambda request: Reply(400, b"no such plan") if b'"n":617}' in request.body else Reply()
    record(client, 1000)
    assert client.flush(60)
    stats = client.stats()
    assert (stats.delivered, stats.rejected) == (999, 1)
    assert len(server.requests) <= 2 + 2 * 10
    ((words, bodies),) = errors
    assert "no such plan" in words
    assert [json.loads(body)["variables"]["n"] for body in bodies] == [617]


@pytest.mark.parametrize("has_callback", [True, False])
def test_rejected_triggers_are_logged_unless_there_is_an_on_error(server, make_client, caplog, has_callback):
    """With the server's words."""
    server.respond = lambda request: Reply(400, b"no such page")
    errors = []
    client = make_client(on_error=lambda error, bodies: errors.append(error)) if has_callback else make_client()
    with caplog.at_level("WARNING", "brockman"):
        record(client, 1)
        client.close()
    assert ("1 rejected (the last one: the server answered 400: no such page)" in caplog.text) is not has_callback
    assert len(errors) == has_callback


def test_a_server_that_refuses_compressed_bodies_gets_plain_ones(server, make_client):
    """415 to a compressed body: the same triggers go again as they are, at once, and later ones too."""
    server.respond = lambda request: Reply(415 if "content-encoding" in request.headers else 201)
    client = make_client(gzip=True, backoff_base=600, backoff_cap=600)
    for _ in range(2):
        record(client, 50)
        assert client.flush(20)
    assert (client.stats().delivered, client.stats().rejected) == (100, 0)
    assert ["content-encoding" in request.headers for request in server.requests] == [True, False, False]
