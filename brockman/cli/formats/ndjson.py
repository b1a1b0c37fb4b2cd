"""Parses lines of JSON: each is a trigger. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from brockman.cli.formats.fields import (
    ID_NAMES,
    POSITIONS,
    REQUIRED,
    TIME_NAMES,
    UnreadableField,
    look_up,
    override,
    read_id,
    read_time,
)
from brockman.cli.formats.wrappers import unwrap, unwrap_object
from brockman.cli.source import Arguments, BadLine, excerpt

_REFUSED = {"number", "reason", "received_at", "trigger"}  # of a trigger that a collector has refused
_STAMPS = {*TIME_NAMES, *ID_NAMES}


def parse(line: str, mapping: Mapping[str, str]) -> Arguments | BadLine:
    value = load(line)
    if isinstance(value, BadLine):
        return value
    if "actor_id" not in value and _REFUSED.issubset(value):
        if not isinstance(value["trigger"], dict):
            return BadLine(f"no trigger: {excerpt(str(value['reason']))}")
        value = value["trigger"]
    inner = None if "actor_id" in value or mapping else unwrap_object(value)  # a container's or journald's line
    if inner is not None and inner.startswith("{") and len(inner) < len(line):
        return parse(inner, mapping)
    return parse_object(value, mapping)


def load(line: str) -> dict[str, Any] | BadLine:
    try:
        value = json.loads(line if line[:1] == "{" else unwrap(line))
    except json.JSONDecodeError as error:
        return BadLine(f"not JSON: {error.msg} at column {error.colno}: {excerpt(line)}")
    except (ValueError, RecursionError) as error:  # an int of thousands of digits; thousands of brackets
        return BadLine(f"not JSON: {error}")
    return value if isinstance(value, dict) else BadLine(f"not a JSON object: {excerpt(line)}")


def is_trigger(value: dict[str, Any], mapping: Mapping[str, str]) -> bool:
    """Return whether an object has all that a trigger needs."""
    return all(
        look_up(value, mapping.get(field, field)) is not None or (field == "object" and "obj" in value)
        for field in REQUIRED
    )


def parse_object(value: dict[str, Any], mapping: Mapping[str, str]) -> Arguments | BadLine:
    """Return the trigger of an object. With a mapping, fields of other names are left out."""
    parts: list[Any] = [None] * 6
    has_stamps = False
    for name, item in value.items():
        position = POSITIONS.get(name)
        if position is None:
            if name in _STAMPS:
                has_stamps = True
            elif not mapping:
                return BadLine(
                    f"{excerpt(name)} is not a field of a trigger; put it into variables, or give --map FIELD=NAME"
                )
        elif parts[position] is not None:
            first, second = (found for found in POSITIONS if POSITIONS[found] == position and found in value)
            return BadLine(f"{first} and {second} are the same field; give one")
        else:
            parts[position] = item
    if not has_stamps and not mapping:
        return Arguments(*parts)
    try:
        at = None if "time" in mapping else read_time(value)
        trigger = Arguments(*parts)._replace(at=at, trigger_id=None if "id" in mapping else read_id(value))
        return override(trigger, value, mapping) if mapping else trigger
    except UnreadableField as error:
        return BadLine(str(error))
