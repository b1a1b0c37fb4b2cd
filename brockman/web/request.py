"""A request as a tracker reads it, whatever the framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any


class WebRequest(ABC):
    """A request. Its parts are read when they are needed."""

    __slots__ = ()

    @abstractmethod
    def header(self, name: str) -> str:
        """Return the value of a header, whose name is in lower case; "" when there is none."""

    @property
    @abstractmethod
    def path(self) -> str:
        """The path of the URL, decoded."""

    @property
    @abstractmethod
    def is_secure(self) -> bool:
        """True for https."""

    def ended(self) -> WebRequest:
        """Return the request for a tracker that keeps it: the framework's should not refer to the tracker."""
        return self

    @property
    def native(self) -> Any:
        """The object that `may_track` is called with: the framework's request, or this one."""
        return self

    @property
    def headers(self) -> Headers:
        """The headers, for `may_track`: `request.headers.get("Sec-GPC")`."""
        return Headers(self)

    def cookie(self, name: str, accepts: Callable[[str], object] = bool) -> str:
        """Return the value of a cookie; "" when there is none. See `find_cookie`."""
        return find_cookie(self.header("cookie"), name, accepts)


def find_cookie(header: str, name: str, accepts: Callable[[str], object] = bool) -> str:
    """Return the value of a cookie in a `Cookie` header; "" when there is none.

    Browsers send several of one name, of different domains and paths: it is the first one that is accepted.
    """
    prefix = name + "="
    start = header.find(prefix)
    while start >= 0:
        before = header[header.rfind(";", 0, start) + 1 : start]
        if not before.strip():  # else it is the end of another name, or of a value
            end = header.find(";", start)
            value = header[start + len(prefix) : end if end >= 0 else None].strip('" ')
            if accepts(value):
                return value
        start = header.find(prefix, start + len(prefix))
    return ""


class Headers:
    """The headers of a request, by names of any case."""

    def __init__(self, request: WebRequest) -> None:
        """Read nothing yet."""
        self._request = request

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value of a header; `default` when there is none."""
        return self._request.header(name.lower()) or default
