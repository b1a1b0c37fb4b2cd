"""Requests to the collector that the environment or the options name: what commands read, and erase."""

from __future__ import annotations

import argparse
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode, urlsplit

import brockman
from brockman.cli.numbers import number
from brockman.cli.responses import find_wrong_field
from brockman.cli.sending import MAX_SECONDS
from brockman.delivery.environment import read_options
from brockman.exceptions import ConfigurationError
from brockman.options.endpoint import DEFAULT_ENDPOINT
from brockman.options.fields import printable
from brockman.options.secret import Secret, hide
from brockman.options.table import is_loopback
from brockman.transport.no_proxy import is_excepted

_READ_TIMEOUT = 120.0  # seconds without a byte
_PATIENCE = 60.0  # seconds without a response
_FIRST_PAUSE, _LAST_PAUSE = 0.5, 10.0
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_MAX_ERROR_BYTES, _MAX_ERROR_CHARS = 65_536, 300


class RequestFailed(Exception):
    """Raised for a response that is an error, or none. The text is for people."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a collector, or its store."""
    parser.add_argument(
        "--store",
        metavar="FILE|URL",
        help="open the store itself, a SQLite file or postgresql://user@host:port/database, without a collector",
    )
    parser.add_argument("--endpoint", type=hide, metavar="URL", help="the collector's URL (default: FL_ENDPOINT)")
    parser.add_argument(
        "--api-key", type=hide, metavar="KEY", help="the collector's key (default, and better: FL_API_KEY)"
    )
    parser.add_argument(
        "--timeout",
        type=number(0, MAX_SECONDS),
        default=_PATIENCE,
        metavar="SECONDS",
        help="give up if the collector does not respond for this long (default: %(default)g)",
    )


class Api:
    """A collector's HTTP API. Requests are made again while it is unavailable, up to a number of seconds."""

    def __init__(self, options: argparse.Namespace) -> None:
        given = {name: getattr(options, name) for name in ("endpoint", "api_key")}
        found = read_options({name: text for name, text in given.items() if text is not None}, needs_key=False)
        if found.endpoint == DEFAULT_ENDPOINT:
            raise ConfigurationError("endpoint: set FL_ENDPOINT to the collector's URL, or give --store")
        self.endpoint = found.endpoint
        self._key: Secret | None = found.api_key
        self._patience: float = options.timeout
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
        deadline, pause = time.monotonic() + self._patience, _FIRST_PAUSE
        while True:
            try:
                return self._try(method, path, parameters)
            except _Unavailable as error:
                wait = min(pause if error.retry_after is None else error.retry_after, _LAST_PAUSE)
                if time.monotonic() + wait > deadline:
                    raise RequestFailed(str(error), error.status) from None
                time.sleep(wait)
                pause = min(2 * pause, _LAST_PAUSE)

    def _try(self, method: str, path: str, parameters: Mapping[str, str]) -> Any:
        request = urllib.request.Request(f"{self.endpoint}{path}?{urlencode(parameters)}", method=method)
        request.add_header("User-Agent", f"brockman/{brockman.__version__}")
        if self._key is not None:
            request.add_unredirected_header("X-FL-API-KEY", self._key.reveal())
        try:
            with self._opener.open(request, timeout=_READ_TIMEOUT) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise self._describe(error) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            raise _Unavailable(f"{self.endpoint}: {self._hide(text)}") from None
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

    def _describe(self, error: urllib.error.HTTPError) -> Exception:
        words = ""
        with suppress(OSError, HTTPException, ValueError, TypeError, KeyError):
            words = str(json.loads(error.read(_MAX_ERROR_BYTES))["error"])
        text = f"{self.endpoint} responds {error.code}"
        if words:
            text += f": {self._hide(words)}"
        if error.code in _AGAIN:
            after = error.headers.get("Retry-After") or ""
            return _Unavailable(text, error.code, float(after) if after.isdecimal() else None)
        return RequestFailed(text, error.code)

    def _hide(self, text: str) -> str:
        text = printable(text)[:_MAX_ERROR_CHARS]
        return text if self._key is None else self._key.hide_in(text)


def check_progress(before: int, after: int) -> None:
    """Raise RequestFailed if the cursor of the next page is not beyond that of this one."""
    if after <= before:
        raise RequestFailed("the collector leads to the same page again")


class _Unavailable(Exception):
    def __init__(self, text: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.status, self.retry_after = status, retry_after


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
