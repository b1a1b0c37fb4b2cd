"""Connections on which one deadline covers a whole attempt: connect, send and read.

`requests` bounds each socket operation, so a server that sends a byte now and then holds a request forever. Here
every operation gets only the time that is left of the attempt. No timeout reaches the resolver: `getaddrinfo`
returns when it returns.
"""

from __future__ import annotations

import codecs
import http.client
import importlib
import io
import os
import socket
import ssl
import sys
import weakref
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import urllib3.exceptions
import urllib3.response
import urllib3.util.ssl_

from brockman.process import fork
from brockman.process.clock import monotonic
from brockman.process.fork import Origin
from brockman.transport.head import read_head, read_line
from brockman.transport.idle import IdleClock

_TOLERANCE = 0.02  # seconds by which an operation may end too early or too late

# Seconds until the first probe (under two names) and between two, and how many may stay without an answer.
_PROBES = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name), n) for name, n in _PROBES.items() if hasattr(socket, name)),
]

codecs.lookup("idna")  # the resolver's; imported now, not in a forked child or late at exit


class InheritedAttempt(BaseException):
    """Raised in a forked child by a copy of a greenlet that was sending: the parent still sends."""


class Attempt:
    """One attempt to send: a `with` block, whose thread, or greenlet, makes it.

    Attributes:
        reused: Whether it uses a connection that was open before.
        sending: Whether the request was begun to be sent.
        received: Whether any byte of an answer came back.
        is_over: Whether the block is left.
    """

    def __init__(self, seconds: float, read_timeout: float, clock: IdleClock) -> None:
        """Start the clock.

        Args:
            seconds: For the whole attempt.
            read_timeout: Seconds for which the server may stay silent.
            clock: Measures how long a connection has been idle.
        """
        self.clock = clock
        self._origin = Origin()
        self._until = monotonic() + seconds
        self._read_timeout = read_timeout
        self.reused = True  # until a connection is opened
        self.sending = self.received = False
        self.is_over = False
        self._outer: Attempt | None = None  # of a callback within a send

    def __enter__(self) -> Attempt:
        self._outer = _current.get(None)
        _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over = True
        if self._outer is not None:
            _current.set(self._outer)

    @property
    def is_in_time(self) -> bool:
        """True until the deadline, and for a second after it."""
        return monotonic() < self._until + 1.0

    def remaining(self) -> float:
        """Return the seconds left.

        Raises:
            TimeoutError: When there are none.
            InheritedAttempt: In a forked child.
        """
        if self._origin.is_inherited:
            raise InheritedAttempt
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError("the attempt took too long")
        return left

    def read_time(self) -> float:
        """Return the seconds that the next read may take; raises as `remaining` does."""
        return min(self.remaining(), self._read_timeout)


# Not a `threading.local`: imported before gevent's patching, it would give all greenlets the same attempt.
_current: ContextVar[Attempt] = ContextVar("attempt")


def current_attempt() -> Attempt:
    """Return the attempt that this thread, or greenlet, is making."""
    return _current.get()


def is_sending() -> bool:
    """Return whether this thread, or greenlet, is making an attempt. Takes no lock."""
    attempt = _current.get(None)
    # Where a time limit struck before the end was noted, the time of the attempt is over at last.
    return attempt is not None and not attempt.is_over and attempt.is_in_time


def _set_timeout(sock: socket.socket, seconds: float) -> None:
    """Set the timeout of the next socket operation, unless it is within the tolerance already.

    Each call releases the GIL, and a thread that computes keeps it for 5 ms.
    """
    now = sock.gettimeout() if hasattr(sock, "gettimeout") else None  # pyOpenSSL's socket has no gettimeout
    if now is None or abs(now - seconds) > _TOLERANCE:
        sock.settimeout(seconds)


def _keep_alive(sock: Any) -> Any:
    """Return a socket that probes an idle connection; otherwise a peer that is gone is noticed only by writing."""
    for level, option, value in _KEEPALIVE:
        with suppress(OSError, AttributeError):  # a system without it; a socket that is not Python's
            sock.setsockopt(level, option, value)
    return sock


def _bound_handshake(sock: Any, limit: float) -> Any:
    """Return a socket whose next operation, a handshake, may take the remaining time; close it if there is none.

    Otherwise the handshake would get the full timeout again.
    """
    try:
        _set_timeout(sock, min(limit, _current.get().remaining()))
    except BaseException:
        sock.close()
        raise
    return sock


_open_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def _close_inherited_sockets() -> None:
    """Close the parent's connections in a forked child, silently: otherwise the server would not see them end.

    Only in the fork hook: later the numbers of the descriptors may belong to other files.
    """
    for sock in list(_open_sockets):
        with suppress(OSError):
            os.close(sock.detach())
    _open_sockets.clear()


fork.after_fork_hooks.append(_close_inherited_sockets)


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket, within the remaining time at each read."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", 0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        attempt = _current.get()
        _set_timeout(self._sock, attempt.read_time())
        count = self._raw.readinto(buffer)
        attempt.received = attempt.received or bool(count)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    fp: Any
    _check_close: Any

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        reader = io.BufferedReader(_DeadlineReader(sock))
        only_makefile: Any = SimpleNamespace(makefile=lambda mode: reader)  # all that a response uses of a socket
        super().__init__(only_makefile, *args, **kwargs)

    def begin(self) -> None:
        """Read the head. http.client would raise for one that is long or strange."""
        version, self.status, reason = self._read_status()
        if not version.startswith("HTTP/1."):
            raise http.client.UnknownProtocol(version)
        self.code, self.reason, self.version = self.status, reason.strip(), 10 if version == "HTTP/1.0" else 11
        self.headers, is_whole = read_head(self.fp)
        self.msg = self.headers
        self.chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        self.chunk_left: int | None = None
        length = self.headers.get("Content-Length")
        self.length = None if length is None or self.chunked else int(length)
        if self.status in (204, 304) or self.status < 200:
            self.length = 0
        self.will_close = self._check_close() or (self.length is None and not self.chunked)
        if not is_whole:
            self.fp.close()
            self.fp = io.BytesIO()

    def _read_status(self) -> tuple[str, int, str]:
        """Skip interim answers such as 103 (RFC 9110, 15.2)."""
        while True:
            reader = self.fp
            self.fp = io.BytesIO(read_line(reader))
            try:
                version, status, reason = super()._read_status()  # type: ignore[misc]
            finally:
                self.fp = reader
            if status == 101 or not 100 <= status < 200:
                return version, status, reason
            read_head(reader)


def _resolve(host: str, port: int) -> list[Any]:
    """Return a host's addresses, also where gevent can start no thread for it: at exit, since Python 3.12."""
    try:
        return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    except RuntimeError:
        gevent: Any = sys.modules.get("gevent")
        if gevent is None:
            raise
        gevent.get_hub().resolver = importlib.import_module("gevent.resolver.blocking").Resolver()
        return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)


class _ProxyTLSSocket:
    """Mixed into the TLS socket of a proxy, inside which urllib3 carries the server's TLS.

    urllib3 reads from it several times for one record: without this, each read would get the full timeout.
    """

    def recv(self, *args: Any, **kwargs: Any) -> Any:
        _set_timeout(self, _current.get().read_time())  # type: ignore[arg-type]
        return super().recv(*args, **kwargs)  # type: ignore[misc]


class DeadlineConnection:
    """Mixed into urllib3's connections.

    Attributes:
        idle_since: When it was put back into its pool.
        socket_class: The class of sockets when it was opened.
    """

    idle_since: Sequence[float] = ()
    socket_class: type = socket.socket
    response_class: Any = _DeadlineResponse
    sock: socket.socket | None
    timeout: Any
    close: Any
    port: int
    _dns_host: str

    def connect(self) -> None:
        # If gevent has patched `ssl` since urllib3 imported its SSLContext, that class recurses infinitely.
        if getattr(self, "ssl_context", "") is None and urllib3.util.ssl_.SSLContext is not ssl.SSLContext:
            self.ssl_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _current.get().reused = False
        self.socket_class = socket.socket
        super().connect()  # type: ignore[misc]
        if self.sock is not None:
            _open_sockets.add(getattr(self.sock, "socket", self.sock))  # TLS in TLS wraps a socket

    def _new_conn(self) -> Any:
        """Try each address of the host within the remaining time; urllib3 gives the full timeout to each."""
        host, timeout = self._dns_host, self.timeout
        try:
            addresses = [entry[4][0] for entry in _resolve(host, self.port)]
        except OSError:
            addresses = [host]  # urllib3 resolves it again, and raises the right error
        failure: Exception | None = None
        for address in addresses:
            self._dns_host = str(address)
            self.timeout = min(timeout, _current.get().remaining())
            try:
                return _bound_handshake(_keep_alive(super()._new_conn()), timeout)  # type: ignore[misc]
            except urllib3.exceptions.HTTPError as error:
                failure = error
            finally:
                self._dns_host, self.timeout = host, timeout
        assert failure is not None
        raise failure

    def _connect_tls_proxy(self, *args: Any) -> Any:
        sock: Any = super()._connect_tls_proxy(*args)  # type: ignore[misc]
        if isinstance(sock, ssl.SSLSocket):  # not pyOpenSSL's
            sock.__class__ = type("_ProxyTLSSocket", (_ProxyTLSSocket, type(sock)), {})
        return sock

    def _tunnel(self) -> None:
        super()._tunnel()  # type: ignore[misc]
        _bound_handshake(self.sock, self.timeout)

    def getresponse(self) -> Any:
        # urllib3 imports this module at each call; in the last finalizers sys.modules is empty.
        if sys.modules.get("urllib3.response") is None:
            sys.modules["urllib3.response"] = urllib3.response
        return super().getresponse()  # type: ignore[misc]

    def send(self, data: Any) -> None:
        if self.sock is not None:
            attempt = _current.get()
            _set_timeout(self.sock, attempt.remaining())
            attempt.sending = True
        super().send(data)  # type: ignore[misc]


class SocksConnection(DeadlineConnection):
    """Mixed into urllib3's connections through a SOCKS proxy, which may resolve the host itself."""

    def _new_conn(self) -> Any:
        timeout = self.timeout
        self.timeout = min(timeout, _current.get().remaining())
        try:
            sock = super(DeadlineConnection, self)._new_conn()  # type: ignore[misc]
            return _bound_handshake(_keep_alive(sock), timeout)
        finally:
            self.timeout = timeout
