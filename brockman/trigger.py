"""One trigger: from the arguments of `record_trigger` to the JSON bytes that go over the wire.

No I/O, no threads; id and time are passed in. Encoding happens once, here; everything behind it moves bytes.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from brockman.exceptions import InvalidTrigger
from brockman.fitting import class_name, fit_actor, fit_mapping, fit_name
from brockman.interpreter import in_sub_interpreter

try:
    if in_sub_interpreter():  # it refuses to be loaded there or, before 3.12, spoils it for the main one
        raise ImportError
    import orjson
except ImportError:  # no wheel for this interpreter
    orjson = None  # type: ignore[assignment]
else:
    _ORJSON_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z


def encode_trigger(
    actor_id: Any,
    action: Any,
    obj: Any,
    identities: Any,
    attributes: Any,
    variables: Any,
    trigger_id: str,
    recorded_at: datetime,
    max_bytes: int,
) -> bytes:
    """Return the JSON object of a trigger.

    Args:
        actor_id, action, obj, identities, attributes, variables: As `record_trigger` takes them.
        trigger_id: A UUID as text.
        recorded_at: When it was recorded, in UTC.
        max_bytes: How long the JSON may be.

    Raises:
        InvalidTrigger: Naming the path, the value and what would be right.
    """
    body = None
    if (
        orjson is not None
        and type(action) is str
        and type(obj) is str
        and (type(actor_id) is int or (type(actor_id) is str and actor_id.strip()))
        and action.strip()
        and obj.strip()
        and _are_plain(identities, attributes, variables)
        and recorded_at.microsecond  # orjson leaves out a fraction of zero
    ):
        try:
            body = _encode(str(actor_id), action, obj, identities, attributes, variables, trigger_id, recorded_at)
        except (TypeError, ValueError):  # an int of too many digits, a lone surrogate, a key that is no str, a
            body = None  # clock frozen by a test: the path below makes it fit, or says what is wrong
    if body is None:
        fitted = _fit(actor_id, action, obj, identities, attributes, variables)
        moment = recorded_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        body = _encode(*fitted, trigger_id, moment)
    if len(body) > max_bytes:
        raise InvalidTrigger(f"the trigger is {len(body)} bytes long; it should be at most {max_bytes}")
    return body


def _fit(
    actor_id: Any, action: Any, obj: Any, identities: Any, attributes: Any, variables: Any
) -> tuple[str, str, str, dict[str, Any], dict[str, Any], dict[str, Any]]:
    try:
        return (
            fit_actor(actor_id),
            fit_name(action, "action"),
            fit_name(obj, "obj"),
            fit_mapping(identities, "identities"),
            fit_mapping(attributes, "attributes"),
            fit_mapping(variables, "variables"),
        )
    except InvalidTrigger:
        raise
    except Exception as error:  # foreign code can hide anywhere, even in a property called __class__
        raise InvalidTrigger(f"reading the arguments raised {class_name(error)}") from None


def _are_plain(identities: Any, attributes: Any, variables: Any) -> bool:
    """Return whether each is None, or a dict whose values need no fitting."""
    try:
        for mapping in (identities, attributes, variables):
            if mapping is None:
                continue
            if type(mapping) is not dict:
                return False
            for value in mapping.values():
                kind = type(value)
                if kind is str or kind is int:
                    continue
                if kind is list:
                    for item in value:
                        kind = type(item)
                        if not (kind is str or kind is int or kind is bool):
                            return False
                elif not (kind is bool or (kind is float and value - value == 0.0)):  # neither nan nor infinite
                    return False
    except RuntimeError:  # changed by another thread meanwhile
        return False
    return True


def _encode(
    actor_id: str,
    action: str,
    obj: str,
    identities: Any,
    attributes: Any,
    variables: Any,
    trigger_id: str,
    recorded_at: datetime | str,
) -> bytes:
    """Return the JSON object as the API spells it, in a bytes object of its own size. Empty fields are left out.

    What `orjson.dumps` returns keeps the 4 KB it was written into; cutting off the newline makes a copy of
    its own size (tests/benchmarks/record.py prints what each keeps).

    Raises:
        TypeError: For a key that is not str, an int beyond 64 bits, a lone surrogate, as far as orjson is there.
    """
    wire: dict[str, Any] = {"actor_id": actor_id, "action": action, "object": obj}
    if identities:
        wire["captured_identities"] = identities
    if attributes:
        wire["captured_attributes"] = attributes
    if variables:
        wire["variables"] = variables
    wire["id"] = trigger_id
    wire["recorded_at"] = recorded_at
    if orjson is None:  # only what `fitting` made comes here: the standard library does not check 64 bits
        return json.dumps(wire, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return orjson.dumps(wire, None, _ORJSON_OPTIONS)[:-1]
