"""The step `tls`: the tunnel through a proxy, the handshake, and the certificate. The key is never sent here."""

from __future__ import annotations

import base64
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

from brockman.diagnosis.certificate import Certificate, parse_certificate
from brockman.diagnosis.finding import Finding, good, problem, skipped, warning
from brockman.diagnosis.route import Route
from brockman.options.table import is_loopback
from brockman.process.clock import monotonic, wall

_EXPIRED, _TOO_EARLY, _SELF_SIGNED = 10, 9, 18  # X509_V_ERR_... of OpenSSL
_UNKNOWN_AUTHORITY = (2, 19, 20, 21)
_WRONG_HOST = (62, 64)  # a name, an address
_LAST_SHARE = 10  # a certificate is near its end in the last tenth of its time,
_NEAR_END = timedelta(days=30)  # and at most this long
_SHOWN_NAMES = 5
_SECOND_LOOK = 2.0  # seconds
_LOOK = "look at the server, and at a firewall or proxy in between"
_MAX_HEAD = 64 * 1024
_PLAIN_REQUEST = b"HEAD / HTTP/1.0\r\n\r\n"

Left = Callable[[], float]  # the seconds that are left


def examine_tls(route: Route, left: Left, limit: float) -> Iterator[Finding]:
    """Yield what the handshake with the endpoint shows; it may take `limit` seconds."""
    host = urlsplit(route.endpoint).hostname or ""
    if route.scheme != "https":
        if is_loopback(host) or route.proxy:
            yield good("tls", "none: the endpoint is http://")
        else:
            seen = f"none: the key travels in clear to {host}"
            yield warning("tls", seen, "use https:// in endpoint (FL_ENDPOINT)")
        return
    if route.proxy and route.proxy_scheme != "http":
        yield skipped("tls", f"not examined behind a proxy of kind {route.proxy_scheme}://; the next step uses it")
        return
    try:
        context = _trusting(route.authorities)
    except (OSError, ssl.SSLError):
        variable = next((name for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(name)), "")
        seen = f"the certificates in {route.authorities} cannot be read"
        yield problem("tls", seen, f"correct {variable}" if variable else "install requests and certifi again")
        return
    try:
        with _open(route, left) as connection:
            connection.settimeout(min(limit, left()))
            try:
                with context.wrap_socket(connection, server_hostname=host) as wrapped:
                    yield _describe(wrapped, host)
            except ssl.SSLCertVerificationError as error:
                yield _explain_certificate(error, route, host, left)
            except (OSError, ValueError) as error:
                yield _explain_handshake(error, route, left)
    except ProxyRefuses as error:
        yield error.finding
    except OSError as error:
        yield problem(
            "tls", f"the connection breaks ({_words(error)})", "look at the server, and what is before it"
        )


def _trusting(path: str) -> ssl.SSLContext:
    is_folder = os.path.isdir(path)
    return ssl.create_default_context(cafile=None if is_folder else path, capath=path if is_folder else None)


class ProxyRefuses(Exception):
    """Raised if the proxy makes no tunnel."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.seen)
        self.finding = finding


def _open(route: Route, left: Left) -> socket.socket:
    """Return a connection to the endpoint, through the proxy's tunnel if there is one.

    Raises:
        ProxyRefuses: If the proxy does not open it.
        OSError: If the connection fails.
    """
    connection = route.open(left())
    if route.proxy is None:
        return connection
    try:
        host, port = route.target
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {name} HTTP/1.1", f"Host: {name}"]
        if route.proxy_login:
            login = base64.b64encode(":".join(route.proxy_login).encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {login}")
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        head = b""
        until = monotonic() + left()  # over all parts: a proxy may send a byte at a time
        while b"\r\n\r\n" not in head and len(head) < _MAX_HEAD:
            connection.settimeout(max(0.01, until - monotonic()))
            part = connection.recv(4096)
            if not part:
                break
            head += part
            if monotonic() > until:
                raise TimeoutError
        status = head.split(b" ")[1][:3].decode("ascii", "replace") if head.startswith(b"HTTP/") else ""
        if not (status.isdigit() and status.startswith("2")):
            raise ProxyRefuses(explain_proxy(route, int(status) if status.isdigit() else None))
    except TimeoutError:
        connection.close()
        raise ProxyRefuses(_name_slow_proxy(route)) from None
    except BaseException:
        connection.close()
        raise
    return connection


def _name_slow_proxy(route: Route) -> Finding:
    host, port = route.first_hop
    seen = f"the proxy {host}:{port} accepts the connection, and opens no way to {route.target[0]} in time"
    return problem("proxy", seen, f"look at the proxy, and check {route.setting}")


def explain_proxy(route: Route, status: int | None) -> Finding:
    """Return a finding about a proxy that refuses, or answers as none does (a status of None)."""
    host, port = route.first_hop
    if status is None:
        return problem("proxy", f"{host}:{port} does not answer as a proxy does", f"check {route.setting}")
    if status == 407:
        seen = f"the proxy {host}:{port} {'refuses its' if route.proxy_login else 'asks for a'} user and password"
        advice = f"check the user and password in {route.setting}"
        if not route.proxy_login:
            advice = f"put them into {route.setting}: http://USER:PASSWORD@{host}:{port}"
        return problem("proxy", f"{seen} (407)", advice, status=status)
    seen = f"the proxy {host}:{port} refuses the way to {route.target[0]} ({status})"
    return problem("proxy", seen, "let the proxy allow it, or except the host in NO_PROXY", status=status)


def _describe(wrapped: ssl.SSLSocket, host: str) -> Finding:
    shown = parse_certificate(wrapped.getpeercert(binary_form=True) or b"")
    left, now = shown.ends - _now(), _now()
    details: dict[str, Any] = {"version": wrapped.version(), **_details(shown)}
    seen = f"{wrapped.version()}, certificate by {shown.issuer or 'an unnamed authority'}"
    until = f"until {shown.ends:%Y-%m-%d}, in {_duration(left)}"
    if now > shown.ends - min(_NEAR_END, (shown.ends - shown.begins) / _LAST_SHARE):
        return warning("tls", f"{seen}, which is valid only {until}", f"let {host} renew it", **details)
    return good("tls", f"{seen}, valid {until}", **details)


def _details(shown: Certificate) -> dict[str, Any]:
    days = (shown.ends - _now()).total_seconds() / 86400
    dates = {"not_before": shown.begins.isoformat(), "not_after": shown.ends.isoformat()}
    return {"issuer": shown.issuer, "names": list(shown.names), **dates, "days_left": round(days, 2)}


def _now() -> datetime:
    return datetime.fromtimestamp(wall(), timezone.utc)


def _duration(span: timedelta) -> str:
    hours = abs(span.total_seconds()) / 3600
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.0f} hours"


def _explain_certificate(error: ssl.SSLCertVerificationError, route: Route, host: str, left: Left) -> Finding:
    """Return why the certificate is refused; a second handshake, which trusts everything, shows it."""
    shown = None
    with suppress(OSError, ValueError, ProxyRefuses):
        shown = parse_certificate(_peek(route, left) or b"")
    code = error.verify_code
    seen = f"the certificate of {host} is not accepted ({error.verify_message})"
    advice, clock = "let the server replace it", f"{_now():%Y-%m-%d %H:%M} UTC"
    if shown is not None and code == _EXPIRED:
        seen = f"the certificate of {host} expired {_duration(_now() - shown.ends)} ago ({shown.ends:%Y-%m-%d})"
        advice = f"let the server renew it, unless the clock of this machine is wrong ({clock})"
    elif shown is not None and code == _TOO_EARLY:
        seen = f"the certificate of {host} is valid from {shown.begins:%Y-%m-%d %H:%M} UTC on"
        advice = f"correct the clock of this machine ({clock})"
    elif shown is not None and code in _WRONG_HOST:
        names = ", ".join(shown.names[:_SHOWN_NAMES]) or "no host"
        seen, advice = f"the certificate is for {names}, and not for {host}", "check endpoint (FL_ENDPOINT)"
    elif code == _SELF_SIGNED:
        seen = f"the certificate of {host} is self-signed"
        advice = "name its file in REQUESTS_CA_BUNDLE, or let the server use one of a public authority"
    elif code in _UNKNOWN_AUTHORITY:
        issuer = (shown and shown.issuer) or "an unnamed authority"
        seen = f"the certificate of {host} is by {issuer}, which is not trusted here"
        advice = (
            f"name the certificate of that authority in REQUESTS_CA_BUNDLE (now {route.authorities}), or let the"
            " server send the certificates in between"
        )
    unread = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), None)
    is_given = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if unread and not is_given and code in (_SELF_SIGNED, *_UNKNOWN_AUTHORITY):
        advice += f"; {unread} is not read"
    return problem("tls", seen, advice, verify_code=code, **(_details(shown) if shown else {}))


def _peek(route: Route, left: Left) -> bytes | None:
    """Return the certificate of whoever answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with _open(route, left) as connection:
        connection.settimeout(left())
        with context.wrap_socket(connection, server_hostname=route.target[0]) as wrapped:
            return wrapped.getpeercert(binary_form=True)


def speaks_tls(route: Route, left: Left) -> bool:
    """Return whether TLS is spoken where plain http was tried."""
    try:
        return _peek(route, _briefly(left)) is not None
    except (OSError, ValueError, ProxyRefuses):
        return False


def _briefly(left: Left) -> Left:
    """Return the seconds that a second look may take: a server need not answer what it does not understand."""
    until = monotonic() + _SECOND_LOOK
    return lambda: max(0.01, min(left(), until - monotonic()))


def _speaks_plain_http(route: Route, left: Left) -> bool:
    left = _briefly(left)
    try:
        with _open(route, left) as connection:
            connection.settimeout(left())
            connection.sendall(_PLAIN_REQUEST)
            return connection.recv(16).startswith(b"HTTP/")
    except (OSError, ProxyRefuses):
        return False


def _explain_handshake(error: Exception, route: Route, left: Left) -> Finding:
    host, port = route.target
    if _speaks_plain_http(route, left):
        seen = f"port {port} of {host} speaks plain http, and the endpoint is https://"
        return problem("tls", seen, "use the port for https, or http:// in endpoint (FL_ENDPOINT)")
    if isinstance(error, TimeoutError):
        seen = f"{host} accepts the connection on port {port}, and does not answer the handshake"
        return problem("tls", seen, _LOOK)
    seen = f"the handshake with {host} on port {port} fails ({_words(error)})"
    return problem("tls", seen, _LOOK)


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None)  # of ssl: a name such as UNEXPECTED_EOF_WHILE_READING
    return str(reason or getattr(error, "strerror", None) or type(error).__name__).replace("_", " ").lower()
