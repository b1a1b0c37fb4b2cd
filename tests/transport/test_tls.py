"""TLS, directly and through every kind of proxy, on real sockets."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import socket
import sys
import time

import pytest

from brockman.client import FocusLabClient
from brockman.exceptions import ConnectionFailed
from brockman.options.secret import Secret
from brockman.transport.http import HttpTransport
from tests.support.client import KEY, law_holds, record
from tests.support.server import reset
from tests.support.tls import LATE, PASSWORD, TlsServer, Way, connections_to, make_certificates
from tests.support.waiting import eventually, quick

WAYS = ["direct", "http", "https", "socks5h"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with certificates."""
    made = tmp_path_factory.mktemp("ca")
    make_certificates(made)
    return made


@pytest.fixture(params=WAYS)
def way(request, folder, monkeypatch):
    """A direct connection or a proxy, set in the environment."""
    if request.param == "socks5h":
        pytest.importorskip("socks")
    server = TlsServer(folder)
    way = Way(folder, request.param, server)
    way.endpoint = "https://focuslab.invalid/"
    if way.kind == "direct":
        way.endpoint = f"https://127.0.0.1:{way.port}/"
    else:
        monkeypatch.setenv("https_proxy", f"{way.kind}://user:{PASSWORD}@127.0.0.1:{way.port}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "ca.pem"))
    yield way
    way.stop()
    server.stop()


@pytest.fixture
def transport(way):
    made = HttpTransport(way.endpoint, Secret(KEY), connect_timeout=20, read_timeout=20)
    yield made
    made.close()
    del made
    gc.collect()  # a socket that was left open warns here


def test_triggers_arrive_once_over_one_connection(way, folder, monkeypatch):
    """The CA is taken from the environment, the connection kept, and what goes to the proxy holds no key."""
    if way.kind in ("direct", "https"):  # the other variable
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        monkeypatch.setenv("CURL_CA_BUNDLE", str(folder / "ca.pem"))
    client = FocusLabClient(api_key=KEY, endpoint=way.endpoint, flush_interval=0.01, max_batch_size=5)
    record(client, 50)
    assert client.flush(20)
    assert law_holds(client, 50)
    client.close()
    assert sorted(way.server.ids().values()) == [1] * 50
    assert (way.connections, way.server.connections) == (1, 1)
    assert "proxy-authorization" not in way.server.requests[0].headers
    assert way.seen
    assert KEY.encode() not in way.seen


def test_a_body_does_not_wait_for_the_headers_to_be_acknowledged(way, transport):
    """TCP_NODELAY is set, also on the connection to a proxy."""
    transport.send(b"{}")
    (connection,) = connections_to(way.port)
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_one_deadline_covers_handshakes_and_response(way, transport, fault):
    """A server or proxy that hangs or drips, before or in the response, is cut off at the deadline."""
    transport.send(b"{}")
    way.fault = fault
    for _ in ("answer", "handshake"):  # a failed attempt closes the connection
        begun = time.monotonic()
        with pytest.raises(ConnectionFailed, match="in time"):
            transport.send(b"{}", 0.1)
        assert time.monotonic() - begun < 10  # the drip would take longer by far


@pytest.mark.parametrize("way", ["http", "https"], indirect=True)
def test_a_handshake_gets_the_time_left_by_a_slow_proxy(way, transport):
    """After a proxy that takes most of the attempt's time, the server behind it gets only the rest."""
    way.fault = "late"

    def fail() -> tuple[float]:
        begun = time.monotonic()
        with pytest.raises(ConnectionFailed, match="in time"):
            transport.send(b"{}", LATE + 0.1)
        return (time.monotonic() - begun,)

    quick(fail, 2 * LATE)


FAULTS = {
    "407": "the proxy answered 407; check the proxy's user and password",
    "502": "the proxy answered 502",
    "reset": "reset|EOF",
    "untrusted": "unable to get local issuer",
    "mismatch": "certificate is not valid for|doesn't match",
    "missing": "invalid path: /no/such/ca.pem",
}
CASES = [(way, fault) for way in WAYS for fault in FAULTS if "http" in way or not fault.isdigit()]


@pytest.mark.parametrize(("way", "fault"), CASES, indirect=["way"])
def test_a_failure_is_logged_without_secrets(way, monkeypatch, caplog, fault):
    """The log and `last_error` name the cause, not the key or the proxy's password; triggers are held."""
    caplog.set_level(logging.DEBUG, "brockman")
    endpoint, way.fault = way.endpoint, fault
    if fault == "mismatch":
        endpoint = endpoint.replace("focuslab", "other").replace("127.0.0.1", "localhost")
    elif fault == "untrusted":
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    elif fault == "missing":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/ca.pem")
    client = FocusLabClient(
        api_key=KEY, endpoint=endpoint, flush_interval=0.01, backoff_base=0.01, backoff_cap=0.02
    )
    record(client, 3)
    assert eventually(lambda: client.stats().retries > 1)
    error = client.stats().last_error
    assert re.search(FAULTS[fault], error)
    assert "is unavailable" in caplog.text
    if fault in ("407", "502", "reset"):
        way.fault = ""
        assert client.flush(20)
        assert sorted(way.server.ids().values()) == [1] * 3
    assert law_holds(client, 3)
    client.close(0.1)
    assert KEY not in caplog.text + error
    assert PASSWORD not in caplog.text + error


def notify(server, connection) -> None:
    """Close TLS, and do not wait for the client to do the same."""
    connection.setblocking(False)
    with contextlib.suppress(OSError):
        connection.unwrap()


@pytest.mark.parametrize("size", [10, 3_000_000])
@pytest.mark.parametrize("ending", [lambda *_: None, reset, notify])
def test_a_kept_alive_connection_that_breaks_in_a_request_is_stale(way, transport, ending, size):
    """Also if its end shows only as a TLS error in the middle of a large body."""
    way.server.ending = ending
    transport.send(b"{}")
    with pytest.raises(ConnectionFailed) as caught:
        transport.send(b"[" + b" " * size + b"]")
    assert caught.value.stale


def test_a_batch_on_a_stale_connection_is_sent_over_a_new_one(way, caplog):
    """At once, and once: no outage is logged, and nothing is settled twice."""
    way.server.ending = reset
    client = FocusLabClient(
        api_key=KEY, endpoint=way.endpoint, flush_interval=0.01, backoff_base=60, backoff_cap=60
    )
    record(client, 1)
    assert client.flush(20)
    record(client, 20, start=1, more=["x" * 100] * 200)
    assert client.flush(20)
    assert law_holds(client, 21)
    assert client.stats().delivered == 21
    client.close()
    assert sorted(way.server.ids().values()) == [1] * 21
    assert way.server.connections == 2
    assert not caplog.records


def test_a_fork_leaves_the_parents_tls_connection_alone(way, transport, capfd, monkeypatch):
    """The child closes its copy without a TLS message to the server, and opens a connection of its own."""
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)  # pytest's would keep it to itself
    transport.send(b"{}")
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            transport.after_fork()
            transport.send(b"{}")
            transport.close()
        os._exit(0)
    os.waitpid(pid, 0)
    transport.send(b"{}")
    assert [request.connection for request in way.server.requests] == [1, 2, 1]
    assert capfd.readouterr().err == ""
