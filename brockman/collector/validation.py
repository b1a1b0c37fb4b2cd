"""Validation of one trigger. No I/O.

Unknown fields are stored as they are, so that newer clients work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from brockman.collector import strict_json
from brockman.collector.timestamps import format_timestamp, parse_timestamp

MAX_ERROR_CHARS = 100
_REQUIRED = ("actor_id", "action", "object")
_MAPPINGS = ("captured_identities", "captured_attributes", "variables")
_SCALARS = frozenset((str, int, float, bool))
_are_scalars = _SCALARS.issuperset
_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_32_HEX = re.compile(r"[0-9a-f]{32}")
_TYPE_NAMES = {
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    list: "a list",
    dict: "an object",
    type(None): "null",
}

# id, actor_id, action, object, recorded_at and received_at in microseconds since 1970, the trigger's JSON text
Row = tuple[str, str, str, str, int, int, str]


class InvalidTrigger(Exception):
    """Raised when a trigger is rejected. The text names path, value and remedy in at most `MAX_ERROR_CHARS`.

    It has no quotation marks, backslashes or control characters, so that JSON does not make it longer.
    """

    def __init__(self, path: str, found: str, wanted: str) -> None:
        remedy = f": {found}; {wanted}"
        super().__init__(_cut(path, MAX_ERROR_CHARS - len(remedy)) + remedy)


def make_row(trigger: Any, received_at: int, new_id: Callable[[], str]) -> Row:
    """Return the row to store for one trigger; InvalidTrigger has the text for the client.

    A missing `id` or `recorded_at` is added in place, so it is in the stored JSON. In an optional field null means
    missing.
    """
    if type(trigger) is not dict:
        raise InvalidTrigger("trigger", _type_name(trigger), "give an object")
    get = trigger.get
    actor_id, action, obj = get("actor_id"), get("action"), get("object")
    if not (
        type(actor_id) is type(action) is type(obj) is str and actor_id.strip() and action.strip() and obj.strip()
    ):
        raise _explain_required(trigger)
    for name in _MAPPINGS:
        mapping = get(name)
        if mapping is not None and not (
            type(mapping) is dict and (_are_scalars(map(type, mapping.values())) or _is_flat(mapping))
        ):
            raise _explain_mapping(name, mapping)
    trigger_id = get("id")
    if type(trigger_id) is not str or _CANONICAL_UUID.fullmatch(trigger_id) is None:
        trigger_id = trigger["id"] = new_id() if trigger_id is None else _canonical_id(trigger_id)
    recorded_at = _recorded_at(trigger, received_at)
    try:
        text = strict_json.dump(trigger)
    except ValueError:
        raise InvalidTrigger("trigger", "nested too deeply", "give flat mappings") from None
    return trigger_id, actor_id, action, obj, recorded_at, received_at, text


def parse_uuid(text: str) -> str | None:
    """Return a UUID as lower-case text with hyphens, or None if it is not one."""
    digits = text.lower().removeprefix("urn:uuid:").strip("{}").replace("-", "")
    if _32_HEX.fullmatch(digits) is None:
        return None
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _canonical_id(value: Any) -> str:
    canonical = parse_uuid(value) if type(value) is str else None
    if canonical is None:
        raise InvalidTrigger("id", _quoted(value), "give a UUID, the same on every attempt")
    return canonical


def _recorded_at(trigger: dict[str, Any], received_at: int) -> int:
    value = trigger.get("recorded_at")
    if value is None:
        trigger["recorded_at"] = format_timestamp(received_at)
        return received_at
    micros = parse_timestamp(value) if type(value) is str else None
    if micros is None:
        raise InvalidTrigger("recorded_at", _quoted(value), "give RFC 3339, as 2026-11-23T17:22:32Z")
    return micros


def _is_flat(mapping: Mapping[str, Any]) -> bool:
    for value in mapping.values():
        kind = type(value)
        if kind not in _SCALARS and not (kind is list and _are_scalars(map(type, value))):
            return False
    return True


def _explain_required(trigger: Mapping[str, Any]) -> InvalidTrigger:
    for name in _REQUIRED:
        value = trigger.get(name)
        if type(value) is not str or not value.strip():
            found = "empty" if type(value) is str else _type_name(value) if name in trigger else "missing"
            return InvalidTrigger(name, found, "give a string that is not empty")
    raise AssertionError("called for a valid trigger")


def _explain_mapping(name: str, mapping: Any) -> InvalidTrigger:
    if type(mapping) is not dict:
        return InvalidTrigger(name, _type_name(mapping), "give an object")
    for key, value in mapping.items():
        path = f"{name}['{_plain(key)}']"
        if type(value) is list:
            for position, element in enumerate(value):
                if type(element) not in _SCALARS:
                    return InvalidTrigger(
                        f"{path}[{position}]", _type_name(element), "give a string, number or boolean"
                    )
        elif type(value) not in _SCALARS:
            return InvalidTrigger(path, _type_name(value), "give a string, number, boolean or list of these")
    raise AssertionError("called for a valid mapping")


def _type_name(value: Any) -> str:
    return _TYPE_NAMES[type(value)]


def _quoted(value: Any) -> str:
    return f"'{_cut(_plain(value), 20)}'" if type(value) is str else _type_name(value)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() and c not in '"\\' else "?" for c in text[:MAX_ERROR_CHARS])


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
