"""Triggers as JSON, one object on each line. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from brockman.cli.arguments import Arguments
from brockman.cli.source import BadLine, Line, Reading, shown

# Each argument of `record_trigger`, and what it may be called on a line.
SPELLINGS = {
    "actor_id": ("actor_id",),
    "action": ("action",),
    "obj": ("object", "obj"),
    "identities": ("identities", "captured_identities"),
    "attributes": ("attributes", "captured_attributes"),
    "variables": ("variables",),
}
# The client stamps every trigger itself: there is no place for what another one has stamped.
IGNORED = frozenset(("id", "recorded_at"))
_KNOWN = IGNORED.union(*SPELLINGS.values())


def read_ndjson(lines: Iterable[Line]) -> Iterator[Reading]:
    """Make triggers of lines. Blank ones are passed over."""
    for number, line in lines:
        if isinstance(line, BadLine):
            yield number, line
        elif line and not line.isspace():
            yield number, parse(line)


def parse(line: str) -> Arguments | BadLine:
    """Make a trigger of one line."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        return BadLine(f"not JSON: {error.msg} at column {error.colno}: {shown(line)}")
    except (ValueError, RecursionError) as error:  # an int of thousands of digits; thousands of brackets
        return BadLine(f"not JSON: {error}")
    if not isinstance(value, dict):
        return BadLine(f"not a JSON object: {shown(line)}")
    unknown = value.keys() - _KNOWN
    if unknown:
        name = shown(min(unknown))
        return BadLine(f"{name} is no field of a trigger; what belongs to it goes into variables")
    return _collect(value)


def _collect(value: dict[str, Any]) -> Arguments | BadLine:
    found = []
    for spellings in SPELLINGS.values():
        present = [name for name in spellings if name in value]
        if len(present) > 1:
            return BadLine(f"{' and '.join(present)} are the same field; give one")
        found.append(value[present[0]] if present else None)
    return Arguments(*found)
