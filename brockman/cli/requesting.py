"""Requests to the collector that the environment or the options name: what commands read, follow, and erase."""

from __future__ import annotations

import argparse
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPException
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import brockman
from brockman.cli.arguments import add_endpoint, add_timeout
from brockman.cli.failure import CommandFailed
from brockman.cli.responses import find_wrong_field
from brockman.delivery.environment import read_options
from brockman.exceptions import ConfigurationError
from brockman.options.endpoint import DEFAULT_ENDPOINT
from brockman.options.fields import printable
from brockman.options.secret import Secret
from brockman.options.table import is_loopback
from brockman.transport.no_proxy import is_excepted

_READ_TIMEOUT = 120.0  # seconds without a byte
_STREAM_TIMEOUT = 45.0  # of a stream, in which the collector sends something every 15 s
_PATIENCE = 60.0  # seconds without a response
_FIRST_PAUSE, _LAST_PAUSE = 0.5, 10.0
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_MAX_ERROR_BYTES, _MAX_ERROR_CHARS = 65_536, 300


class RequestFailed(CommandFailed):
    """Raised for a response that is an error, or none."""


class Unavailable(RequestFailed):
    """Raised when the collector does not respond, or asks to wait, for `retry_after` seconds if that is given."""

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Event(NamedTuple):
    """One server-sent event: the cursor behind it, and its JSON."""

    id: str
    data: str


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a collector, or its store."""
    parser.add_argument(
        "--store",
        metavar="FILE|URL",
        help="open the store itself, a SQLite file or postgresql://user@host:port/database, without a collector",
    )
    add_collector_options(parser)


def add_collector_options(parser: argparse.ArgumentParser, *, patience: float = _PATIENCE) -> None:
    """Add the options that name a collector."""
    add_endpoint(parser, endpoint="the collector's URL (default: FL_ENDPOINT)", key="the collector's key")
    add_timeout(
        parser, "give up if the collector does not respond for this long (default: %(default)g)", default=patience
    )


class Api:
    """A collector's HTTP API. Requests are made again while it is unavailable, for `patience` seconds."""

    def __init__(self, options: argparse.Namespace) -> None:
        given = {name: getattr(options, name) for name in ("endpoint", "api_key")}
        found = read_options({name: text for name, text in given.items() if text is not None}, needs_key=False)
        if found.endpoint == DEFAULT_ENDPOINT:
            raise ConfigurationError("endpoint: set FL_ENDPOINT to the collector's URL, or give --store")
        self.endpoint = found.endpoint
        self._key: Secret | None = found.api_key
        self.patience: float = options.timeout
        self._opener = _new_opener(found.endpoint)

    def get(self, path: str, parameters: Mapping[str, str]) -> Any:
        """Return the value of a response."""
        return self._request("GET", path, parameters)

    def pages(self, path: str, parameters: Mapping[str, str]) -> Iterator[Any]:
        """Yield the pages of a list, the oldest entries first."""
        after = -1
        while True:
            page = self.get(path, parameters if after < 0 else {**parameters, "after": str(after)})
            yield page
            if page["next"] is None:
                return
            check_progress(after, int(page["next"]))
            after = int(page["next"])

    def delete(self, path: str, parameters: Mapping[str, str]) -> Any:
        """Return the value of a response. It may be made again, like all that are lost."""
        return self._request("DELETE", path, parameters)

    def _request(self, method: str, path: str, parameters: Mapping[str, str]) -> Any:
        deadline, pause = time.monotonic() + self.patience, _FIRST_PAUSE
        while True:
            try:
                return self._try(method, path, parameters)
            except Unavailable as error:
                wait = min(pause if error.retry_after is None else error.retry_after, _LAST_PAUSE)
                if time.monotonic() + wait > deadline:
                    raise
                time.sleep(wait)
                pause = min(2 * pause, _LAST_PAUSE)

    def _try(self, method: str, path: str, parameters: Mapping[str, str]) -> Any:
        with self._opened(method, path, parameters) as response:
            body = response.read()
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            raise RequestFailed(
                f"{self.endpoint} is no collector: it responds with something else than JSON"
            ) from None
        wrong = find_wrong_field(method, path, content)
        if wrong is not None:
            raise RequestFailed(f"{self.endpoint} is no collector: in its response {wrong} is missing, or wrong")
        return content

    def events(self, path: str, parameters: Mapping[str, str], after: str) -> Iterator[Event]:
        """Yield the events behind a cursor as they come, in one attempt, until the collector ends the stream.

        Raises:
            Unavailable: If the stream cannot be opened now, or breaks off.
        """
        headers = {"Last-Event-ID": after, "Accept": "text/event-stream"}
        with self._opened("GET", path, parameters, headers, timeout=_STREAM_TIMEOUT) as response:
            if response.headers.get_content_type() != "text/event-stream":
                raise RequestFailed(f"{self.endpoint} is no collector: it responds with no stream of events")
            fields: dict[str, str] = {}
            for line in response:
                text = line.decode("utf-8", "replace").rstrip("\r\n")
                name, _, value = text.partition(":")
                if name:  # or it is a comment
                    fields[name] = value.removeprefix(" ")
                if not text and fields:
                    yield Event(fields.get("id", ""), fields.get("data", ""))
                    fields = {}

    @contextmanager
    def _opened(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        headers: Mapping[str, str] = MappingProxyType({}),
        timeout: float = _READ_TIMEOUT,
    ) -> Iterator[Any]:
        """Yield the response to a request. Reading it raises as making the request does."""
        request = urllib.request.Request(f"{self.endpoint}{path}?{urlencode(parameters)}", method=method)
        for name, value in {"User-Agent": f"brockman/{brockman.__version__}", **headers}.items():
            request.add_header(name, value)
        if self._key is not None:
            request.add_unredirected_header("X-FL-API-KEY", self._key.reveal())
        try:
            with self._opener.open(request, timeout=timeout) as response:
                yield response
        except urllib.error.HTTPError as error:
            with error:
                raise self._describe(error) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            raise Unavailable(f"{self.endpoint}: {self._hide(text)}") from None

    def _describe(self, error: urllib.error.HTTPError) -> Exception:
        words = ""
        with suppress(OSError, HTTPException, ValueError, TypeError, KeyError):
            words = str(json.loads(error.read(_MAX_ERROR_BYTES))["error"])
        text = f"{self.endpoint} responds {error.code}"
        if words:
            text += f": {self._hide(words)}"
        if error.code in _AGAIN:
            after = error.headers.get("Retry-After") or ""
            return Unavailable(text, float(after) if after.isdecimal() else None)
        return RequestFailed(text)

    def _hide(self, text: str) -> str:
        text = printable(text)[:_MAX_ERROR_CHARS]
        return text if self._key is None else self._key.hide_in(text)


def check_progress(before: int, after: int) -> None:
    """Raise RequestFailed if the cursor of the next page is not beyond that of this one."""
    if after <= before:
        raise RequestFailed("the collector leads to the same page again")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        """Follow none: the key is for one host."""


def _new_opener(endpoint: str) -> urllib.request.OpenerDirector:
    is_direct = is_loopback(urlsplit(endpoint).hostname or "") or is_excepted(endpoint)
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None
    handlers: list[Any] = [urllib.request.ProxyHandler({} if is_direct else None), _NoRedirects]
    if endpoint.startswith("https:"):
        handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=bundle)))
    return urllib.request.build_opener(*handlers)
