"""Reads from a collector: the JSON of its API, for commands. By `urllib`, since `http.py` only posts triggers."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from collections.abc import Sequence
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

import brockman
from brockman.exceptions import ConfigurationError
from brockman.options import Options
from brockman.options.fields import printable
from brockman.options.secret import Secret
from brockman.options.table import is_loopback
from brockman.transport.failure import HiddenLocals
from brockman.transport.no_proxy import is_excepted

_MAX_ERROR_BYTES, _MAX_ERROR_CHARS = 4096, 300
_WRONG_KEY = (401, 403)
_NO_COLLECTOR = (404, 405)
Parameters = Sequence[tuple[str, str]]


class ReadingFailed(Exception):
    """Raised when a collector does not answer, or cannot at present. The text has the reason."""


class Reader:
    """Reads from one endpoint, and removes from it."""

    def __init__(self, options: Options) -> None:
        """Make a reader without connections; proxies and CA bundle are those of the environment."""
        self._endpoint = options.endpoint
        self._api_key = options.api_key or Secret("none")
        self._timeout = options.connect_timeout + options.read_timeout
        is_direct = is_loopback(urlsplit(self._endpoint).hostname or "") or is_excepted(self._endpoint)
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None
        self._opener = build_opener(
            ProxyHandler({} if is_direct else None),
            HTTPSHandler(context=ssl.create_default_context(cafile=bundle)),
            _NoRedirects,
        )

    def get(self, path: str, parameters: Parameters = ()) -> Any:
        """Return what a path of the API has.

        Raises:
            ReadingFailed: Without an answer, or for one that may be another later.
            ConfigurationError: If this is no such collector, or the key is wrong.
        """
        return self._call("GET", path, parameters)

    def delete(self, path: str, parameters: Parameters) -> Any:
        """Remove something; return the answer. Raises like `get`."""
        return self._call("DELETE", path, parameters)

    def _call(self, method: str, path: str, parameters: Parameters) -> Any:
        query = f"?{urlencode(parameters)}" if parameters else ""
        place, refusal = f"{method} {path}", None
        with HiddenLocals():
            request = Request(f"{self._endpoint}{path}{query}", method=method)
            request.add_header("User-Agent", f"brockman/{brockman.__version__}")
            request.add_header("Accept", "application/json")
            request.add_unredirected_header("X-FL-API-KEY", self._api_key.reveal())
            try:
                with self._opener.open(request, timeout=self._timeout) as answer:
                    return json.loads(answer.read())
            except HTTPError as error:
                with error:
                    refusal = error.code, self._api_key.hide_in(_words(error))
            except (URLError, OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                problem = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
                text = self._api_key.hide_in(f"{place}: no answer of {self._endpoint}: {problem}")
            except ValueError:
                text = f"{place}: the answer of {self._endpoint} is not JSON"
        if refusal is None:
            raise ReadingFailed(printable(text))
        status, words = refusal
        text = printable(f"{place}: {self._endpoint} answered {status}{': ' if words else ''}{words}")
        if status in _WRONG_KEY:
            raise ConfigurationError(f"{text}; api_key should be one that may read")
        if status in _NO_COLLECTOR or 300 <= status < 400:
            raise ConfigurationError(f"{text}; endpoint should be a collector of this version")
        raise ReadingFailed(text)


class _NoRedirects(HTTPRedirectHandler):
    """Follows none: the key is for one host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _words(error: HTTPError) -> str:
    """Return the reason in a body such as `{"error": "..."}`."""
    try:
        return str(json.loads(error.read(_MAX_ERROR_BYTES))["error"])[:_MAX_ERROR_CHARS]
    except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException):
        return ""
