"""The settings of a middleware, each as `FL_` and its name in capitals. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypedDict, get_args

from brockman.options.fields import Settings, choice, flag, function, number, setting

SameSite = Literal["Lax", "Strict", "None"]
MayTrack = Callable[[Any], bool]
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 6265, section 4.1.1
# Names of attributes, of which `http.cookies`, and so Django, makes no cookie.
_ATTRIBUTES = re.compile("comment|domain|expires|httponly|max-age|partitioned|path|samesite|secure|version")
_TEN_YEARS = 3650 * 24 * 60 * 60  # seconds; as the browser tracker sets it


def _domain(value: Any) -> Any:
    if value is not None and not (isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9.-]+", value)):
        raise ValueError("a domain of ASCII letters, digits, dots and hyphens, or None")
    return value


def _cookie_name(value: Any) -> Any:
    if not (isinstance(value, str) and _TOKEN.fullmatch(value) and not _ATTRIBUTES.fullmatch(value.lower())):
        raise ValueError("the name of a cookie: ASCII letters, digits, _ and -, and not that of an attribute")
    return value


def _flag_or_none(value: Any) -> bool | None:
    return None if value is None else flag(value)


def _paths(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [path.strip() for path in value.split(",") if path.strip()]
    paths = tuple(value) if isinstance(value, Iterable) else (value,)
    if not all(isinstance(path, str) and path.startswith("/") for path in paths):
        raise ValueError("paths that begin with a slash, such as ['/healthz', '/static/*']")
    return paths


@dataclass(frozen=True, kw_only=True)
class WebSettings(Settings):
    """The settings of a middleware."""

    may_track: MayTrack | None = setting(
        None,
        function,
        "function",
        "Called with a request; False: record nothing for its visitor and set no cookie. A dotted path is fine.",
    )
    skip_bots: bool = setting(
        False, flag, "flag", "Track no crawlers, monitors and health probes, as their `User-Agent` says."
    )
    skip_paths: tuple[str, ...] = setting(
        (),
        _paths,
        "paths",
        "Track no requests of these paths, such as `/healthz`; a `*` at the end stands for anything.",
    )
    user_agent: bool = setting(
        False, flag, "flag", "Record the `User-Agent` of a request as `variables.user_agent` of its triggers."
    )
    cookie_always: bool = setting(
        False,
        flag,
        "flag",
        "Set the actor's cookie on every response, not only where a trigger is recorded or the actor is read.",
    )
    cookie_name: str = setting("fl_actor_id", _cookie_name, "text", "Name of the actor's cookie.")
    cookie_age: int = setting(
        _TEN_YEARS, number(1, 2**31 - 1, whole=True), "seconds", "How long browsers keep the actor's cookie."
    )
    cookie_secure: bool | None = setting(
        None, _flag_or_none, "flag", "Whether the actor's cookie is for https only. None: as the request is."
    )
    cookie_samesite: SameSite = setting(
        "Lax",
        choice(*get_args(SameSite)),
        "text",
        "`SameSite` of the actor's cookie: `Lax`, `Strict`, `None`.",
    )
    cookie_domain: str | None = setting(
        None, _domain, "text", "Domain of the actor's cookie, to share it among hosts. None: this host only."
    )

    @cached_property
    def is_selective(self) -> bool:
        """False when every request is tracked."""
        return self.may_track is not None or self.skip_bots or bool(self.skip_paths)

    def skips_path(self, path: str) -> bool:
        """Return whether requests of a path are not tracked."""
        return any(path.startswith(each[:-1]) if each.endswith("*") else path == each for each in self.skip_paths)


class WebOptions(TypedDict, total=False):
    """The keywords of a middleware, for type checkers: `WebSettings`."""

    may_track: MayTrack | None
    skip_bots: bool
    skip_paths: Iterable[str]
    user_agent: bool
    cookie_always: bool
    cookie_name: str
    cookie_age: int
    cookie_secure: bool | None
    cookie_samesite: SameSite
    cookie_domain: str | None
