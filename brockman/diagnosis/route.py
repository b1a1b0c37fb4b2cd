"""The steps `proxy`, `dns` and `tcp`: the way to the endpoint, or to the proxy in front of it."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from brockman.diagnosis.finding import Finding, good, problem, show_milliseconds, warning
from brockman.options.fields import printable
from brockman.options.table import is_loopback
from brockman.process.clock import monotonic

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080, "socks4": 1080, "socks4a": 1080}
_SHOWN_ADDRESSES = 8

Address = tuple[Any, ...]  # family, and what `connect` takes


@dataclass
class Route:
    """The way to the endpoint.

    Attributes:
        endpoint: The endpoint's URL.
        proxy: That of the proxy, with its password; None if there is none.
        authorities: The path of the certificates that are trusted.
        reachable: The addresses that can be connected to, filled by `examine_tcp`.
    """

    endpoint: str
    proxy: str | None
    authorities: str
    addresses: list[Address] = field(default_factory=list)
    reachable: list[Address] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.proxy and "://" not in self.proxy and self.proxy[:1] not in "\"'":
            self.proxy = f"http://{self.proxy}"

    @property
    def scheme(self) -> str:
        return urlsplit(self.endpoint).scheme

    @property
    def target(self) -> tuple[str, int]:
        """Host and port of the endpoint."""
        return _host_and_port(self.endpoint)

    @property
    def first_hop(self) -> tuple[str, int]:
        """Host and port to connect to."""
        return _host_and_port(self.proxy or self.endpoint)

    @property
    def proxy_scheme(self) -> str:
        return urlsplit(self.proxy or "").scheme.lower()

    @property
    def proxy_login(self) -> tuple[str, str] | None:
        """User and password for the proxy."""
        parts = urlsplit(self.proxy or "")
        return None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))

    @property
    def setting(self) -> str:
        """The name of the setting that says where to connect."""
        return _proxy_variable(self.scheme) if self.proxy else "endpoint (FL_ENDPOINT)"

    def open(self, seconds: float) -> socket.socket:
        """Return a connection to the first hop."""
        family, address = self.reachable[0]
        made = socket.socket(family, socket.SOCK_STREAM)
        made.settimeout(seconds)
        try:
            made.connect(address)
        except BaseException:
            made.close()
            raise
        return made


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme.lower(), 80)


def _proxy_variable(scheme: str) -> str:
    """Return the name of the variable that names the proxy; "the system's proxy" if none does."""
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
    return next((name for name in names if os.environ.get(name)), "the system's proxy")


def examine_proxy(route: Route) -> Iterator[Finding]:
    """Yield which proxy is used, and why one that is set is not."""
    variable = _proxy_variable(route.scheme)
    fault = None if route.proxy is None else _find_fault(route.proxy)
    if fault is not None:
        yield problem("proxy", f"{variable} is not the URL of a proxy", fault)
    elif route.proxy is not None:
        host, port = route.first_hop
        login = ", with a user and password" if route.proxy_login else ""
        shown = f"{route.proxy_scheme}://{_bracketed(host)}:{port}"
        yield good("proxy", f"through {shown} ({variable}){login}", proxy=shown, source=variable)
    elif variable in os.environ:
        host = route.target[0]
        no_proxy = next((name for name in ("no_proxy", "NO_PROXY") if os.environ.get(name)), "the system")
        why = f"{host} is this machine" if is_loopback(host) else f"{no_proxy} excepts {host}"
        yield good("proxy", f"none: {variable} is set, but {why}", proxy=None)
    else:
        other = {"http": "https", "https": "http"}[route.scheme]
        unused = next(
            (name for name in (f"{other}_proxy", f"{other}_proxy".upper()) if os.environ.get(name)), None
        )
        why = f": {unused} is for {other}:// only, and the endpoint is {route.scheme}://" if unused else ""
        yield good("proxy", f"none{why}", proxy=None)


def _find_fault(proxy: str) -> str | None:
    """Return what a proxy's URL should be, without a part of it, which may be a password; None if it is right."""
    if proxy.strip("\"' ") != proxy:
        return "take the quotation marks and blanks around it away"
    try:
        parts = urlsplit(proxy)
        is_right = bool(parts.hostname) and " " not in (parts.hostname or "") and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right:
        return "write http://USER:PASSWORD@HOST:PORT, and in the password %2F for /, %23 for #, %3F for ?"
    if parts.scheme.lower() not in _PORTS:
        return f"it should begin with {', '.join(f'{scheme}://' for scheme in _PORTS)}"
    return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def examine_dns(route: Route, seconds: float) -> Iterator[Finding]:
    """Look up the first hop; fill `route.addresses`. The resolver knows no timeout, so a thread waits for it."""
    host, port = route.first_hop
    found: list[Any] = []
    error: list[Exception] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
        except (OSError, UnicodeError) as failure:
            error.append(failure)
        done.set()

    begun = monotonic()
    threading.Thread(target=look_up, name="brockman-dns", daemon=True).start()
    if not done.wait(seconds):
        seen = f"no DNS server answers about {host} within {seconds:.1f} s"
        yield problem("dns", seen, f"check the network, its DNS servers, and {route.setting}")
        return
    if error:
        yield _explain_dns(error[0], host, route.setting)
        return
    route.addresses = list(dict.fromkeys((entry[0], entry[4]) for entry in found))
    texts = [address[0] for _, address in route.addresses]
    if texts == [host]:
        yield good("dns", f"{host} is an address", addresses=texts)
        return
    shown = ", ".join(texts[:_SHOWN_ADDRESSES]) + (", ..." if len(texts) > _SHOWN_ADDRESSES else "")
    yield good("dns", f"{host} is {shown}, in {show_milliseconds(monotonic() - begun)}", addresses=texts)


def _explain_dns(error: Exception, host: str, setting: str) -> Finding:
    code = error.errno if isinstance(error, socket.gaierror) else None
    if code == socket.EAI_AGAIN:
        seen, advice = f"no DNS server answers about {host}", f"check the network, its DNS servers, and {setting}"
    else:
        seen, advice = f"there is no host {host}", f"check {setting}, and the DNS of this network"
    words = printable(getattr(error, "strerror", None) or type(error).__name__)
    return problem("dns", f"{seen} ({words})", advice, host=host)


def examine_tcp(route: Route, seconds: float) -> Iterator[Finding]:
    """Connect to every address at once; fill `route.reachable`."""
    results = _connect_all(route.addresses, seconds)
    port = route.first_hop[1]
    route.reachable = [target for target, (error, _) in results.items() if error is None]
    rows = [
        {"address": target[1][0], "error": error, "milliseconds": round(1000 * took, 2)}
        for target, (error, took) in results.items()
    ]
    failed = [f"{row['address']} {row['error']}" for row in rows if row["error"]]
    if not route.reachable:
        reasons = {error for error, _ in results.values()}
        advice = _advise(reasons, route, port)
        seen = f"port {port} of {route.first_hop[0]} cannot be connected to ({', '.join(failed)})"
        yield problem("tcp", seen, advice, connections=rows)
        return
    good_ones = [(target[1][0], took) for target, (error, took) in results.items() if error is None]
    seen = f"port {port} of " + ", ".join(f"{address} in {show_milliseconds(took)}" for address, took in good_ones)
    if failed:
        advice = "each new connection may try them first; correct the host's addresses, or this network"
        yield warning("tcp", f"{seen}, but not {', '.join(failed)}", advice, connections=rows)
    else:
        yield good("tcp", seen, connections=rows)


_REFUSED, _SWALLOWED = "refuses", "does not answer"


def _advise(reasons: set[str | None], route: Route, port: int) -> str:
    if reasons == {_REFUSED}:
        if not route.proxy and is_loopback(route.first_hop[0]):
            return (
                f"start the server, or correct {route.setting}; in a container that host is the container itself"
            )
        return f"start the {'proxy' if route.proxy else 'server'}, or correct the port in {route.setting}"
    if any(reason and reason.startswith(_SWALLOWED) for reason in reasons):
        return f"a firewall drops the packets, the machine is off, or {route.setting} is wrong"
    return f"check the network, and {route.setting}"


def _connect_all(targets: Sequence[Address], seconds: float) -> dict[Address, tuple[str | None, float]]:
    """Return for each address why it cannot be connected to, or None, and the seconds that it took."""
    begun, results = monotonic(), dict[Address, tuple[str | None, float]]()
    with selectors.DefaultSelector() as selector:
        sockets = []
        try:
            for target in targets:
                opened = _begin(target)
                if isinstance(opened, str):
                    results[target] = (opened, 0.0)
                    continue
                sockets.append(opened)
                selector.register(opened, selectors.EVENT_WRITE, target)
            while selector.get_map() and (left := begun + seconds - monotonic()) > 0:
                for key, _ in selector.select(left):
                    code = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # type: ignore[union-attr]
                    results[key.data] = (_name(code) if code else None, monotonic() - begun)
                    selector.unregister(key.fileobj)
            for key in selector.get_map().values():
                results[key.data] = (f"{_SWALLOWED} within {seconds:.1f} s", seconds)
        finally:
            for opened in sockets:
                opened.close()
    return {target: results[target] for target in targets}


def _begin(target: Address) -> socket.socket | str:
    """Return a socket that is being connected, or why it cannot be."""
    family, address = target
    try:
        opened = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:  # a system without IPv6
        return _name(error.errno or 0)
    opened.setblocking(False)
    code = opened.connect_ex(address)
    if code in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
        return opened
    opened.close()
    return _name(code)


def _name(code: int) -> str:
    return _REFUSED if code == errno.ECONNREFUSED else f"fails ({os.strerror(code)})"
