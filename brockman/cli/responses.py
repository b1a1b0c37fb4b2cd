"""The fields of a collector's responses that commands read, and their types. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]
_DIGITS = re.compile(r"[0-9]{1,19}")


def find_wrong_field(method: str, path: str, content: Any) -> str | None:
    """Return the name of a field that a response should have; None if all are there."""
    for name, is_right in _FIELDS[method, path].items():
        if type(content) is not dict or name not in content or not is_right(content[name]):
            return name
    return None


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _is_cursor(value: Any) -> bool:
    return type(value) is str and _DIGITS.fullmatch(value) is not None


def _is_cursor_or_none(value: Any) -> bool:
    return value is None or _is_cursor(value)


def _is_object(value: Any) -> bool:
    return type(value) is dict


def _is_refusal(value: Any) -> bool:
    return (
        type(value) is dict
        and _is_count(value.get("number"))
        and _is_text(value.get("reason"))
        and _is_text(value.get("received_at"))
        and ("trigger" in value and (value["trigger"] is None or _is_object(value["trigger"])))
    )


def _are(is_right: Check) -> Check:
    return lambda values: type(values) is list and all(map(is_right, values))


_FIELDS: Mapping[tuple[str, str], Mapping[str, Check]] = {
    ("GET", "trigger/"): {"triggers": _are(_is_object), "next": _is_cursor_or_none, "newest": _is_cursor},
    ("GET", "stats/"): {"triggers": _is_count},
    ("GET", "refused/"): {
        "refused": _are(_is_refusal),
        "total": _is_count,
        "next": _is_cursor_or_none,
        "newest": _is_cursor,
    },
    ("DELETE", "refused/"): {"removed": _is_count},
    ("DELETE", "person/"): {
        "triggers": _is_count,
        "actors": _is_count,
        "identities": _is_count,
        "actor_ids": _are(_is_text),
        "overwritten": _is_flag,
    },
}
