"""A line for each trigger, to be read on a terminal. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brockman.cli.conditions import text_of
from brockman.options.fields import printable

_MAPPINGS = (("", "variables"), ("identities.", "captured_identities"), ("attributes.", "captured_attributes"))
_DIM, _BOLD, _RED, _END = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[0m"


def trigger_line(trigger: Mapping[str, Any], *, has_colours: bool) -> str:
    """Return time, actor, action, object and values; control characters are escaped."""
    what = [_said(trigger.get(name)) for name in ("actor_id", "action", "object")]
    what[1] = _painted(what[1], _BOLD, has_colours)
    return "  ".join(
        [_painted(_said(trigger.get("recorded_at")), _DIM, has_colours), *what, *_values(trigger, has_colours)]
    )


def refusal_line(entry: Mapping[str, Any], *, has_colours: bool) -> str:
    """Return time and reason, then the trigger, or the text if it is none."""
    trigger = entry["trigger"]
    if trigger is None:
        what = [printable(str(entry.get("text") or ""))]
    else:
        what = [_said(trigger.get(name)) for name in ("actor_id", "action", "object") if name in trigger]
        what += _values(trigger, has_colours)
    reason = _painted(printable(entry["reason"]), _RED, has_colours)
    return "  ".join([_painted(_said(entry["received_at"]), _DIM, has_colours), reason, *what])


def _values(trigger: Mapping[str, Any], has_colours: bool) -> list[str]:
    return [
        f"{_painted(f'{prefix}{printable(name)}=', _DIM, has_colours)}{_said(value)}"
        for prefix, mapping in _MAPPINGS
        if isinstance(values := trigger.get(mapping), Mapping)
        for name, value in values.items()
    ]


def _said(value: Any) -> str:
    return printable(text_of(value))


def _painted(text: str, colour: str, has_colours: bool) -> str:
    return f"{colour}{text}{_END}" if has_colours else text
