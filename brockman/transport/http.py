"""HTTP by `requests`: the only module that imports it.

The adapter is called directly, below `Session.request`. That skips what must not happen (following redirects,
reading the whole body of one, cookies, netrc) and what is needed only once (reading proxies and certificates from
the environment). A given session, and a `Session.send` that a library for tests has replaced, are respected.
"""

from __future__ import annotations

import gzip
import http.client
import math
import os
import re
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy
from urllib3.connection import HTTPConnection

import brockman
from brockman.exceptions import ConfigurationError, ConnectionFailed
from brockman.options.fields import show
from brockman.options.secret import Secret
from brockman.options.table import is_loopback
from brockman.process.clock import monotonic
from brockman.process.fork import Origin
from brockman.process.interruption import handler_frames
from brockman.transport.answer import MAX_ANSWER_BYTES, MAX_FETCHED_BYTES, Answer
from brockman.transport.body import FAILURES, read_body
from brockman.transport.deadline import Attempt
from brockman.transport.failure import HiddenLocals, causes_of
from brockman.transport.idle import IdleClock, idle_clock, is_too_old
from brockman.transport.no_proxy import is_excepted
from brockman.transport.pools import POOLS, close_idle, with_deadline
from brockman.transport.quiet import quieten

_DISCONNECTED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)  # the latter two over TLS
_SAFE_PREFIXES = ("Could not find a suitable TLS CA", "Missing dependencies for SOCKS")  # of texts of requests
_POOL_SIZE = 100  # for threads that send at once; beyond it urllib3 closes connections with a warning
_UNSUPPORTED_MEDIA_TYPE = 415
_PLAIN_FOR = 300.0  # seconds
_MIN_GZIP_BYTES = 1024  # below this the header costs more than compression saves
# Keep a reference: CPython 3.13.0 crashes in late finalizers without it. requests refers only to `datetime`.
_DATETIME = sys.modules.get("_datetime")

quieten()


class _DeadlineAdapter(HTTPAdapter):
    """An adapter whose connections keep the deadline of the attempt. Never retries: `delivery` does.

    Each client has its own, for one host with the same settings: what `requests` repeats for each request is done
    once, or not at all.
    """

    _pool: Any
    _target = ("", "")  # the last URL, and its target

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS
        self._pool = None

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy in self.proxy_manager:
            return self.proxy_manager[proxy]
        # With TCP_NODELAY, which urllib3 omits for a proxy: a body would wait until the headers are acknowledged.
        options = HTTPConnection.default_socket_options
        manager = super().proxy_manager_for(proxy, socket_options=options, **kwargs)
        is_socks = proxy.lower().startswith("socks")
        pools = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = with_deadline(pools, socks=True) if is_socks else POOLS
        return manager

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = self._pool
        if pool is None or pool.pool is None:  # closed
            pool = self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        return pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """Return the target in the request line, which depends on the URL and the proxy."""
        url, target = self._target
        if url != request.url:
            target = super().request_url(request, proxies)
            self._target = (str(request.url), target)
        return target

    def close(self) -> None:
        super().close()
        self._pool = None  # last: before the manager is empty, another thread would get the closed pool again

    def build_response(self, request: requests.PreparedRequest, raw: Any) -> requests.Response:
        """Return a response with only what is read from it: no cookies, no encoding, no copy of the headers."""
        response = requests.Response()
        response.raw, response.status_code, response.headers = raw, raw.status, raw.headers
        response.request, response.url = request, str(request.url)  # which libraries for tests read
        return response


class _NoCookies(RequestsCookieJar):
    """Keeps none, and takes no lock for it."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Do nothing."""


class HttpTransport:
    """Posts request bodies to `{endpoint}trigger/` over kept-alive connections. Any thread may send."""

    def __init__(
        self,
        endpoint: str,
        api_key: Secret,
        *,
        connect_timeout: float,
        read_timeout: float,
        compress: bool = False,
        session: requests.Session | None = None,
        clock: IdleClock = idle_clock,
    ) -> None:
        """Make a transport without connections. Reads proxies and CA bundle from the environment.

        Args:
            endpoint: The API's URL, with a slash at the end.
            api_key: Sent as `X-FL-API-KEY`.
            connect_timeout: Seconds that opening one connection may take.
            read_timeout: Seconds; with `connect_timeout` added, the limit for one attempt.
            compress: Whether to compress request bodies with gzip.
            session: Used with its own adapters, headers, proxies and certificates, and those of the environment
                where it trusts that; the deadline of an attempt is then checked only between socket operations.
            clock: Measures how long a connection has been idle.
        """
        self.target = endpoint  # how the log names it
        self._origin = Origin()
        self._url = endpoint + "trigger/"
        self._api_key = api_key
        self._timeouts = (connect_timeout, read_timeout)
        self._compress = compress
        self._plain_until = -math.inf  # the server has refused a compressed body
        self._has_own_connections = session is None  # others do not update the attempt
        self._clock = clock
        self._sent_at = clock()
        self._socket_class = socket.socket
        with HiddenLocals():
            self._session = session or _new_session(self._url)
            self._settings = None if session else self._read_settings()  # a given one may be changed
            self._template = self._make_template()

    def _make_template(self) -> requests.PreparedRequest:
        """Return the request without a body.

        Prepared once, because that parses the URL and checks every header; and at first, because it imports
        modules, which may fail in a forked child or late at exit.
        """
        headers = {
            **{name: _decoded(value) for name, value in self._session.headers.items() if value is not None},
            "User-Agent": f"brockman/{brockman.__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # 64 KiB of an answer are read; compressed, they could expand to more
            "Content-Type": "application/json",
        }
        template = _prepare(self._url, headers)
        template.headers["X-FL-API-KEY"] = self._api_key.reveal()  # after `prepare`, which may raise
        return template

    def send(self, body: bytes, timeout: float | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Make one attempt. Blocks for at most `connect_timeout + read_timeout`, and for the resolver.

        Args:
            body: JSON.
            timeout: A lower limit in seconds, or None.
            headers: More headers, of this request.

        Raises:
            ConnectionFailed: When no answer came back. Its text names the cause and never the key.
        """
        return self._attempt(lambda: self._send(body, headers or {}), timeout)

    def fetch(self, method: str, resource: str, body: bytes | None = None, timeout: float | None = None) -> Answer:
        """Make one attempt at another resource, such as `group/`. Blocks, and raises, as `send` does.

        At most `MAX_FETCHED_BYTES` of the body are read. That of a success is returned as it came.
        """
        return self._attempt(lambda: self._fetch(method, resource, body), timeout)

    def _attempt(self, exchange: Callable[[], Answer], timeout: float | None) -> Answer:
        limit = sum(self._timeouts)
        seconds = limit if timeout is None else min(limit, timeout)
        with HiddenLocals(), Attempt(seconds, self._timeouts[1], self._clock) as attempt:
            try:
                if not self._has_own_connections:
                    self._close_idle()
                return exchange()
            except FAILURES as error:
                for cause in reversed(causes_of(error)):  # the innermost: urllib3 wraps it
                    if handler_frames(cause):  # a time limit may be an OSError too
                        raise cause from cause.__cause__
                del cause  # its text may hold a part of a proxy's password
                failure = self._api_key.hide_in(_describe(error))
                disconnected = any(isinstance(cause, _DISCONNECTED) for cause in causes_of(error))
                stale = self._has_own_connections and attempt.reused and not attempt.received and disconnected
                unanswered = attempt.sending and not attempt.received
        # Raised outside the handler: requests' exceptions hold the request, and with it the key.
        raise ConnectionFailed(failure, stale=stale, unanswered=unanswered)

    def _send(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        request = self._request(body, headers)
        answer = self._exchange(request, MAX_ANSWER_BYTES)
        if answer.status == _UNSUPPORTED_MEDIA_TYPE and "Content-Encoding" in request.headers:
            self._plain_until = monotonic() + _PLAIN_FOR
            answer = self._exchange(self._request(body, headers), MAX_ANSWER_BYTES)
        return self._without_key(answer)

    def _fetch(self, method: str, resource: str, body: bytes | None) -> Answer:
        request = self._template.copy()
        request.method, request.url, request.body = method, self.target + resource, body
        if body is None:
            del request.headers["Content-Type"]
        else:
            request.headers["Content-Length"] = str(len(body))
        answer = self._exchange(request, MAX_FETCHED_BYTES)
        return answer if 200 <= answer.status < 300 else self._without_key(answer)

    def _close_idle(self) -> None:
        """Close the connections of a session that may be of no use any more; they do not know it themselves."""
        before, self._sent_at = self._sent_at, self._clock()
        patched, self._socket_class = self._socket_class is not socket.socket, socket.socket
        if patched or is_too_old(before, self._sent_at):
            for pool in self._pools():
                close_idle(pool)

    def _request(self, body: bytes, headers: Mapping[str, str]) -> requests.PreparedRequest:
        request = self._template.copy()
        request.headers.update(headers)
        if self._compress and len(body) >= _MIN_GZIP_BYTES and monotonic() >= self._plain_until:
            body = gzip.compress(body, 1, mtime=0)  # without a time, so that a retry sends the same bytes
            request.headers["Content-Encoding"] = "gzip"
        request.body = body
        request.headers["Content-Length"] = str(len(body))
        return request

    def _post(self, request: requests.PreparedRequest) -> requests.Response:
        session = self._session
        settings = {"timeout": self._timeouts, **(self._settings or self._read_settings())}
        send: Any = requests.Session.send
        if self._has_own_connections and getattr(send, "__globals__", None) is vars(requests.sessions):
            return session.get_adapter(self._url).send(request, **settings)
        # Of a given session, or replaced by a library for tests. Without a Location it follows nothing.
        locations: list[str | None] = []
        request.hooks = {"response": [lambda answer, **_: locations.append(answer.headers.pop("Location", None))]}
        response = session.send(request, allow_redirects=False, **settings)
        if locations and locations[0] is not None:
            response.headers["Location"] = locations[0]
        return response

    def _exchange(self, request: requests.PreparedRequest, max_bytes: int) -> Answer:
        response = self._post(request)
        try:
            is_real = isinstance(response.raw, urllib3.HTTPResponse)  # not what a library for tests replays
            read = read_body(response.raw, max_bytes) if is_real else (response.content or b"", True)
        finally:
            response.close()  # returns the connection to the pool if the body was read to its end
        if response.status_code < 200:
            self._session.close()  # the final answer is still to come, and not to the next request
        headers = response.headers
        body, is_complete = read
        location = headers.get("Location")
        return Answer(
            status=response.status_code,
            body=body[:max_bytes],
            content_type=headers.get("Content-Type", ""),
            retry_after=headers.get("Retry-After"),
            date=headers.get("Date"),
            location=None if location is None else self._api_key.hide_in(location)[:300],
            content_encoding=headers.get("Content-Encoding", ""),
            is_complete=is_complete,
        )

    def _without_key(self, answer: Answer) -> Answer:
        if answer.text is None:
            return answer
        shown = self._api_key.hide_in(answer.text).encode("utf-8", "replace")
        return replace(answer, body=shown, content_encoding="")

    def _read_settings(self) -> dict[str, Any]:
        """Return the session's proxies and certificates; with its `trust_env`, those of the environment too."""
        session = self._session
        settings: Any = session.merge_environment_settings(self._url, {}, True, None, None)
        if settings["verify"] is None:
            settings["verify"] = True
        if session.trust_env and is_excepted(self._url):
            settings["proxies"] = session.proxies
        return dict(settings)

    def find_route(self) -> tuple[str | None, str]:
        """Return the URL of the proxy, or None, and the path of the certificates that are trusted."""
        settings = self._settings or self._read_settings()
        trusted = DEFAULT_CA_BUNDLE_PATH if settings["verify"] is True else settings["verify"]
        return select_proxy(self._url, settings["proxies"]), trusted

    def close(self) -> None:
        """Close the connections. `send` afterwards opens new ones."""
        for pool in self._pools():
            pool.close()  # urllib3 leaves that to a finalizer, which does not run late at exit
        self._session.close()

    def after_fork(self) -> None:
        """Replace the connections in a forked child. Takes no inherited lock.

        The threads that hold those are gone. At exit urllib3 would take the lock of each pool to close what is in
        it, so that is replaced in place.
        """
        if not self._origin.is_inherited:  # two threads noticed; no call between here and the next line
            return
        self._origin = Origin()
        for pool in self._pools():
            if pool.pool is None:  # closed
                continue
            for connection in filter(None, list(pool.pool.queue)):
                connection.close()  # only this copy: the parent's connection stays open
            pool.pool.__init__(pool.pool.maxsize)
        for adapter in self._adapters():
            adapter.__setstate__(adapter.__getstate__())  # type: ignore[attr-defined]

    def _adapters(self) -> list[HTTPAdapter]:
        return [adapter for adapter in set(self._session.adapters.values()) if isinstance(adapter, HTTPAdapter)]

    def _pools(self) -> list[Any]:
        """Return urllib3's connection pools. Takes no lock."""
        managers = [(adapter.poolmanager, *adapter.proxy_manager.values()) for adapter in self._adapters()]
        return [pool for manager in sum(managers, ()) for pool in list(manager.pools._container.values())]


def _prepare(url: str, headers: dict[str, str]) -> requests.PreparedRequest:
    try:
        return requests.Request("POST", url, headers=headers).prepare()
    except requests.exceptions.InvalidURL:
        pass
    raise ConfigurationError(f"endpoint is {show(url.removesuffix('trigger/'))}; it should have a valid host name")


def _decoded(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _new_session(url: str) -> requests.Session:
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _DeadlineAdapter(pool_maxsize=_POOL_SIZE))
    session.headers.clear()
    session.cookies = _NoCookies()
    # A proxy cannot reach this machine's loopback, where a collector may run.
    is_direct = is_loopback(urlsplit(url).hostname or "") or is_excepted(url)
    session.proxies = {} if is_direct else get_environ_proxies(url)
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    session.trust_env = False
    return session


def _describe(error: Exception) -> str:
    """Return a short text for the reason why no answer came."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, requests.exceptions.InvalidURL):  # the endpoint's own is checked when a client is made
        return "the URL of the proxy cannot be used; brockman check says why"
    causes = causes_of(error)
    if any(isinstance(cause, TimeoutError | requests.Timeout) for cause in causes):
        return "no answer in time"
    kind = "TLS" if isinstance(error, requests.exceptions.SSLError) else type(error).__name__
    text = next(filter(None, map(_safe_text, reversed(causes))), None)
    return f"{kind}: {text}" if text else kind


def _safe_text(cause: BaseException) -> str | None:
    """Return the text of an error if it cannot hold a secret, such as the password in a proxy's URL."""
    if isinstance(cause, http.client.RemoteDisconnected):
        return "the connection was closed before an answer"
    if type(cause).__name__ == "CertificateError" or str(cause).startswith(_SAFE_PREFIXES):
        return str(cause)
    refused = re.match(r"Tunnel connection failed: (\d+)", str(cause))  # followed by the proxy's own text
    if refused:
        advice = "; check the proxy's user and password" if refused[1] == "407" else ""
        return f"the proxy answered {refused[1]}{advice}"
    return getattr(cause, "strerror", None)
