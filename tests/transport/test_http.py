"""HTTP on real sockets, and the ways in which it fails."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import pickle
import signal
import socket
import threading
import time
import traceback
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from brockman.client import FocusLabClient
from brockman.exceptions import BadRequest, ConfigurationError, ConnectionFailed
from brockman.options.secret import Secret
from brockman.transport import Answer
from brockman.transport.http import HttpTransport
from brockman.transport.memory import MemoryTransport
from tests.support.client import KEY, record
from tests.support.server import RecordingServer, Reply, cut, drip, reset, silence
from tests.support.shown import shown_by
from tests.support.waiting import eventually, quick


@pytest.fixture
def transport(server):
    made = HttpTransport(server.endpoint, Secret(KEY), connect_timeout=3.05, read_timeout=5)
    yield made
    made.close()


def test_connections_are_kept_alive(server, transport):
    """Many requests go over one connection."""
    for _ in range(20):
        assert transport.send(b"{}").status == 201
    assert server.connections == 1


def test_threads_that_send_at_once_keep_their_connections(server, transport, caplog):
    """Each of many threads that call `send_trigger` reuses an open one, and nothing is logged."""
    together = threading.Barrier(24)

    def respond(request):
        together.wait(20)
        return Reply(201)

    server.respond = respond
    for _ in range(2):
        with ThreadPoolExecutor(24) as pool:
            assert {answer.status for answer in pool.map(lambda _: transport.send(b"{}"), range(24))} == {201}
    assert server.connections == 24
    assert caplog.records == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_never_followed(server, transport, status):
    """The key is never sent to the target of a redirect."""
    elsewhere = RecordingServer()
    try:
        server.respond = lambda request: Reply(status, b"x" * 10, {"Location": elsewhere.endpoint})
        answer = transport.send(b"{}")
        assert (answer.status, answer.location) == (status, elsewhere.endpoint)
        assert elsewhere.connections == 0
    finally:
        elsewhere.stop()


def test_cookies_are_neither_kept_nor_sent(server, transport):
    """A server cannot set a cookie on us."""
    server.respond = lambda request: Reply(headers={"Set-Cookie": "a=b; Path=/"})
    transport.send(b"{}")
    transport.send(b"{}")
    assert all("cookie" not in request.headers for request in server.requests)


def test_netrc_is_never_used(server, tmp_path, monkeypatch):
    """A netrc entry for the host adds no Authorization header."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    transport = HttpTransport(server.endpoint, Secret(KEY), connect_timeout=1, read_timeout=1)
    transport.send(b"{}")
    transport.close()
    assert "authorization" not in server.requests[0].headers


def test_a_proxy_from_the_environment_is_read_once(server, monkeypatch):
    """HTTP_PROXY as it was when the transport was made holds for every request."""
    proxy = RecordingServer()
    try:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        transport = HttpTransport("http://focuslab.invalid/", Secret(KEY), connect_timeout=1, read_timeout=1)
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert transport.send(b"{}").status == 201
        assert proxy.requests[0].path == "http://focuslab.invalid/trigger/"
        transport.close()
    finally:
        proxy.stop()


@pytest.mark.parametrize("silent", [False, True])
def test_a_socks_proxy_from_the_environment_is_used(server, monkeypatch, silent):
    """Where PySocks is installed: the proxy looks the host up, the connection is kept, the deadline holds."""
    pytest.importorskip("socks")
    asked = []

    def relay(listener) -> None:
        beyond = socket.create_connection(("127.0.0.1", server.port))
        with listener, beyond as on, listener.accept()[0] as connection:
            connection.recv(100)
            connection.sendall(b"\5\0")
            asked.append(connection.recv(100))
            if silent:
                connection.recv(1)  # until it hangs up
                return
            connection.sendall(b"\5\0\0\1" + bytes(6))
            while request := connection.recv(10_000):
                on.sendall(request)
                if request.endswith(b"{}"):
                    connection.sendall(on.recv(10_000))

    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)
    thread = threading.Thread(target=relay, args=(listener,), daemon=True)
    thread.start()
    monkeypatch.setenv("http_proxy", f"socks5h://127.0.0.1:{listener.getsockname()[1]}")
    transport = HttpTransport("http://focuslab.invalid/", Secret(KEY), connect_timeout=30, read_timeout=30)
    if silent:
        begun = time.monotonic()
        with pytest.raises(ConnectionFailed):
            transport.send(b"{}", 0.3)
        assert time.monotonic() - begun < 15  # and not what a connection may take
    else:
        assert [transport.send(b"{}").status for _ in range(2)] == [201, 201]
    transport.close()
    thread.join(10)
    assert b"focuslab.invalid" in asked[0]


def test_no_proxy_from_the_environment_is_respected(server, monkeypatch):
    """NO_PROXY keeps the proxy out: the name is looked up here, which fails, and not by the proxy."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("no_proxy", "focuslab.invalid")
    transport = HttpTransport("http://focuslab.invalid/", Secret(KEY), connect_timeout=1, read_timeout=1)
    with pytest.raises(ConnectionFailed):
        transport.send(b"{}")
    transport.close()
    assert server.connections == 0


def test_a_proxy_whose_url_is_wrong_is_named(monkeypatch):
    """A password with a # in it makes the rest of the URL a fragment. No part of it is shown."""
    monkeypatch.setenv("https_proxy", "http://user:PASSWORD#x@127.0.0.1:9")
    with FocusLabClient(KEY, "https://focuslab.invalid/") as client, pytest.raises(ConnectionFailed) as caught:
        client.send_trigger("a", "b", "c")
    assert str(caught.value) == "the URL of the proxy cannot be used; brockman check says why"


def test_a_server_on_this_machine_needs_no_no_proxy(server, monkeypatch):
    """A proxy in the environment is not used for loopback."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    transport = HttpTransport(server.endpoint, Secret(KEY), connect_timeout=1, read_timeout=1)
    assert transport.send(b"{}").status == 201
    transport.close()


def test_a_ca_bundle_that_is_missing_is_a_failed_attempt(monkeypatch):
    """A wrong REQUESTS_CA_BUNDLE ends no thread: it is a ConnectionFailed."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    transport = HttpTransport("https://127.0.0.1:9/", Secret(KEY), connect_timeout=1, read_timeout=1)
    with pytest.raises(ConnectionFailed):
        transport.send(b"{}")
    transport.close()


def test_a_server_that_drips_is_cut_off_by_the_deadline(server):
    """A byte now and then does not extend an attempt beyond connect_timeout + read_timeout."""
    server.respond = lambda request: Reply(act=drip)
    transport = HttpTransport(server.endpoint, Secret(KEY), connect_timeout=0.2, read_timeout=0.6)
    started = time.monotonic()
    with pytest.raises(ConnectionFailed, match="no answer in time"):
        transport.send(b"{}")
    assert time.monotonic() - started < 5  # the drip would go on for ever
    transport.close()


def test_a_server_that_never_answers_is_cut_off(server):
    """Silence ends with the read timeout."""
    server.respond = lambda request: Reply(act=silence)
    transport = HttpTransport(server.endpoint, Secret(KEY), connect_timeout=0.2, read_timeout=0.3)
    with pytest.raises(ConnectionFailed, match="no answer in time"):
        transport.send(b"{}")
    transport.close()


def broken_body(status: int, body: bytes = b"{"):
    """Answer with a status and all headers, and hang up in the middle of the body."""

    def act(server, connection) -> None:
        connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 100\r\n\r\n%s" % (status, body))

    return act


def test_a_201_whose_body_breaks_is_a_success(server, transport):
    """The status is enough: nothing is sent again because of a body that is not needed."""
    server.respond = lambda request: Reply(act=broken_body(201))
    answer = transport.send(b"{}")
    assert (answer.status, answer.body) == (201, b"{")


@pytest.mark.parametrize("status", [200, 207, 400])
@pytest.mark.parametrize("end", [None, reset])
def test_an_answer_whose_body_breaks_before_it_tells_settles_nothing(server, make_client, status, end):
    """Without the body of a 200, 207 or 400 the client cannot know who spoke: the trigger is sent again."""

    def breaks(server, connection) -> None:
        connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 100\r\n\r\n" % status)
        if end is not None:
            end(server, connection)

    server.respond = lambda request: Reply(act=breaks) if len(server.requests) < 3 else Reply(201)
    client = make_client(backoff_base=0.01, backoff_cap=0.01)
    client.record_trigger("1", "viewed", "page")
    assert client.flush(20)
    assert (client.stats().delivered, len(server.requests)) == (1, 4)


@pytest.mark.parametrize("status", [102, 103])
def test_an_interim_response_is_skipped(server, transport, status):
    """A 103 before the response is skipped, and the next request gets its own response."""

    def early(server, connection) -> None:
        connection.sendall(b"HTTP/1.1 %d Early\r\nLink: </x>\r\n\r\n" % status)
        connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    server.respond = lambda request: Reply(act=early) if not server.requests else Reply(400)
    assert transport.send(b"{}").status == 201
    with contextlib.suppress(ConnectionFailed):  # the server may have hung up meanwhile: then once more
        assert transport.send(b"{}").status == 400
        return
    assert transport.send(b"{}").status == 400


def test_what_follows_a_101_is_not_the_answer_to_the_next_request(server, transport):
    """After a 101 the real answer may still come: the next request goes over another connection."""

    def switch(server, connection) -> None:
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        with contextlib.suppress(OSError):
            if connection.recv(1):  # the next request, over the same connection
                connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    server.respond = lambda request: Reply(act=switch) if request.connection == 1 else Reply(400)
    assert transport.send(b"{}").status == 101
    assert transport.send(b"{}").status == 400
    assert server.connections == 2


def test_the_addresses_of_a_host_share_one_deadline(monkeypatch):
    """Five addresses that answer nothing take no longer than one attempt may."""
    listeners, fillers = [], []
    real = socket.getaddrinfo
    try:
        port = 0
        for n in range(5):
            listener = socket.socket()
            listener.bind((f"127.0.0.{10 + n}", port))
            listener.listen(0)
            port = listener.getsockname()[1]
            listeners.append(listener)
            for _ in range(3):  # fill the backlog: the next connection gets no answer
                filler = socket.socket()
                filler.setblocking(False)
                fillers.append(filler)
                filler.connect_ex((f"127.0.0.{10 + n}", port))
        answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{10 + n}", port)) for n in range(5)]
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *rest, **more: answers if host == "many.test" else real(host, *rest, **more),
        )
        transport = HttpTransport(f"http://many.test:{port}/", Secret(KEY), connect_timeout=0.5, read_timeout=0.2)

        def fail() -> tuple[float]:
            started = time.monotonic()
            with pytest.raises(ConnectionFailed, match="in time"):
                transport.send(b"{}")
            return (time.monotonic() - started,)

        quick(fail, 0.7 + 1.5)  # 2.5 s, if each had the whole connect_timeout
        transport.close()
    finally:
        for open_socket in (*listeners, *fillers):
            open_socket.close()


def test_an_asynchronous_exception_passes_through_send_trigger(server):
    """A time limit raised by a signal handler ends send_trigger; nothing is sent a second time."""

    class TimeLimit(Exception):
        pass

    def raise_limit(number, frame):
        raise TimeLimit

    client = FocusLabClient(api_key=KEY, endpoint=server.endpoint, read_timeout=20)
    client.send_trigger("1", "viewed", "page")  # opens the connection that is kept alive
    server.respond = lambda request: Reply(act=silence)
    before = signal.signal(signal.SIGALRM, raise_limit)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(TimeLimit):
            client.send_trigger("2", "viewed", "page")
    finally:
        signal.signal(signal.SIGALRM, before)
        client.close()
    assert len(server.requests) == 2


@pytest.mark.parametrize("act", [reset, cut])
def test_a_connection_that_breaks_on_its_first_request_is_not_stale(server, transport, act):
    """Only the reset of a kept-alive connection, before any response, is stale."""
    server.respond = lambda request: Reply(act=act)
    with pytest.raises(ConnectionFailed) as caught:
        transport.send(b"{}")
    assert not caught.value.stale


def test_a_kept_alive_connection_closed_by_the_server_is_stale_or_replaced(server, transport):
    """After the server hung up on an idle connection, the next request succeeds, or fails as stale."""
    server.respond = lambda request: Reply(hang_up=True)
    outcomes = set()
    for _ in range(50):
        try:
            outcomes.add(transport.send(b"{}").status)
        except ConnectionFailed as error:
            outcomes.add(f"stale={error.stale}")
    assert outcomes <= {201, "stale=True"}


def test_an_answer_is_read_to_64_kib_and_no_further(server, transport):
    """A body of 50 MB is left alone after 64 KiB; the next request works."""
    server.respond = lambda request: Reply(201, b"x" * 50_000_000 if len(server.requests) == 0 else b"")
    answer = transport.send(b"{}")
    assert len(answer.body) == 64 * 1024
    assert transport.send(b"{}").status == 201


def test_a_compressed_answer_is_inflated_to_64_kib(server, transport):
    """A gzip bomb takes no more memory than an answer in plain text."""
    server.respond = lambda request: Reply(201, gzip.compress(b"0" * 10_000_000), {"Content-Encoding": "gzip"})
    assert transport.send(b"{}").body == b"0" * 64 * 1024


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_the_key_is_hidden_in_a_compressed_answer(server, transport, compress):
    """It is replaced in what was read, not in what was sent."""
    body = compress(f"unknown key {KEY}".encode("utf-16"))
    server.respond = lambda request: Reply(403, body, {"Content-Encoding": "gzip"})
    answer = transport.send(b"{}")
    assert answer.words == "unknown key (api key)"
    assert KEY not in str(answer)


def test_the_key_is_not_shown_anywhere(server, caplog):
    """Not in a log line, a repr, an exception and what hangs on it, or a pickle."""
    caplog.set_level(logging.DEBUG)
    server.respond = lambda request: Reply(401, f"unknown key {KEY}".encode())
    client = FocusLabClient(api_key=KEY, endpoint=server.endpoint, flush_interval=0.01)
    client.record_trigger("1", "viewed", "page")
    server.wait_until(lambda s: len(s.requests) == 1)
    assert eventually(lambda: client.stats().last_error is not None)
    with pytest.raises(Exception, match="401") as caught:
        client.send_trigger("1", "viewed", "page")
    server.stop()
    with pytest.raises(ConnectionFailed) as refused:
        client.send_trigger("1", "viewed", "page")
    for thing in (client, client.options):
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(thing)
    client.close(0.2)
    shown = [repr(client), str(client.stats()), repr(client.options), caplog.text]
    for error in (caught.value, refused.value):
        shown += ["".join(traceback.format_exception(error)), repr(error.args), repr(vars(error))]
        shown.append(repr(pickle.loads(pickle.dumps(error))))
        assert error.__context__ is None
    assert not [text for text in shown if KEY in text]


def test_a_redirect_that_echoes_the_key_does_not_log_it(server, caplog):
    """The target of a redirect is logged without the key, and shortened."""
    server.respond = lambda request: Reply(302, headers={"Location": f"https://login/?next={KEY}&" + "x" * 5000})
    client = FocusLabClient(api_key=KEY, endpoint=server.endpoint)
    record(client, 1)
    client.flush(0.2)
    assert eventually(lambda: "redirects" in caplog.text)
    assert KEY not in caplog.text
    assert len(caplog.text) < 2000
    client.close(0.1)


def test_a_transport_that_is_false_is_used(server):
    """A transport that is empty, such as a list, is not replaced by HTTP."""

    class Kept(list):
        def send(self, body, timeout=None):
            self.append(body)
            return Answer(201)

        def close(self):
            pass

    kept = Kept()
    client = FocusLabClient(api_key=KEY, endpoint=server.endpoint, transport=kept)
    record(client, 1)
    assert client.close()
    assert (len(kept), server.connections) == (1, 0)


def test_a_given_session_is_used(server):
    """The headers of the session are sent; the key and the body are ours."""
    session = requests.Session()
    session.headers["X-Team"] = b"blue"
    session.headers["Connection"] = None
    client = FocusLabClient(api_key=KEY, endpoint=server.endpoint, session=session)
    client.send_trigger("1", "viewed", "page")
    client.close()
    assert server.requests[0].headers["x-team"] == "blue"
    assert "connection" not in server.requests[0].headers
    assert server.requests[0].headers["x-fl-api-key"] == KEY


def test_a_header_of_a_session_that_cannot_be_sent_does_not_show_the_key():
    """A report of the error with the variables of each frame holds no key."""
    with requests.Session() as session:
        session.headers["X-Team"] = "blue\nred"
        with pytest.raises(requests.exceptions.InvalidHeader) as caught:
            FocusLabClient(api_key=KEY, session=session)
    shown = [repr(frame.f_locals) for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert "blue" in repr(shown)
    assert KEY not in repr(shown)


def test_a_transport_and_a_session_together_are_an_error():
    """One of the two would be ignored."""
    with requests.Session() as session, pytest.raises(ConfigurationError, match="give one"):
        FocusLabClient(api_key=KEY, transport=MemoryTransport(), session=session)


def test_what_is_no_session_is_an_error():
    """It is named where it is given, not by the first attribute that is missing."""
    with pytest.raises(ConfigurationError, match=r"session: a str should be a requests\.Session"):
        FocusLabClient(api_key=KEY, session="http://proxy")


def test_bodies_larger_than_the_sockets_buffers_arrive(server, transport):
    """A body of 8 MB is sent whole."""
    body = b'{"x":"' + b"y" * 8_000_000 + b'"}'
    assert transport.send(body).status == 201
    assert server.requests[0].body == body


@pytest.mark.parametrize(
    "host",
    ["\u2603.example", "mu\u0308nchen.example", "xn--\xfc.example", f"{'é' * 63}.example", "*.é"],
    ids=ascii,
)
def test_a_host_that_cannot_be_encoded_is_a_wrong_setting(host):
    """Requests' own InvalidURL would be a page of 500 in Django; the error names the setting and the value."""
    with pytest.raises(ConfigurationError) as caught:
        FocusLabClient(api_key=KEY, endpoint=f"https://{host}/")
    assert str(caught.value).startswith("endpoint is 'https://")
    assert host[-7:] in str(caught.value)
    assert "it should " in str(caught.value)
    assert KEY not in shown_by(caught.value, but=__file__)


@pytest.mark.parametrize(
    "host", ["संगठन.भारत", "ไทย.example", "my_service", "example.com.", "xn--a", "[fe80::1%25lo]"]
)
def test_an_odd_host_that_can_be_used_makes_a_client(host):
    """Names of other scripts, underscores, a trailing dot, and zones."""
    with FocusLabClient(api_key=KEY, endpoint=f"https://{host}/") as client:
        assert client.options.endpoint == f"https://{host}/"


def test_a_complete_body_is_read_although_the_connection_is_reset_after_it(server, make_client):
    """A 200 with its JSON is a success: the triggers are not sent again and again."""

    def resets(server, connection) -> None:
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"ok": true}')
        server.stopped.wait(0.2)  # the client reads meanwhile
        reset(server, connection)

    server.respond = lambda request: Reply(act=resets)
    client = make_client()
    client.record_trigger("1", "viewed", "page")
    assert client.flush(20)
    assert (client.stats().delivered, len(server.requests)) == (1, 1)


@pytest.mark.parametrize("escape", [r"\/", r"\u002f", "&#x2F;", "&#47;", "&sol;"])
def test_the_key_is_hidden_however_it_is_escaped(server, escape):
    """In JSON and in HTML: what is unescaped later shows nothing."""
    key = "da9dcaa0/364541498d4ae+6b4865cf395=="
    body = json.dumps({"rejected": [{"index": 0, "error": f"unknown {key}"}]}).replace("/", escape)
    server.respond = lambda request: Reply(207, body.encode())
    with pytest.raises(BadRequest) as caught:
        FocusLabClient(key, server.endpoint).send_trigger("1", "viewed", "page")
    assert str(caught.value) == "the server answered 400: unknown (api key)"


def test_rejections_that_are_longer_than_what_is_read_are_asked_for_in_halves(server, make_client):
    """A 207 beyond 64 KiB cannot be read whole: each trigger gets its own verdict all the same."""

    def answer(request):
        rejected = [{"index": index, "error": "x" * 400} for index in range(0, len(request.triggers), 2)]
        return Reply(207, json.dumps({"rejected": rejected}).encode())

    server.respond = answer
    client = make_client(on_error=lambda error, bodies: None)
    record(client, 400)
    assert client.flush(20)
    assert client.stats().delivered + client.stats().rejected == 400


@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_that_begins_with_the_key_is_no_page(server, make_client, status):
    """It is judged, and shown, as the text that it is."""
    server.respond = lambda request: Reply(status, f"{KEY} has recorded 9 triggers".encode())
    client = make_client()
    client.record_trigger("1", "viewed", "page")
    assert client.flush(20)
    assert client.stats().last_error in (None, "the server answered 400: (api key) has recorded 9 triggers")
