"""Names of a trigger's fields in files, its id and its time. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from brockman.cli.formats.times import parse_time
from brockman.cli.source import MAX_LINE_BYTES, Arguments, excerpt
from brockman.exceptions import ConfigurationError

# What a field may be called, and its position among the arguments of `record_trigger`.
POSITIONS = {
    "actor_id": 0,
    "action": 1,
    "object": 2,
    "obj": 2,
    "identities": 3,
    "captured_identities": 3,
    "attributes": 4,
    "captured_attributes": 4,
    "variables": 5,
}
REQUIRED = ("actor_id", "action", "object")
TIME_NAMES = ("recorded_at", "timestamp", "time")
ID_NAMES = ("id", "message_id", "messageId", "uuid")

T = TypeVar("T")


class UnreadableField(ValueError):
    """A field of one line that has no such value; the text is for the user."""


def check_mapping(mapping: Mapping[str, str]) -> None:
    """Raise ConfigurationError if `--map` names something that is no field of a trigger."""
    for field, name in mapping.items():
        head, dot, key = field.partition(".")
        is_value = POSITIONS.get(head, 0) >= 3 and (key or not dot)
        if not name or not (is_value or field in (*REQUIRED, "time", "id")):
            raise ConfigurationError(
                f"--map has {excerpt(f'{field}={name}')}; it should be FIELD=NAME with a FIELD out of"
                f" {', '.join(REQUIRED)}, time, id, identities.NAME, attributes.NAME, variables.NAME"
            )


def look_up(values: Mapping[str, Any], name: str) -> Any:
    """Return a value by its name, also by that of a nested one such as `user.id`; None if there is none."""
    if name in values:
        return values[name]
    found: Any = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of another tracker's object as a trigger has them: those of objects in it as `cart.total`.

    Raises:
        UnreadableField: If their names get too long.
    """
    flat: dict[str, Any] = {}
    objects, length = [("", values)], 0
    while objects:
        prefix, part = objects.pop()
        length += len(prefix) * len(part)
        if length > MAX_LINE_BYTES:
            raise UnreadableField("the names of objects within objects are too long")
        for name, value in part.items():
            if isinstance(value, dict):
                objects.append((f"{prefix}{name}.", value))
            else:
                flat[prefix + name] = value
    return flat


def read_time(values: Mapping[str, object], names: Sequence[str] = TIME_NAMES) -> datetime | None:
    """Return the time among the values, or None.

    Raises:
        UnreadableField: If it is not a time, or if two names beside the first one have different times.
    """
    return _read(values, names, parse_time, "time")


def read_id(values: Mapping[str, Any], names: Sequence[str] = ID_NAMES) -> str | None:
    """Return the id among the values as text, or None. Raises like `read_time`."""
    return _read(values, names, _parse_id, "id")


def _read(values: Mapping[str, object], names: Sequence[str], parse: Callable[[Any], T], field: str) -> T | None:
    given = [name for name in names if values.get(name) not in (None, "")]
    if not given:
        return None
    first = given[0]
    try:
        found = parse(values[first])
        if first not in (TIME_NAMES[0], ID_NAMES[0]):  # these are ours
            for other in given[1:]:
                if parse(values[other]) != found:
                    raise UnreadableField(f"{first} and {other} differ; choose one with --map {field}={first}")
    except UnreadableField:
        raise
    except ValueError as error:
        raise UnreadableField(f"{first}: {error}") from None
    return found


def _parse_id(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"{excerpt(str(value))} is not an id; it should be a UUID or another text")
    text = str(value).strip()
    return text if text.strip("0-") or len(text) < 32 else None  # the nil UUID is no id


def override(trigger: Arguments, values: Mapping[str, Any], mapping: Mapping[str, str]) -> Arguments:
    """Return the trigger with the fields that a mapping takes from the values of its line.

    Raises:
        UnreadableField: If a value is missing that the trigger needs, or the time is not one.
    """
    parts: list[Any] = list(trigger[:6])
    at = trigger.at
    for field, name in mapping.items():
        value = look_up(values, name)
        is_empty = value is None or value == ""
        head, _, key = field.partition(".")
        position = POSITIONS.get(head, -1)
        if is_empty and (position in (0, 1, 2) or field == "time"):
            raise UnreadableField(f"there is no {excerpt(name)}, which --map has for {field}")
        if field == "time":
            at = read_time({name: value}, [name])
        elif position >= 0 and not key:
            parts[position] = flatten(value) if isinstance(value, dict) else value
        elif key and not is_empty:
            values_before = parts[position] or {}
            if not isinstance(values_before, dict):
                raise UnreadableField(f"{head} is {excerpt(str(values_before))}; it should be an object")
            parts[position] = {**values_before, key: value}
    own_id = read_id({mapping["id"]: look_up(values, mapping["id"])}, [mapping["id"]]) if "id" in mapping else None
    return Arguments(*parts)._replace(at=at, trigger_id=own_id or trigger.trigger_id)
