"""Reading the groups of the API: requests that are repeated while the service is away, page by page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from random import SystemRandom
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from brockman.delivery import policy
from brockman.delivery.policy import Outcome, SendResult
from brockman.exceptions import ConfigurationError, ConnectionFailed, FocusLabError, ResourceNotFound, UnknownError
from brockman.groups import Group, Member
from brockman.process.clock import as_seconds, monotonic, wall
from brockman.transport.answer import MAX_FETCHED_BYTES
from brockman.trigger.coerce import class_name

if TYPE_CHECKING:
    from brockman.delivery.pipeline import Pipeline

_PAGE = 2000  # members
_MAX_EMPTY_PAGES = 100  # in a row; those on a page may have been joined with others, or erased, while it was read
_NOT_FOUND = 404
T = TypeVar("T")
Fetch = Callable[[str, str, "bytes | None", "float | None"], Any]


class GroupReader:
    """The groups behind an endpoint.

    `timeout` is the seconds that a request, or a page, may take with all its retries.
    """

    def __init__(self, pipeline: Pipeline, timeout: float | None) -> None:
        self._options = pipeline.options
        self._timeout = as_seconds(timeout)
        fetch: Fetch | None = getattr(pipeline.transport, "fetch", None)
        if fetch is None:
            kind = class_name(pipeline.transport)
            raise ConfigurationError(f"groups are read over HTTP, and the transport is {kind}; it has no fetch")
        self._fetch = fetch

    def groups(self) -> list[Group]:
        return _parse(_read_groups, self._ask("GET", "group/"))

    def save(self, name: str, definition: Mapping[str, Any]) -> Group:
        body = json.dumps(definition, default=_encode_time, allow_nan=False).encode()
        return _parse(_read_group, self._ask("PUT", _path(name), body))

    def members(self, name: str) -> Iterator[Member]:
        path, after, without_members = _path(name), "", 0
        seen = set[str]()
        while True:
            try:
                page = self._ask("GET", f"{path}?limit={_PAGE}{after}")
            except ResourceNotFound as error:
                raise ResourceNotFound(_NOT_FOUND, f"no group {name!r}: {error.words}") from None
            members, following = _parse(_read_page, page)
            yield from members
            if following is None:
                return
            without_members = 0 if members else without_members + 1
            if following in seen or without_members == _MAX_EMPTY_PAGES:
                raise UnknownError("the pages of the server do not end: they repeat, or have no members")
            seen.add(following)
            after = f"&after={quote(following, safe='')}"

    def _ask(self, method: str, resource: str, body: bytes | None = None) -> Any:
        """Return the JSON of an answer. Blocks, and waits between attempts."""
        deadline, failures = monotonic() + self._timeout, 0
        before: FocusLabError | None = None
        while True:
            content, result = self._attempt(method, resource, body, max(0.0, deadline - monotonic()))
            if result is None:
                return content
            failures += 1
            error = result.error or UnknownError("the answer of the server is no JSON object")
            may_repeat = result.outcome is Outcome.UNAVAILABLE or (
                result.outcome is Outcome.SERVER_ERROR and failures < self._options.max_attempts
            )
            base, cap = self._options.backoff_base, self._options.backoff_cap
            seconds = policy.delay(result, failures, base, cap, SystemRandom().random)
            if not may_repeat:
                raise error
            if monotonic() + seconds >= deadline:  # this attempt may have been cut short; the one before says more
                raise before if before and isinstance(error, ConnectionFailed) else error
            before = error
            time.sleep(seconds)

    def _attempt(
        self, method: str, resource: str, body: bytes | None, left: float
    ) -> tuple[Any, SendResult | None]:
        """Return the JSON object of an answer; or what an answer means that has none."""
        try:
            answer = self._fetch(method, resource, body, left)
        except ConnectionFailed as error:
            return None, policy.judge(error, 1, wall())
        if 200 <= answer.status < 300:
            if not answer.is_complete:
                return None, policy.judge(ConnectionFailed("the answer broke off"), 1, wall())
            if len(answer.body) >= MAX_FETCHED_BYTES:  # the rest was not read
                too_large = UnknownError(answer.status, f"an answer of {MAX_FETCHED_BYTES} bytes or more")
                return None, SendResult(Outcome.MISCONFIGURED, too_large)
            try:
                content = json.loads(answer.body)
            except (ValueError, RecursionError):
                content = None
            if type(content) is dict:
                return content, None
            key, words = self._options.api_key, answer.words
            words = words if key is None else key.hide_in(words)
            return None, SendResult(Outcome.MISCONFIGURED, UnknownError(answer.status, f"no JSON object: {words}"))
        return None, policy.judge(answer, 1, wall())


def _path(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"name: a value of type {type(name).__name__} should be a str")
    if name in ("", ".", ".."):  # which a URL cannot have
        raise ResourceNotFound(_NOT_FOUND, f"no group {name!r}")
    return f"group/{quote(name, safe='')}/"


def _encode_time(value: Any) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
    raise TypeError(f"a group's definition: a value of type {type(value).__name__} should be one of JSON")


def _parse(read: Callable[[Any], T], content: Any) -> T:
    """Return what is read from JSON; raise UnknownError if it is not of the API."""
    error: FocusLabError
    try:
        return read(content)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as reason:
        error = UnknownError(f"the answer of the server is not as expected: {class_name(reason)}")
    raise error


def _read_groups(content: Any) -> list[Group]:
    return [_read_group(group) for group in content["groups"]]


def _read_group(content: Any) -> Group:
    return Group(
        str(content["name"]),
        dict(content["where"]),
        tuple(map(dict, content["did"])),
        tuple(map(dict, content["did_not"])),
        _read_time(content["created_at"]),
        _read_time(content["updated_at"]),
    )


def _read_page(content: Any) -> tuple[list[Member], str | None]:
    following = content["next"]
    if following is not None:
        if type(following) is not str:
            raise TypeError
        following.encode()  # half a surrogate pair is no text
    return [_read_member(member) for member in content["members"]], following


def _read_member(content: Any) -> Member:
    return Member(
        tuple(map(str, content["actor_ids"])),
        int(content["actors"]),
        {name: tuple(values) for name, values in content["identities"].items()},
        dict(content["attributes"]),
        _read_time(content["first_seen"]),
        _read_time(content["last_seen"]),
        int(content["total"]),
    )


def _read_time(text: Any) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00"))
