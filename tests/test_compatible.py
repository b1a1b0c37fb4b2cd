"""The promises of brockman 0.1: its constructor, the parts of a request, an exception for each answer."""

from __future__ import annotations

import copy
import json
import pickle
import uuid
import warnings
from datetime import date
from typing import Any
from unittest.mock import create_autospec

import pytest
import requests

from brockman.client import FocusLabClient
from brockman.exceptions import (
    AnswerError,
    BadAPIKey,
    BadRequest,
    ConfigurationError,
    ConnectionFailed,
    InvalidTrigger,
    ResourceNotFound,
    ServerError,
    UnknownError,
)
from brockman.transport.memory import MemoryTransport
from tests.support.client import KEY
from tests.support.server import RecordingServer, Reply, reset, silence
from tests.support.shown import shown_by

DEFAULT = "https://api.focuslab.io/api/v1/"
OTHER = "https://api.focuslab-dev.io/api/v1/"
ACTOR = uuid.uuid4()
PLAIN = {"actor_id": ACTOR, "action": "viewed", "obj": "blog post"}
MAPPINGS: dict[str, Any] = {
    "identities": {"email": ["one@example.com", "two@example.com"], "user_id": 42},
    "attributes": {"tags": ["high-risk", "big-spender"], "plan": "basic"},
    "variables": {"tags": ["sales", "promo"], "author": "bob"},
}
AS_SENT = {
    "actor_id": str(ACTOR),
    "action": "viewed",
    "object": "blog post",
    "captured_identities": MAPPINGS["identities"],
    "captured_attributes": MAPPINGS["attributes"],
    "variables": MAPPINGS["variables"],
}
# Of the client of 0.1, which raised for every status but 201; of the 5xx only 500 was a ServerError then.
ERRORS = [
    *((401, BadAPIKey), (403, BadAPIKey), (400, BadRequest), (404, ResourceNotFound), (500, ServerError)),
    *((502, ServerError), (503, ServerError), (511, ServerError)),
    *((status, UnknownError) for status in (302, 402, 405, 407, 408, 409, 410, 413, 415, 417, 422, 429)),
]


# The promises of 0.1's own tests.


def test_a_client_made_with_a_key_has_it_and_the_usual_endpoint() -> None:
    client = FocusLabClient(api_key=KEY)
    assert (client.api_key, client.endpoint) == (KEY, DEFAULT)


def test_a_client_made_with_a_key_and_an_endpoint_has_both() -> None:
    """By keyword and by position."""
    for client in (FocusLabClient(api_key=KEY, endpoint=OTHER), FocusLabClient(KEY, OTHER)):
        assert (client.api_key, client.endpoint) == (KEY, OTHER)


@pytest.mark.parametrize("endpoint", [DEFAULT, DEFAULT.removesuffix("/")])
@pytest.mark.parametrize("resource", ["trigger", "trigger/", "trigger/32", "trigger/32/"])
def test_get_url_returns_the_url_of_a_resource(endpoint: str, resource: str) -> None:
    """With one slash at the end, whether endpoint and resource have one or not."""
    url = FocusLabClient(KEY, endpoint).get_url(resource)
    assert url == f"https://api.focuslab.io/api/v1/{resource.removesuffix('/')}/"


def test_get_trigger_data_returns_the_texts_and_no_empty_field() -> None:
    client = FocusLabClient(KEY)
    expected = {"actor_id": str(ACTOR), "action": "viewed", "object": "blog post"}
    assert client.get_trigger_data(**PLAIN) == expected
    assert client.get_trigger_data(ACTOR, "viewed", "blog post", {}, None, {"page": None}) == expected


def test_get_trigger_data_returns_the_mappings_under_their_names() -> None:
    assert FocusLabClient(KEY).get_trigger_data(**PLAIN, **MAPPINGS) == AS_SENT


def test_get_headers_returns_type_and_key() -> None:
    client = FocusLabClient(KEY)
    assert client.get_headers() == {"Content-Type": "application/json", "X-FL-API-KEY": client.api_key}


def test_send_trigger_is_the_call_that_blocks(server: RecordingServer, make_client: Any) -> None:
    """`record_trigger` was it in 0.1, and buffers now; both send what the three methods return."""
    client = make_client()
    client.send_trigger(**PLAIN, **MAPPINGS)
    assert len(server.requests) == 1  # at its return
    assert client.record_trigger(**PLAIN, **MAPPINGS) is True
    assert client.flush()
    for request in server.requests:
        assert client.get_url("trigger").endswith(request.path)
        assert client.get_headers().items() <= dict(request.raw_headers).items()
        assert client.get_trigger_data(**PLAIN, **MAPPINGS).items() <= request.content.items()
        assert request.content.keys() - AS_SENT.keys() == {"id", "recorded_at"}


@pytest.mark.parametrize(("status", "error"), ERRORS)
def test_send_trigger_raises_the_exception_of_each_status(
    server: RecordingServer, make_client: Any, status: int, error: type[AnswerError]
) -> None:
    """`record_trigger` did in 0.1. Now it never raises for the network."""
    server.respond = lambda request: Reply(status, b'{"error": "no"}')
    with pytest.raises(error) as raised:
        make_client().send_trigger(**PLAIN, **MAPPINGS)
    assert type(raised.value) is error
    assert raised.value.status == status
    assert make_client(flush_interval=600).record_trigger(**PLAIN, **MAPPINGS) is True


@pytest.mark.parametrize("status", [201, 200, 202, 204])
def test_send_trigger_returns_none_on_success(server: RecordingServer, make_client: Any, status: int) -> None:
    """0.1 took 201 only."""
    server.respond = lambda request: Reply(status)
    assert make_client().send_trigger(**PLAIN) is None


@pytest.mark.parametrize("act", [reset, silence])
def test_send_trigger_raises_connection_failed_where_requests_raised(
    server: RecordingServer, make_client: Any, act: Any
) -> None:
    """It is no `requests.RequestException`, and comes in time: 0.1 waited without a limit."""
    server.respond = lambda request: Reply(act=act)
    with pytest.raises(ConnectionFailed) as raised:
        make_client(read_timeout=0.3).send_trigger(**PLAIN)
    assert not isinstance(raised.value, requests.RequestException)


# What follows from them.


def test_get_trigger_data_is_fit_for_json() -> None:
    """As it would be sent: converted, and a copy; a mistake raises."""
    variables: dict[str, Any] = {"day": date(2012, 9, 1), "tags": ("a", "b"), "id": ACTOR, "none": None}
    data = FocusLabClient(KEY).get_trigger_data(7, "viewed", "page", variables=variables)
    assert json.loads(json.dumps(data)) == data
    assert data["variables"] == {"day": "2012-09-01", "tags": ["a", "b"], "id": str(ACTOR)}
    plain = {"tags": ["a"]}
    data = FocusLabClient(KEY).get_trigger_data(7, "viewed", "page", variables=plain)
    plain["tags"].append("b")
    assert data["variables"] == {"tags": ["a"]}
    with pytest.raises(InvalidTrigger, match="action"):
        FocusLabClient(KEY).get_trigger_data(7, "", "page")


def test_key_and_endpoint_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FL_API_KEY", KEY)
    monkeypatch.setenv("FL_ENDPOINT", OTHER)
    client = FocusLabClient()
    assert (client.api_key, client.endpoint) == (KEY, OTHER)


def test_a_client_that_needs_no_key_has_none() -> None:
    """One with a transport, and one that is off."""
    for client in (FocusLabClient(transport=MemoryTransport()), FocusLabClient(enabled=False)):
        assert client.api_key is None
        assert client.endpoint == DEFAULT
        assert client.get_headers() == {"Content-Type": "application/json"}


@pytest.mark.parametrize("name", ["api_key", "endpoint"])
def test_key_and_endpoint_cannot_be_assigned(name: str) -> None:
    """The error says what to do, and shows no key."""
    client, unseen = FocusLabClient(KEY), "".join(["9f86", "d081"])  # in no line of a traceback
    with pytest.raises(AttributeError, match=f"{name} cannot be assigned; give it to the constructor") as raised:
        setattr(client, name, unseen)
    assert unseen not in shown_by(raised.value, but=__file__)
    with pytest.raises(AttributeError):
        delattr(client, name)
    assert (client.api_key, client.endpoint) == (KEY, DEFAULT)


def test_a_key_that_can_be_read_is_shown_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in a repr, `vars`, copy, pickle or log, nor in the frames of an exception, also once it was read."""
    client = FocusLabClient(KEY)
    assert client.api_key == client.get_headers()["X-FL-API-KEY"] == KEY
    assert KEY not in f"{client!r} {client} {vars(client)} {vars(copy.copy(client))} {client.options!r}"
    with pytest.raises(TypeError) as unpickled:
        pickle.dumps(client)
    with pytest.raises(InvalidTrigger) as invalid:
        client.get_trigger_data(None, "viewed", "page")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError) as swapped:
        FocusLabClient(OTHER, KEY)
    for raised in (unpickled, invalid, swapped):
        assert KEY not in shown_by(raised.value, but=__file__)
    assert KEY not in caplog.text


def test_a_subclass_may_wrap_record_trigger(server: RecordingServer, make_client: Any) -> None:
    """As an application of 2012 did: a constructor and a `record_trigger` of its own, and nothing is warned of."""

    class ShopClient(FocusLabClient):
        def __init__(self) -> None:
            super(ShopClient, self).__init__(KEY, server.endpoint)  # noqa: UP008 - as in Python 2

        def record_trigger(self, user: Any, action: Any, obj: Any, **keywords: Any) -> bool:  # type: ignore[override]
            kwargs = {"actor_id": user, "action": action, "obj": obj}
            kwargs.update(keywords)
            return super().record_trigger(**kwargs)

    with ShopClient() as client:
        assert client.record_trigger(7, "viewed", "page", variables={"title": "One"})
    assert [trigger["actor_id"] for trigger in server.triggers] == ["7"]


@pytest.mark.parametrize(
    ("name", "instead"),
    [("get_url", "endpoint"), ("get_headers", "session"), ("get_trigger_data", "before_record")],
)
def test_a_subclass_that_overrides_a_part_of_the_request_is_warned(name: str, instead: str) -> None:
    """It is not called when a trigger is sent; the warning says what replaces it, at the line of the class."""
    with pytest.warns(RuntimeWarning, match=f"ShopClient.{name} is not called .* `{instead}`") as warned:
        ShopClient = type("ShopClient", (FocusLabClient,), {name: lambda self, *args: None})
    assert warned[0].filename == __file__
    with pytest.warns(RuntimeWarning, match=name):
        type("ShopClient", (type("Mixin", (), {name: None}), FocusLabClient), {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        type("ShopClient", (ShopClient,), {})  # once
        type("PlainClient", (FocusLabClient,), {"get": None})


def test_a_mock_of_a_client_has_its_members() -> None:
    """`create_autospec`, which reads every attribute of the class."""
    mocked = create_autospec(FocusLabClient)(KEY)
    mocked.send_trigger.side_effect = ServerError
    with pytest.raises(ServerError, match="the server failed"):
        mocked.send_trigger(**PLAIN)
    mocked.get_url("trigger")
