"""`brockman check` on the way to the endpoint: TLS, certificates, proxies."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.test_check import Check, check, last_line, status_of
from tests.support.programs import free_port
from tests.support.server import RecordingServer, Reply
from tests.support.tls import PASSWORD, TlsServer, Way, make_certificates

__all__ = ["check"]
HOST = "https://focuslab.invalid/api/v1/"  # which only a proxy knows


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, and a server's certificate for a month."""
    made = tmp_path_factory.mktemp("certificates")
    make_certificates(made)
    return made


@pytest.fixture
def tls(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsServer]:
    """A server whose authority is trusted."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates / "ca.pem"))
    running = TlsServer(certificates)
    yield running
    running.stop()


def test_a_good_certificate_is_described(check: Check, tls: TlsServer) -> None:
    """The version of TLS, the issuer, and the days that are left."""
    ended = check(tls.endpoint)
    assert (ended.status, last_line(ended)) == (0, "triggers arrive")
    assert "TLSv1.3, certificate by ca, valid until 2" in ended.out
    assert "in 30 days" in ended.out


def test_an_expired_certificate_is_named(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its date; the key is not sent."""
    make_certificates(tmp_path, days=-1)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    server = TlsServer(tmp_path)
    try:
        ended = check(server.endpoint)
    finally:
        server.stop()
    assert (ended.status, status_of(ended, "tls")) == (1, ["problem"])
    assert "the certificate of 127.0.0.1 expired 24 hours ago (2" in last_line(ended)
    assert "let the server renew it, unless the clock of this machine is wrong (2" in last_line(ended)
    assert server.requests == []


def test_a_certificate_near_its_end_is_a_warning(
    check: Check, tls: TlsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last tenth of its time."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 28 * 86400)
    ended = check(tls.endpoint)
    assert (ended.status, status_of(ended, "tls")) == (0, ["warning"])
    assert "in 48 hours" in ended.out or "in 2 days" in ended.out


def test_a_certificate_that_is_not_accepted_is_explained(
    check: Check, tls: TlsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For another host, by an unknown authority, or by itself; and certificates of our own that are missing."""
    other = check(tls.endpoint.replace("127.0.0.1", "localhost"))
    assert "the certificate is for focuslab.invalid, 127.0.0.1, and not for localhost" in last_line(other)

    make_certificates(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    unknown = check(tls.endpoint)
    assert "the certificate of 127.0.0.1 is by ca, which is not trusted here" in last_line(unknown)
    assert "REQUESTS_CA_BUNDLE" in last_line(unknown)

    tls.context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "ca.key")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "server.pem"))
    assert "the certificate of 127.0.0.1 is self-signed" in last_line(check(tls.endpoint))

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    missing = check(tls.endpoint)
    assert "the certificates in /nowhere.pem cannot be read: correct REQUESTS_CA_BUNDLE" in last_line(missing)
    assert {ended.status for ended in (other, unknown, missing)} == {1}
    assert tls.requests == []


def test_http_and_https_that_are_mixed_up_are_named(check: Check, tls: TlsServer, server: RecordingServer) -> None:
    """Both ways."""
    plain = check(tls.endpoint.replace("https", "http"))
    assert f"port {tls.port} of 127.0.0.1 speaks TLS, and the endpoint is http://" in last_line(plain)
    secure = check(server.endpoint.replace("http", "https"), FL_CONNECT_TIMEOUT="1")  # the server waits for a line
    assert f"port {server.port} of 127.0.0.1 speaks plain http, and the endpoint is https://" in last_line(secure)
    assert (plain.status, secure.status) == (1, 1)


@pytest.mark.parametrize(
    ("fault", "login", "status", "words"),
    [
        ("", f"u:{PASSWORD}@", 0, "triggers arrive"),
        ("403", "", 1, "refuses the way to focuslab.invalid (403): let the proxy allow it, or except the host"),
        ("407", "", 1, "asks for a user and password (407): put them into https_proxy: http://USER:PASSWORD@127"),
        (
            "407",
            f"u:{PASSWORD}@",
            1,
            "refuses its user and password (407): check the user and password in https_pro",
        ),
    ],
)
def test_a_proxy_for_https_is_examined(
    check: Check, certificates: Path, tls: TlsServer, fault: str, login: str, status: int, words: str
) -> None:
    """Its tunnel, and the certificate at the other end; its password is not shown."""
    proxy = Way(certificates, "http", tls)
    proxy.fault = fault
    try:
        ended = check(HOST, https_proxy=f"http://{login}127.0.0.1:{proxy.port}")
    finally:
        proxy.stop()
    assert ended.status == status
    assert words in last_line(ended)
    assert f"through http://127.0.0.1:{proxy.port} (https_proxy)" in ended.out
    assert PASSWORD not in ended.out
    assert status_of(ended, "tls") == ([] if fault else ["ok"])
    assert (b"Proxy-Authorization: Basic " in proxy.seen) is bool(login)


@pytest.mark.parametrize("kind", ["socks5h", "https"])
def test_behind_another_kind_of_proxy_only_the_answer_counts(
    check: Check, certificates: Path, tls: TlsServer, kind: str
) -> None:
    """The client's own transport goes through it."""
    if kind == "socks5h":
        pytest.importorskip("socks")
    proxy = Way(certificates, kind, tls)
    try:
        ended = check(HOST, https_proxy=f"{kind}://user:{PASSWORD}@127.0.0.1:{proxy.port}")
    finally:
        proxy.stop()
    assert (ended.status, last_line(ended)) == (0, "triggers arrive")
    assert status_of(ended, "tls") == ["skipped"]


def test_a_proxy_for_http_is_examined(
    check: Check, server: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passes requests on, or asks for a password; NO_PROXY excepts a host."""
    monkeypatch.setenv("FL_ALLOW_INSECURE", "1")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    endpoint = "http://focuslab.invalid/"
    assert check(endpoint).status == 0
    server.respond = lambda request: Reply(407)
    refused = check(endpoint)
    assert (refused.status, status_of(refused, "proxy")) == (1, ["ok", "problem"])
    assert "asks for a user and password (407)" in last_line(refused)
    excepted = check(endpoint, no_proxy=".invalid")
    assert "none: http_proxy is set, but no_proxy excepts focuslab.invalid" in excepted.out
    assert status_of(excepted, "dns") == ["problem"]
    other = check(HOST, no_proxy="")
    assert "none: http_proxy is for http:// only, and the endpoint is https://" in other.out


def test_a_proxy_that_is_none_is_named(check: Check, server: RecordingServer) -> None:
    """Or that does not listen."""
    server.respond = lambda request: Reply(
        act=lambda server, connection: connection.sendall(b"220 mail.example\r\n")
    )
    ended = check(HOST, https_proxy=f"127.0.0.1:{server.port}")
    assert f"127.0.0.1:{server.port} does not answer as a proxy does: check https_proxy" in last_line(ended)
    closed = check(HOST, https_proxy=f"http://127.0.0.1:{free_port()}")
    assert "start the proxy, or correct the port in https_proxy" in last_line(closed)


@pytest.mark.parametrize(
    ("proxy", "advice"),
    [
        (f"http://user:{PASSWORD}#x@127.0.0.1:9", "write http://USER:PASSWORD@HOST:PORT, and in the password %2F"),
        (f"http://{PASSWORD}:x/y@127.0.0.1:9", "write http://USER:PASSWORD@HOST:PORT"),
        ("http://127.0.0.1:99999", "write http://USER:PASSWORD@HOST:PORT"),
        ("http://[::1:3128", "write http://USER:PASSWORD@HOST:PORT"),
        (f"http://u:{PASSWORD}@", "write http://USER:PASSWORD@HOST:PORT"),
        (f'"http://u:{PASSWORD}@127.0.0.1:9"', "take the quotation marks and blanks around it away"),
        (f"ftp://u:{PASSWORD}@127.0.0.1:9", "it should begin with http://, https://, socks5://"),
    ],
)
def test_a_proxy_that_is_no_url_is_named(check: Check, proxy: str, advice: str) -> None:
    """The last line says how to write it, and shows no part of it, which may be the password."""
    ended = check(HOST, https_proxy=proxy)
    assert ended.status == 1
    assert last_line(ended).startswith(f"nothing arrives because https_proxy is not the URL of a proxy: {advice}")
    assert PASSWORD not in ended.out + ended.err


def test_a_slow_proxy_takes_no_longer_than_the_timeout(check: Check, server: RecordingServer) -> None:
    """Also one that sends a byte at a time; the proxy is named."""

    def drip(server: RecordingServer, connection: socket.socket) -> None:
        with suppress(OSError):
            while not server.stopped.wait(0.02):
                connection.sendall(b"x")

    server.respond = lambda request: Reply(act=drip)
    begun = time.monotonic()
    ended = check(HOST, "--timeout", "0.3", https_proxy=f"http://127.0.0.1:{server.port}")
    assert time.monotonic() - begun < 5
    assert f"the proxy 127.0.0.1:{server.port} accepts the connection, and opens no way to" in last_line(ended)
