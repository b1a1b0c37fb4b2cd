"""Connections that were idle: over a router that forgets them, nothing is lost and nothing waits."""

from __future__ import annotations

import select
import socket
import threading
import time

import pytest
import requests

from brockman.client import FocusLabClient
from brockman.options.secret import Secret
from brockman.transport.http import HttpTransport
from tests.support.client import KEY, law_holds, record
from tests.support.tls import PASSWORD, TlsServer, Way, connections_to, make_certificates

PAUSE = 61.0  # seconds


class Router:
    """Relays connections to a port until it forgets those that are open: then it swallows what comes."""

    def __init__(self, port: int) -> None:
        self.connections = 0
        self.swallowed = b""
        self._port = port
        self._forgotten: set[int] = set()
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True, name="router")]
        self._threads[0].start()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            if select.select([self._listener], [], [], 0.02)[0]:
                near = self._listener.accept()[0]
                self.connections += 1
                thread = threading.Thread(target=self._relay, args=(near, self.connections), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _relay(self, near: socket.socket, number: int) -> None:
        with near, socket.create_connection(("127.0.0.1", self._port)) as beyond:
            while not self._stopped.is_set():
                for ready in select.select([near, beyond], [], [], 0.02)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if number in self._forgotten:
                        self.swallowed += data
                    else:
                        (beyond if ready is near else near).sendall(data)

    def forget(self) -> None:
        """Swallow what comes over the connections that are open now."""
        self._forgotten = set(range(1, self.connections + 1))

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()


class Clock:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> list[float]:
        return [self.now]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def router(server):
    made = Router(server.port)
    made.endpoint = f"http://127.0.0.1:{made.port}/"
    yield made
    made.stop()


@pytest.fixture(params=["own", "session"])
def transport(request, router, clock):
    session = requests.Session() if request.param == "session" else None
    made = HttpTransport(
        router.endpoint, Secret(KEY), connect_timeout=20, read_timeout=20, clock=clock, session=session
    )
    yield made
    made.close()


def test_a_batch_after_a_pause_is_delivered_at_once(router, server, transport, clock):
    """A router has forgotten the connection: `close` and `send_trigger` use another one, and wait for nothing."""
    client = FocusLabClient(api_key=KEY, transport=transport, flush_interval=0.01)
    record(client, 1)
    assert client.flush(20)
    for send in (
        lambda: client.send_trigger("1", "viewed", "page"),
        lambda: record(client, 1) and client.flush(9),
    ):
        router.forget()
        clock.now += PAUSE
        begun = time.monotonic()
        send()
        assert time.monotonic() - begun < 10  # the swallowed request would be waited for twice as long
    router.forget()
    clock.now += PAUSE
    record(client, 1)
    assert client.close(9)
    assert law_holds(client, 3)
    assert len(server.triggers) == 4
    assert router.swallowed == b""


def test_a_connection_that_is_in_use_is_kept(router, transport, clock):
    """A minute in which triggers are sent now and then does not close it."""
    for _ in range(10):
        assert transport.send(b"{}").status == 201
        clock.now += 20
    assert router.connections == 1


def test_each_connection_has_its_own_pause(router, server, clock):
    """Of two connections one is in use, and the other idle for longer than a minute: only that one is replaced."""
    transport = HttpTransport(router.endpoint, Secret(KEY), connect_timeout=20, read_timeout=20, clock=clock)
    together = threading.Barrier(2)
    answers = []

    def send_two() -> None:
        def send() -> None:
            answers.append(transport.send(b"{}").status)

        respond, server.respond = server.respond, lambda request: (together.wait(20), respond(request))[1]
        threads = [threading.Thread(target=send) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.respond = respond

    send_two()
    clock.now += 40
    answers.append(transport.send(b"{}").status)
    clock.now += 40
    send_two()
    transport.close()
    assert answers == [201] * 5
    assert router.connections == 3


@pytest.mark.parametrize("kind", ["direct", "http", "https", "socks5h"])
def test_an_idle_connection_over_tls_and_proxies_is_replaced_and_probed(kind, tmp_path, monkeypatch, clock):
    """Through every kind of proxy: after the pause a new connection, with TCP keepalive."""
    if kind == "socks5h":
        pytest.importorskip("socks")
    make_certificates(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    server = TlsServer(tmp_path)
    way = Way(tmp_path, kind, server)
    endpoint = f"https://127.0.0.1:{way.port}/"
    if kind != "direct":
        monkeypatch.setenv("https_proxy", f"{kind}://user:{PASSWORD}@127.0.0.1:{way.port}")
        endpoint = "https://focuslab.invalid/"
    transport = HttpTransport(endpoint, Secret(KEY), connect_timeout=20, read_timeout=20, clock=clock)
    try:
        for wanted in (1, 1, 2):
            clock.now += PAUSE if wanted == 2 else 10
            assert transport.send(b"{}").status == 201
            assert (way.connections, server.connections) == (wanted, wanted)
            (connection,) = connections_to(way.port)
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if hasattr(socket, "TCP_KEEPIDLE"):
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < PAUSE
    finally:
        transport.close()
        way.stop()
        server.stop()


def test_the_pause_is_measured_while_the_machine_sleeps():
    """A clock that stands still while the machine is suspended is not the only one that is read."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("this system has no such clock")
    from brockman.transport.idle import idle_clock, is_too_old

    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert any(abs(seconds - now) < 5 for seconds in idle_clock())
    assert is_too_old([1000.0, 50.0], [1000.1, 50.0 + PAUSE])
    assert is_too_old([1000.0, 50.0], [1000.0 + PAUSE, 20.0])  # the wall clock was set back
