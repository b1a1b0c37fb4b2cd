"""HTTP by `requests`: the only module that imports it.

The adapter is called directly, below `Session.request`: that leaves out what must not happen here (following
redirects, reading the whole body of one, cookies, netrc) and what need not happen for every request (a search
through the environment for proxies and certificates).
"""

from __future__ import annotations

import gzip
import http.client
import os
import re
import ssl
import sys
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3.connection import HTTPConnection

import brockman
from brockman.exceptions import ConnectionFailed
from brockman.options.secret import Secret
from brockman.options.table import is_loopback
from brockman.process.fork import Origin
from brockman.transport import Answer
from brockman.transport.deadline import POOLS, begin_attempt, socks_pools

_HARMLESS = ("Could not find a suitable TLS CA", "Missing dependencies for SOCKS")  # beginnings, of requests


def causes_of(error: BaseException) -> list[BaseException]:
    """Return the error and what lies behind it, outermost first: requests and urllib3 keep it in four places."""
    found: list[BaseException] = []
    queue: list[Any] = [error]
    while queue:
        candidate = queue.pop(0)
        if isinstance(candidate, BaseException) and candidate not in found:
            found.append(candidate)
            queue += [
                candidate.__cause__,
                candidate.__context__,
                getattr(candidate, "reason", None),
                *candidate.args,
            ]
    return found


def words_of(cause: BaseException) -> str | None:
    """Return what one cause says, if that is known to hold nothing secret, as a proxy's URL holds its password."""
    if isinstance(cause, http.client.RemoteDisconnected):
        return "the connection was closed before an answer"
    if type(cause).__name__ == "CertificateError" or str(cause).startswith(_HARMLESS):
        return str(cause)
    refused = re.match(r"Tunnel connection failed: (\d+)", str(cause))  # the proxy's own words follow
    if refused:
        advice = "; check the proxy's user and password" if refused[1] == "407" else ""
        return f"the proxy answered {refused[1]}{advice}"
    return getattr(cause, "strerror", None)


MAX_ANSWER_BYTES = 64 * 1024
# What requests, urllib3 and http.client raise when no answer comes. Nothing wider: an exception from elsewhere, a
# task's time limit say, is not for us to take.
_FAILURES = (OSError, ValueError, http.client.HTTPException, urllib3.exceptions.HTTPError)
# By TLS, the end of a connection may be told only so.
_HUNG_UP = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
_VERDICTS = 207
# Held, or CPython 3.13.0 crashes in the last finalizers: `requests` holds only `datetime`, not what is under it.
_DATETIME = sys.modules.get("_datetime")
_CONNECTIONS = 100  # kept for threads that send at once; of more, urllib3 closes each with a warning
_MIN_GZIP_BYTES = 1024  # below this a header costs more than the compression brings


class _DeadlineAdapter(HTTPAdapter):
    """Opens connections whose every operation ends with the attempt. Retries nothing: `delivery` does.

    One for each client, with one URL and the same settings for all requests: what `requests` would do again for
    each of them is done once, or left out.
    """

    _pool: Any

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS
        self._pool = None

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy in self.proxy_manager:
            return self.proxy_manager[proxy]
        # TCP_NODELAY. urllib3 leaves it out for a proxy: a body then waits until the headers are acknowledged.
        options = HTTPConnection.default_socket_options
        manager = super().proxy_manager_for(proxy, socket_options=options, **kwargs)
        is_socks = proxy.lower().startswith("socks")
        manager.pool_classes_by_scheme = socks_pools(manager.pool_classes_by_scheme) if is_socks else POOLS
        return manager

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = self._pool
        if pool is None or pool.pool is None:  # closed
            pool = self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        return pool

    def close(self) -> None:
        super().close()
        self._pool = None  # last: until the manager is empty, another thread would be given the same one

    def build_response(self, request: requests.PreparedRequest, raw: Any) -> requests.Response:
        """Return what is read here of a response: no cookies, no encoding, no copy of its headers."""
        response = requests.Response()
        response.raw, response.status_code, response.headers = raw, raw.status, raw.headers
        return response


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
    ) -> None:
        """Make a transport; opens no connection. Proxies and CA bundle are read from the environment here, once.

        Args:
            endpoint: The API's URL, ending in a slash.
            api_key: Sent as `X-FL-API-KEY`.
            connect_timeout: Seconds that opening one connection may take.
            read_timeout: Seconds; together with `connect_timeout` what one whole attempt may take.
            compress: Whether to send request bodies compressed with gzip.
            session: Gives its own adapters, headers, proxies and certificates instead; the one deadline for
                an attempt then holds only between socket operations.
        """
        self._origin = Origin()
        self._url = endpoint + "trigger/"
        self._api_key = api_key
        self._timeouts = (connect_timeout, read_timeout)
        self._compress = compress
        self._bounded = session is None  # only our own connections tell `attempt` what happens on them
        self._session = session or _new_session(self._url)
        headers = {
            **{name: _text(value) for name, value in self._session.headers.items() if value is not None},
            "User-Agent": f"brockman/{brockman.__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # an answer is read to 64 KiB, and compressed ones can hide more
            "Content-Type": "application/json",
        }
        # Prepared once, which reads the URL and looks at every header; and here, as the first one of a process
        # imports, for which a forked child or a late exit hook is no place.
        self._blank = requests.Request("POST", self._url, headers=headers).prepare()
        self._blank.headers["X-FL-API-KEY"] = api_key.reveal()  # here: `prepare` may raise

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        """Make one attempt. Blocks for at most `connect_timeout + read_timeout`, and the resolver's own time.

        Args:
            body: JSON.
            timeout: Seconds that the attempt may take if that is less; None for no less.

        Raises:
            ConnectionFailed: When no answer came back. Its text names the cause and never the key.
        """
        whole = sum(self._timeouts)
        attempt = begin_attempt(whole if timeout is None else min(whole, timeout), self._timeouts[1])
        try:
            return self._exchange(self._request(body))
        except _FAILURES as error:
            failure = self._api_key.hide_in(_describe(error))
            hung_up = any(isinstance(cause, _HUNG_UP) for cause in causes_of(error))
            stale = self._bounded and attempt.reused and not attempt.heard and hung_up
        # Raised outside the handler: requests' exceptions carry the request, and with it the key.
        raise ConnectionFailed(failure, stale=stale)

    def _request(self, body: bytes) -> requests.PreparedRequest:
        request = self._blank.copy()
        if self._compress and len(body) >= _MIN_GZIP_BYTES:
            body = gzip.compress(body, 1, mtime=0)  # no time in it: a retry sends the same bytes
            request.headers["Content-Encoding"] = "gzip"
        request.body = body
        request.headers["Content-Length"] = str(len(body))
        return request

    def _exchange(self, request: requests.PreparedRequest) -> Answer:
        session = self._session
        response = session.get_adapter(self._url).send(
            request,
            stream=True,
            timeout=self._timeouts,
            verify=True if session.verify is None else session.verify,
            cert=session.cert,
            proxies=session.proxies,
        )
        try:
            body = _read_start(response.raw, must_end=response.status_code == _VERDICTS)
        finally:
            response.close()  # gives the connection back if the body was read to its end
        if response.status_code < 200:
            session.close()  # the real answer is still to come, and must not be taken for that to the next request
        headers = response.headers
        key = self._api_key.reveal()
        location = headers.get("Location")
        return Answer(
            status=response.status_code,
            body=body[:MAX_ANSWER_BYTES].replace(key.encode("latin-1"), b"<api key>"),
            content_type=headers.get("Content-Type", ""),
            retry_after=headers.get("Retry-After"),
            date=headers.get("Date"),
            location=None if location is None else self._api_key.hide_in(location)[:300],
        )

    def close(self) -> None:
        """Close the connections. `send` afterwards opens new ones."""
        for pool in self._pools():
            pool.close()  # urllib3 leaves that to a finalizer, which at the end of a process does not run any more
        self._session.close()

    def after_fork(self) -> None:
        """Have new connections from now on: this is a forked child. Takes no lock that was there before.

        The threads that hold those are gone. urllib3 would take one more at the end of the process, to close what
        is in a pool: that is made anew in place.
        """
        if not self._origin.is_inherited:  # two threads noticed; from here to the next line, no call
            return
        self._origin = Origin()
        for pool in self._pools():
            if pool.pool is None:  # closed
                continue
            for connection in filter(None, list(pool.pool.queue)):
                connection.close()  # this end of it: the server is told nothing
            pool.pool.__init__(pool.pool.maxsize)
        for adapter in self._adapters():
            adapter.__setstate__(adapter.__getstate__())  # type: ignore[attr-defined]

    def _adapters(self) -> list[HTTPAdapter]:
        return [adapter for adapter in set(self._session.adapters.values()) if isinstance(adapter, HTTPAdapter)]

    def _pools(self) -> list[Any]:
        """Return the pools of connections. Takes no lock."""
        managers = [(adapter.poolmanager, *adapter.proxy_manager.values()) for adapter in self._adapters()]
        return [pool for manager in sum(managers, ()) for pool in list(manager.pools._container.values())]


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _new_session(url: str) -> requests.Session:
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _DeadlineAdapter(pool_maxsize=_CONNECTIONS))
    session.headers.clear()
    # No proxy reaches this machine's own loopback; a collector there is meant to be spoken to directly.
    session.proxies = {} if is_loopback(urlsplit(url).hostname or "") else get_environ_proxies(url)
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    session.trust_env = False
    return session


def _read_start(raw: Any, *, must_end: bool) -> bytes:
    """Return the first bytes of an answer's body, to its end or to what is read at the most.

    One read returns what is there; only the next one tells an end from a connection that broke. The status has
    said what became of the triggers, so a body that breaks only cuts the words short, unless it holds verdicts.
    """
    body = b""
    try:
        while len(body) <= MAX_ANSWER_BYTES:
            chunk: bytes = raw.read(MAX_ANSWER_BYTES + 1 - len(body), decode_content=False)
            if not chunk:
                if getattr(raw, "length_remaining", None):  # urllib3 raises by itself only since 2.0
                    raise http.client.IncompleteRead(body)
                break
            body += chunk
    except _FAILURES:
        if must_end:
            raise
    return body


def _describe(error: Exception) -> str:
    """Return the cause of a failure in a few words."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "no connection in time"
    causes = causes_of(error)
    if any(isinstance(cause, TimeoutError | requests.Timeout) for cause in causes):  # `error` among them
        return "no answer in time"
    kind = "TLS" if isinstance(error, requests.exceptions.SSLError) else type(error).__name__
    for cause in reversed(causes):
        words = words_of(cause)
        if words:
            return f"{kind}: {words}"
    return kind
