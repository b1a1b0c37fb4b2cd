"""One trigger: from the arguments of `record_trigger` to the JSON bytes that go over the wire.

No I/O, no threads; id and time are passed in. Encoding happens once, here; everything behind it moves bytes.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from brockman.exceptions import InvalidTrigger
from brockman.process.threads import in_sub_interpreter
from brockman.trigger.coerce import class_name, fit_actor, fit_mapping, fit_name

try:
    if in_sub_interpreter():  # it refuses to be loaded there or, before 3.12, spoils it for the main one
        raise ImportError
    import orjson
except ImportError:  # no wheel for this interpreter
    orjson = None  # type: ignore[assignment]
else:
    _ORJSON_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z


class _NeedsFitting(ValueError):
    """Raised out of the short path for what is not plain."""


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
        and recorded_at.microsecond  # orjson leaves out a fraction of zero
    ):
        # In one piece, where two functions would read better: tests/test_cost.py counts the calls, and
        # tests/benchmarks/record.py prints what one costs.
        try:
            for mapping in (identities, attributes, variables):
                if mapping is None:
                    continue
                if type(mapping) is not dict:
                    raise _NeedsFitting
                for value in mapping.values():
                    kind = type(value)
                    if kind is str or kind is int:
                        continue
                    if kind is list:
                        for item in value:
                            kind = type(item)
                            if not (kind is str or kind is int or kind is bool):
                                raise _NeedsFitting
                    elif not (kind is bool or (kind is float and value - value == 0.0)):  # nan, or infinite
                        raise _NeedsFitting
            wire = {
                "actor_id": str(actor_id),
                "action": action,
                "object": obj,
                "captured_identities": identities,
                "captured_attributes": attributes,
                "variables": variables,
                "id": trigger_id,
                "recorded_at": recorded_at,
            }
            if not identities:  # empty fields are left out
                del wire["captured_identities"]
            if not attributes:
                del wire["captured_attributes"]
            if not variables:
                del wire["variables"]
            # What `dumps` returns keeps the 4 KB it was written into; cutting off the newline makes a copy of its
            # own size (tests/benchmarks/record.py prints what each keeps).
            body = orjson.dumps(wire, None, _ORJSON_OPTIONS)[:-1]
        except (TypeError, ValueError, RuntimeError):
            body = None  # a key that is no str, a lone surrogate, a dict that changes, a clock frozen by a test
    if body is None:
        fitted = _fit(actor_id, action, obj, identities, attributes, variables)
        moment = recorded_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        body = _encode_fitted(*fitted, trigger_id, moment)
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


def _encode_fitted(
    actor_id: str,
    action: str,
    obj: str,
    identities: dict[str, Any],
    attributes: dict[str, Any],
    variables: dict[str, Any],
    trigger_id: str,
    recorded_at: str,
) -> bytes:
    """Return the JSON object as the API spells it, from what fits. Empty fields are left out."""
    wire: dict[str, Any] = {"actor_id": actor_id, "action": action, "object": obj}
    if identities:
        wire["captured_identities"] = identities
    if attributes:
        wire["captured_attributes"] = attributes
    if variables:
        wire["variables"] = variables
    wire["id"] = trigger_id
    wire["recorded_at"] = recorded_at
    if orjson is None:
        return json.dumps(wire, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return orjson.dumps(wire, None, _ORJSON_OPTIONS)[:-1]
