"""Libraries that intercept `requests` in tests intercept the client's sends too."""

from __future__ import annotations

import importlib.util
import io
import json

import pytest
import requests
import requests_mock
import responses

from brockman.exceptions import BadRequest, ConnectionFailed
from tests.support.client import KEY, law_holds, record
from tests.support.programs import ran_python


@pytest.fixture(params=["own session", "given session"])
def make(request, make_client):
    """A function that makes a client, which has a session of its own or a given one."""
    sessions = []

    def made(**options):
        if request.param == "given session":
            sessions.append(requests.Session())
            options["session"] = sessions[-1]
        return make_client(**options)

    yield made
    for session in sessions:
        session.close()


@pytest.fixture(params=["before the client", "after its first trigger"])
def started(request, make):
    """A function that starts a mock before or after a client is made, and returns the client."""

    def begin(mock):
        if request.param == "before the client":
            mock.start()
            return make()
        client = make()
        client.send_trigger("0", "viewed", "page")
        mock.start()
        return client

    return begin


def test_responses_answers_for_the_server(server, started):
    """Their answers are judged as ever, no trigger reaches the server meanwhile, and each does afterwards."""
    url = server.endpoint + "trigger/"
    mock = responses.RequestsMock(assert_all_requests_are_fired=False)
    client = started(mock)
    before = len(server.requests)
    try:
        with pytest.raises(ConnectionFailed):
            client.send_trigger("1", "viewed", "page")
        mock.post(url, status=400, body="no such action")
        with pytest.raises(BadRequest, match="no such action"):
            client.send_trigger("1", "viewed", "page")
        mock.replace("POST", url, status=201)
        record(client, 3)
        assert client.flush(20)
        sent = json.loads(mock.calls[-1].request.body)
        assert mock.calls[-1].request.headers["X-FL-API-KEY"] == KEY
        assert [trigger["variables"]["n"] for trigger in sent] == [0, 1, 2]
        assert mock.calls[-1].response.status_code == 201
        mock.replace("POST", url, status=307, headers={"Location": "http://127.0.0.1:9/"})
        with pytest.raises(Exception, match="307"):
            client.send_trigger("1", "viewed", "page")
    finally:
        mock.stop(allow_assert=False)
    assert len(server.requests) == before
    client.send_trigger("2", "viewed", "page")
    assert len(server.requests) == before + 1
    assert law_holds(client, 3)


def test_requests_mock_answers_for_the_server(server, started):
    """The same, with a mock that replaces `Session.send`."""
    url = server.endpoint + "trigger/"
    mock = requests_mock.Mocker()
    client = started(mock)
    before = len(server.requests)
    try:
        with pytest.raises((ConnectionFailed, requests_mock.NoMockAddress)):  # by its version
            client.send_trigger("1", "viewed", "page")
        mock.post(url, status_code=400, text="no such action")
        with pytest.raises(BadRequest, match="no such action"):
            client.send_trigger("1", "viewed", "page")
        mock.post(url, status_code=207, json={"rejected": [{"index": 1, "error": "no"}]})
        record(client, 3)
        assert client.flush(20)
        assert (client.stats().delivered, client.stats().rejected) == (2, 1)
        assert len(mock.last_request.json()) == 3
        assert len(server.requests) == before
        mock.post(url, real_http=True)
        client.send_trigger("2", "viewed", "page")
    finally:
        mock.stop()
    client.send_trigger("3", "viewed", "page")
    assert len(server.requests) == before + 2


def test_a_mock_of_one_session_intercepts_that_one(server, make_client):
    """`requests_mock.Mocker(session=...)` sees what the client sends with it."""
    with requests.Session() as session, requests_mock.Mocker(session=session) as mock:
        mock.post(server.endpoint + "trigger/", status_code=201)
        client = make_client(session=session)
        client.send_trigger("1", "viewed", "page")
    assert mock.call_count == 1
    assert server.requests == []


class Canned(requests.adapters.BaseAdapter):
    """An adapter that answers without a connection: with its content, or with a stream, as vcrpy does."""

    def __init__(self, *, streams: bool) -> None:
        super().__init__()
        self.streams = streams

    def send(self, request, **kwargs):
        response = requests.Response()
        response.status_code, response.request = 400, request
        if self.streams:
            response.raw = io.BytesIO(b"no such action")
        else:
            response._content = b"no such action"
        return response

    def close(self):
        pass


@pytest.mark.parametrize("streams", [False, True], ids=["content", "stream"])
def test_an_adapter_may_answer_by_itself(server, make_client, streams):
    """One that reads nothing from a connection: its content is the body."""
    with requests.Session() as session:
        session.mount(server.endpoint, Canned(streams=streams))
        with pytest.raises(BadRequest, match="no such action"):
            make_client(session=session).send_trigger("1", "viewed", "page")


HTTPRETTY = """
import sys, warnings
warnings.simplefilter("ignore")
import httpretty, requests
from brockman.client import FocusLabClient

endpoint, when, session = sys.argv[1:]
client = FocusLabClient(api_key="k", endpoint=endpoint, session=requests.Session() if session else None)
if when == "later":
    client.send_trigger("0", "viewed", "before")
httpretty.enable()
httpretty.register_uri("POST", endpoint + "trigger/", status=201)
client.send_trigger("1", "viewed", "page")
client.record_trigger("1", "viewed", "page")
assert client.flush(20)
assert b"viewed" in httpretty.last_request().body
httpretty.register_uri("POST", endpoint + "trigger/", status=503)
try:
    client.send_trigger("1", "viewed", "page")
except Exception as error:
    assert "503" in str(error), error
else:
    raise AssertionError
httpretty.disable()
client.send_trigger("2", "viewed", "after")
assert client.close(20)
"""


@pytest.mark.parametrize("session", ["", "given"])
@pytest.mark.parametrize("when", ["first", "later"])
def test_httpretty_answers_for_the_server(server, when, session):
    """One that replaces sockets: a real connection is not used meanwhile, nor a false one afterwards."""
    if importlib.util.find_spec("httpretty") is None:
        pytest.skip("httpretty is not installed")
    ended = ran_python(HTTPRETTY, server.endpoint, when, session)
    assert ended.status == 0, ended.err
    wanted = ["before", "after"] if when == "later" else ["after"]
    assert [trigger["object"] for trigger in server.triggers] == wanted
