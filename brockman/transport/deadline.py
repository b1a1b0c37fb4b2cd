"""Connections on which one deadline covers a whole attempt: connect, send and read.

`requests` bounds each socket operation, so a server that sends a byte now and then holds a request for ever. Here
every operation on the socket may take only what is left of the attempt. What no timeout reaches is the resolver:
`getaddrinfo` returns when it returns.
"""

from __future__ import annotations

import codecs
import http.client
import importlib
import io
import math
import os
import queue
import socket
import ssl
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions
import urllib3.response
import urllib3.util.ssl_

from brockman.process import fork
from brockman.process.clock import monotonic
from brockman.process.fork import Origin


class ForkedAway(BaseException):
    """Raised in the child of a fork, in a copy of a greenlet that was sending: the parent does that."""


class Attempt:
    """One attempt to send.

    Attributes:
        reused: Whether it went over a connection that was open before.
        heard: Whether any byte of an answer came back.
    """

    def __init__(self, seconds: float = math.inf, read_timeout: float = math.inf) -> None:
        """Start the clock.

        Args:
            seconds: What the whole attempt may take.
            read_timeout: Seconds that the server may stay silent.
        """
        self._origin = Origin()
        self._until = monotonic() + seconds
        self._longest_read = read_timeout
        self.reused = True  # until a connection is opened
        self.heard = False

    def remaining(self) -> float:
        """Return the seconds left.

        Raises:
            TimeoutError: When none is.
            ForkedAway: In a child.
        """
        if self._origin.is_inherited:
            raise ForkedAway
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError("the attempt took too long")
        return left

    def read_time(self) -> float:
        """Return the seconds that the next read may take; raises as `remaining` does."""
        return min(self.remaining(), self._longest_read)


# A context variable and not a `threading.local`, which this module would take from before gevent's patching: then
# all greenlets would share one attempt.
CURRENT: ContextVar[Attempt] = ContextVar("attempt")


def begin_attempt(seconds: float, read_timeout: float) -> Attempt:
    """Begin the attempt of this thread, or greenlet; see `Attempt`."""
    attempt = Attempt(seconds, read_timeout)
    CURRENT.set(attempt)
    return attempt


_LEEWAY = 0.02  # seconds by which an operation may end too early or too late


# The resolver wants it, and late in the end of a process, or in a forked child, is no time for an import.
codecs.lookup("idna")

# Those that are open, for a forked child to close: else the server would not see the parent hang up.
_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def _allow(sock: socket.socket, seconds: float) -> None:
    """Let the next operation on a socket take so many seconds, or up to `_LEEWAY` less or more.

    Setting it each time would be another call of the system, and each one gives the interpreter's lock away, which
    a thread that computes keeps for 5 ms.
    """
    now = sock.gettimeout() if hasattr(sock, "gettimeout") else None  # pyOpenSSL's, in urllib3, do not tell it
    if now is None or abs(now - seconds) > _LEEWAY:
        sock.settimeout(seconds)


def _shorten(sock: Any, longest: float) -> Any:
    """Return a socket on which a handshake comes next, and let that take what is left; close it if nothing is.

    It would else have the same time once more that the operation before it had.
    """
    try:
        _allow(sock, min(longest, CURRENT.get().remaining()))
    except BaseException:
        sock.close()
        raise
    return sock


class _Carrier:
    """Mixed into the socket of a proxy that is spoken to by TLS: urllib3 carries the server's TLS in that.

    To have one record of it, urllib3 reads here as often as it takes; what was allowed once would begin anew with
    each of these reads.
    """

    def recv(self, *args: Any, **kwargs: Any) -> Any:
        _allow(self, CURRENT.get().read_time())  # type: ignore[arg-type]
        return super().recv(*args, **kwargs)  # type: ignore[misc]


def _close_inherited() -> None:
    """Close the parent's connections in a forked child, without a word to the server.

    Only in the fork hook: later, the numbers of the descriptors may be those of other files.
    """
    for sock in list(_sockets):
        with suppress(OSError):
            os.close(sock.detach())
    _sockets.clear()


fork.after_fork_hooks.append(_close_inherited)


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket, each time for what is left of the attempt at the most."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        attempt = CURRENT.get()
        _allow(self._sock, attempt.read_time())
        count = self._raw.readinto(buffer)
        attempt.heard = attempt.heard or bool(count)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _SocketView:
    """The one method of a socket that an HTTP response uses."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._sock))


class _DeadlineResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(_SocketView(sock), *args, **kwargs)  # type: ignore[arg-type]

    def _read_status(self) -> tuple[str, int, str]:
        """Read past interim answers such as 103 (RFC 9110, 15.2); http.client knows only 100."""
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 101 < status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)


def _look_up(host: str, port: int) -> list[Any]:
    """Return a host's addresses, also where gevent can start no thread for that: Python 3.12 has none at exit."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except RuntimeError:
        gevent: Any = sys.modules.get("gevent")
        if gevent is None:
            raise
        gevent.get_hub().resolver = importlib.import_module("gevent.resolver.blocking").Resolver()
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class _DeadlineConnection:
    """Mixed into urllib3's connections."""

    response_class: Any = _DeadlineResponse
    sock: socket.socket | None
    timeout: Any
    port: int
    _dns_host: str

    def connect(self) -> None:
        CURRENT.get().reused = False
        super().connect()  # type: ignore[misc]
        if self.sock is not None:
            _sockets.add(getattr(self.sock, "socket", self.sock))  # TLS in TLS is no socket, but has one

    def _new_conn(self) -> Any:
        """Try the addresses of the host one by one, each for what is left; urllib3 gives each the whole time."""
        host, timeout = self._dns_host, self.timeout
        try:
            addresses = [entry[4][0] for entry in _look_up(host, self.port)]
        except OSError:
            addresses = [host]  # urllib3 looks it up again, and says what is wrong
        failure: Exception | None = None
        for address in addresses:
            self._dns_host = str(address)
            self.timeout = min(timeout, CURRENT.get().remaining())
            try:
                return _shorten(super()._new_conn(), timeout)  # type: ignore[misc]
            except urllib3.exceptions.HTTPError as error:
                failure = error
            finally:
                self._dns_host, self.timeout = host, timeout
        assert failure is not None
        raise failure

    def _connect_tls_proxy(self, *args: Any) -> Any:
        sock: Any = super()._connect_tls_proxy(*args)  # type: ignore[misc]
        if isinstance(sock, ssl.SSLSocket):  # and not pyOpenSSL's
            sock.__class__ = type("_CarrierSocket", (_Carrier, type(sock)), {})
        return sock

    def _tunnel(self) -> None:
        super()._tunnel()  # type: ignore[misc]
        _shorten(self.sock, self.timeout)

    def getresponse(self) -> Any:
        # urllib3 imports this at each call; when the last finalizers run, the table of modules is empty.
        if sys.modules.get("urllib3.response") is None:
            sys.modules["urllib3.response"] = urllib3.response
        return super().getresponse()  # type: ignore[misc]

    def send(self, data: Any) -> None:
        if self.sock is not None:
            _allow(self.sock, CURRENT.get().remaining())
        super().send(data)  # type: ignore[misc]


class SocksConnection(_DeadlineConnection):
    """Mixed into urllib3's connections through a SOCKS proxy, which may be the one that looks the host up."""

    def _new_conn(self) -> Any:
        timeout = self.timeout
        self.timeout = min(timeout, CURRENT.get().remaining())
        try:
            return _shorten(super(_DeadlineConnection, self)._new_conn(), timeout)  # type: ignore[misc]
        finally:
            self.timeout = timeout


class HTTPConnection(_DeadlineConnection, urllib3.connection.HTTPConnection):
    """A connection that keeps the attempt's deadline."""


class HTTPSConnection(_DeadlineConnection, urllib3.connection.HTTPSConnection):
    """The same with TLS."""

    ssl_context: Any

    def connect(self) -> None:
        """Open the connection, as urllib3 does, for at most what is left of the attempt."""
        # gevent has patched `ssl` since urllib3 took a class from it, whose methods then call themselves for ever.
        if self.ssl_context is None and urllib3.util.ssl_.SSLContext is not ssl.SSLContext:
            self.ssl_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        super().connect()


class _Idle:
    """Connections at rest, in place of `queue.LifoQueue`, whose lock stays held when a Ctrl-C strikes in it."""

    def __init__(self, maxsize: int = 0) -> None:
        self.maxsize = maxsize
        self.queue: list[Any] = []

    def qsize(self) -> int:
        return len(self.queue)

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        if len(self.queue) >= self.maxsize:
            raise queue.Full
        self.queue.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        try:
            return self.queue.pop()
        except IndexError:
            raise queue.Empty from None


class _HTTPPool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = HTTPConnection
    QueueCls = _Idle  # type: ignore[assignment]


class _HTTPSPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = HTTPSConnection
    QueueCls = _Idle  # type: ignore[assignment]


POOLS: dict[str, Callable[..., Any]] = {"http": _HTTPPool, "https": _HTTPSPool}


def socks_pools(pools: dict[str, Any]) -> dict[str, Any]:
    """Return what `POOLS` is, for urllib3's pools of connections through a SOCKS proxy."""
    bounded = {}
    for scheme, pool in pools.items():
        connection = type(f"_{pool.ConnectionCls.__name__}", (SocksConnection, pool.ConnectionCls), {})
        bounded[scheme] = type(f"_{pool.__name__}", (pool,), {"ConnectionCls": connection, "QueueCls": _Idle})
    return bounded
