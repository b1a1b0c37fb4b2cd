"""The headers that a tracker adds to a response. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, MutableSequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brockman.options.web import WebSettings
    from brockman.web.tracker import RequestTracker

Header = tuple[str, str]
_PUBLIC = re.compile(r"(?:^|,)\s*public\s*(?=,|$)", re.IGNORECASE)
_PRIVATE = re.compile(r"(?:^|,)\s*private\s*(?:,|$)", re.IGNORECASE)


def cookie_attributes(settings: WebSettings, *, is_secure: bool) -> dict[str, str | int | bool]:
    """Return the attributes of the actor's cookie, in lower case; True for one without a value."""
    found: dict[str, str | int | bool] = {
        "max-age": settings.cookie_age,
        "path": "/",
        "samesite": settings.cookie_samesite,
    }
    if settings.cookie_domain is not None:
        found["domain"] = settings.cookie_domain
    if is_secure if settings.cookie_secure is None else settings.cookie_secure:
        found["secure"] = True
    return found


def cookie_text(settings: WebSettings, actor: str, *, is_secure: bool) -> str:
    """Return the value of `Set-Cookie` for an actor (RFC 6265)."""
    attributes = cookie_attributes(settings, is_secure=is_secure).items()
    texts = [name if value is True else f"{name}={value}" for name, value in attributes]
    return "; ".join([f"{settings.cookie_name}={actor}", *texts])


def is_public(cache_control: str) -> bool:
    """Return whether a `Cache-Control` lets shared caches keep a response."""
    return "public" in cache_control.lower() and _PUBLIC.search(cache_control) is not None


def without_caches(cache_control: str) -> str:
    """Return a `Cache-Control` with `private`, also beside `no-store`: Django 4.2 caches without it."""
    if not cache_control:
        return "private"
    if _PRIVATE.search(cache_control):
        return cache_control
    rest = _PUBLIC.sub("", cache_control).strip(" ,")
    return f"{rest}, private" if rest else "private"


def varied(vary: str) -> str:
    """Return a `Vary` that names `Cookie`."""
    if not vary:
        return "Cookie"
    names = {name.strip().lower() for name in vary.split(",")}
    return vary if names & {"cookie", "*"} else f"{vary}, Cookie"


def finish_headers(
    tracker: RequestTracker, settings: WebSettings, headers: MutableSequence[Header], *, is_secure: bool
) -> None:
    """Add what a tracker needs to the headers of a response, which are pairs of a name and a value."""
    asks = settings.cookie_always  # only then it matters what the view says
    finish = tracker.finish(is_public=asks and is_public(_joined(headers, "cache-control")))
    if finish.actor is not None:
        name = f"{settings.cookie_name}="
        if not any(key.lower() == "set-cookie" and value.lstrip().startswith(name) for key, value in headers):
            headers.append(("Set-Cookie", cookie_text(settings, finish.actor, is_secure=is_secure)))
    if finish.is_private:
        _replace(headers, "Cache-Control", without_caches(_joined(headers, "cache-control")))
        _replace(headers, "Vary", varied(_joined(headers, "vary")))


def _joined(headers: Iterable[Header], name: str) -> str:
    return ", ".join(value for key, value in headers if key.lower() == name)


def _replace(headers: MutableSequence[Header], name: str, value: str) -> None:
    headers[:] = [pair for pair in headers if pair[0].lower() != name.lower()]
    headers.append((name, value))
