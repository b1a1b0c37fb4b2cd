"""Logging handlers that record triggers, or that wait for the client, while the transport sends."""

from __future__ import annotations

import logging

import pytest
import requests

from brockman.client import FocusLabClient
from tests.support.client import record
from tests.support.endpoint import Endpoint
from tests.support.programs import ran_python
from tests.support.server import RecordingServer, Reply, reset
from tests.support.waiting import eventually


@pytest.fixture
def root():
    """The root logger at DEBUG, without the lines of the client itself."""
    logger, own = logging.getLogger(), logging.getLogger("brockman")
    before, own.disabled = logger.level, True
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.setLevel(before)
    own.disabled = False


class Recording(logging.Handler):
    """Records a trigger for each line, as a product that counts its own errors does."""

    def __init__(self, client: FocusLabClient) -> None:
        super().__init__()
        self.client = client
        self.lines: list[str] = []

    def emit(self, line: logging.LogRecord) -> None:
        self.lines.append(line.getMessage())
        self.client.record_trigger("log", "wrote", line.name)


def every_answer(request) -> Reply:
    """Answer so that urllib3 has something to say: a refused, a reset and a closed connection."""
    return [Reply(act=reset), Reply(503), Reply(hang_up=True)][request.connection % 3]


@pytest.mark.parametrize("way", ["direct", "proxy", "session"])
def test_a_send_does_not_feed_the_next_with_lines(server, make_client, root, monkeypatch, way):
    """One trigger is one trigger, however often it is sent, at root DEBUG."""
    options = {}
    server.respond = lambda request: every_answer(request) if len(server.requests) < 6 else Reply(201)
    if way == "proxy":
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
        options = {"endpoint": "http://focuslab.invalid/", "allow_insecure": True}
    session = requests.Session()
    if way == "session":
        options["session"] = session
    client = make_client(**options)
    handler = Recording(client)
    root.addHandler(handler)
    try:
        record(client, 1)
        assert client.flush(20)
        client.send_trigger("1", "viewed", "page")
        assert client.close(20)
    finally:
        root.removeHandler(handler)
        session.close()
    assert handler.lines == []
    assert client.stats().recorded == 1


def test_other_requests_are_logged_meanwhile(server, make_client, root, caplog, monkeypatch):
    """Those of another thread while the client sends, and those of its own thread afterwards."""
    monkeypatch.setattr(logging.getLogger("urllib3.connectionpool"), "disabled", False)  # by another test
    endpoint = Endpoint(server)
    endpoint.hold()
    client = make_client()
    record(client, 1)
    assert eventually(lambda: endpoint.arrived == 1)
    elsewhere = RecordingServer()
    requests.post(elsewhere.endpoint + "meanwhile", data="{}", timeout=20)
    endpoint.release()
    assert client.flush(20)
    client.send_trigger("1", "viewed", "page")
    requests.post(elsewhere.endpoint + "afterwards", data="{}", timeout=20)
    elsewhere.stop()
    assert "meanwhile" in caplog.text
    assert "afterwards" in caplog.text
    assert "trigger/" not in caplog.text


FLUSHING = """
import logging, logging.config, sys, threading, time
from brockman.client import FocusLabClient
logging.getLogger("brockman").disabled = True
logging.getLogger().setLevel(logging.DEBUG)
client = FocusLabClient(api_key="k", endpoint=sys.argv[1], flush_interval=60, connect_timeout=20, read_timeout=20)

class Flushing(logging.Handler):
    results = []
    def emit(self, record):
        pass
    def flush(self):
        self.results.append(client.flush(30))

logging.getLogger().addHandler(Flushing())
client.record_trigger("1", "viewed", "page")
begun = time.monotonic()
END()
assert time.monotonic() - begun < 15, time.monotonic() - begun
(result,) = Flushing.results[:1]
assert result.delivered == 1, result
client.close(5)
"""


@pytest.mark.parametrize("end", ["logging.config.dictConfig({'version': 1})", "logging.shutdown()"])
def test_a_handler_that_flushes_the_client_waits_for_the_send_only(server, end):
    """`dictConfig` holds logging's lock while it flushes handlers, and the worker does not wait for it."""
    ended = ran_python(FLUSHING.replace("END()", end), server.endpoint)
    assert ended.status == 0, ended.err
    assert len(server.triggers) == 1
