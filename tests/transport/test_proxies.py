"""Proxies and certificates that the environment names, with and without a given session."""

from __future__ import annotations

import contextlib
import socket

import pytest
import requests

from brockman.exceptions import ConnectionFailed
from brockman.options.secret import Secret
from brockman.transport.http import HttpTransport
from tests.support.client import KEY
from tests.support.server import RecordingServer
from tests.support.tls import TlsServer, make_certificates


@pytest.fixture
def proxy(monkeypatch):
    """A proxy, named in the environment, that answers by itself."""
    made = RecordingServer()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{made.port}")
    yield made
    made.stop()


@pytest.fixture
def every_host_is_here(monkeypatch):
    """Names and addresses of other machines lead to this one."""
    real = socket.getaddrinfo

    def resolve(host, *rest, **more):
        return real("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@contextlib.contextmanager
def made(endpoint, session):
    transport = HttpTransport(endpoint, Secret(KEY), connect_timeout=20, read_timeout=20, session=session)
    try:
        yield transport
    finally:
        transport.close()


@pytest.fixture(params=["own", "given"])
def session(request):
    """None, or a session of the application."""
    with requests.Session() as given:
        yield given if request.param == "given" else None


# NO_PROXY, and hosts that it excepts, and that it does not.
RULES = [
    (
        "focuslab.corp",
        ["focuslab.corp", "api.focuslab.corp", "FOCUSLAB.CORP", "focuslab.corp."],
        ["focuslab.com"],
    ),
    (".corp", ["focuslab.corp", "a.b.corp"], ["focuslab.corporation", "xcorp"]),
    ("*.corp", ["focuslab.corp", "a.b.corp"], ["corp", "xcorp", "focuslab.test"]),
    ("*.Corp, other.test", ["focuslab.corp", "other.test"], ["focuslab.test"]),
    ("other.test *.corp", ["focuslab.corp"], ["focuslab.test"]),
    ("*.corp:{port}", ["focuslab.corp"], []),
    ("*.corp., other.test.:{port}", ["focuslab.corp", "other.test"], ["focuslab.test"]),
    ("focuslab.corp:1, *.corp:2", [], ["focuslab.corp"]),
    ("focuslab.corp:{port}", ["focuslab.corp"], ["focuslab.test"]),
    ("*", ["focuslab.corp", "10.1.2.3"], []),
    ("other.test,*", ["focuslab.corp"], []),
    ("10.0.0.0/8", ["10.1.2.3"], ["11.1.2.3", "focuslab.corp"]),
    ("10.1.2.3", ["10.1.2.3"], ["10.1.2.4"]),
    ("10.1.2.3:{port}", ["10.1.2.3"], ["10.1.2.4"]),
    ("fd00::/8", ["[fd12::1]"], ["[fe80::1]", "10.1.2.3"]),
    ("[fd12::1]", ["[fd12::1]"], ["[fd12::2]"]),
    ("10.0.0.0/99, *corp, :, /, ., [", [], ["focuslab.corp", "10.1.2.3"]),
]


@pytest.mark.usefixtures("every_host_is_here")
@pytest.mark.parametrize(("rule", "excepted", "others"), RULES, ids=[rule[0] for rule in RULES])
def test_no_proxy_names_hosts_domains_and_networks(server, proxy, session, monkeypatch, rule, excepted, others):
    """As with curl and Go: what it names is reached directly, and all else through the proxy."""
    monkeypatch.setenv("NO_PROXY", rule.format(port=server.port))
    for host in [*excepted, *others]:
        before = (len(server.requests), len(proxy.requests))
        with made(f"http://{host}:{server.port}/", session) as transport:
            assert transport.send(b"{}").status == 201
        direct = host in excepted
        assert (len(server.requests), len(proxy.requests)) == (before[0] + direct, before[1] + (not direct)), host


def test_a_given_session_trusts_the_environment_or_not(proxy):
    """With `trust_env`, as requests sets it, the environment's proxy is used; without, not."""
    with requests.Session() as session, made("http://focuslab.invalid/", session) as transport:
        assert transport.send(b"{}").status == 201
        session.trust_env = False
        with pytest.raises(ConnectionFailed):
            transport.send(b"{}")
    assert len(proxy.requests) == 1


@pytest.mark.usefixtures("every_host_is_here")
def test_the_proxies_of_a_given_session_are_used(server, proxy, monkeypatch):
    """Its own, where NO_PROXY excepts the host from those of the environment."""
    monkeypatch.setenv("no_proxy", "*.test")
    with requests.Session() as session, made("http://focuslab.test/", session) as transport:
        session.proxies = {"http": f"http://127.0.0.1:{server.port}"}
        transport.send(b"{}")
    assert (len(server.requests), len(proxy.requests)) == (1, 0)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_environments_certificates_are_trusted(tmp_path, session, monkeypatch, variable):
    """Those that it names, by a given session that trusts the environment, too."""
    make_certificates(tmp_path)
    server = TlsServer(tmp_path)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    try:
        with made(f"https://127.0.0.1:{server.port}/", session) as transport, pytest.raises(ConnectionFailed):
            transport.send(b"{}")
        monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
        with made(f"https://127.0.0.1:{server.port}/", session) as transport:
            assert transport.send(b"{}").status == 201
    finally:
        server.stop()
