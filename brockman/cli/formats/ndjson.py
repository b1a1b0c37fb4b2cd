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
from brockman.cli.source import Arguments, BadLine, excerpt

_KNOWN = {*POSITIONS, *TIME_NAMES, *ID_NAMES}


def parse(line: str, mapping: Mapping[str, str]) -> Arguments | BadLine:
    value = load(line)
    return value if isinstance(value, BadLine) else parse_object(value, mapping)


def load(line: str) -> dict[str, Any] | BadLine:
    try:
        value = json.loads(line.lstrip("\0\ufeff"))
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
    unknown = value.keys() - _KNOWN
    if unknown and not mapping:
        return BadLine(
            f"{excerpt(min(unknown))} is not a field of a trigger; put it into variables, or give --map FIELD=NAME"
        )
    names: dict[int, str] = {}
    for name, position in POSITIONS.items():
        if name in value:
            if position in names:
                return BadLine(f"{names[position]} and {name} are the same field; give one")
            names[position] = name
    parts = (value[names[position]] if position in names else None for position in range(6))
    try:
        at = None if "time" in mapping else read_time(value)
        trigger = Arguments(*parts)._replace(at=at, trigger_id=None if "id" in mapping else read_id(value))
        return override(trigger, value, mapping) if mapping else trigger
    except UnreadableField as error:
        return BadLine(str(error))
