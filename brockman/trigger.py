"""One trigger: from the arguments of `record_trigger` to the JSON bytes that go over the wire.

No I/O, no threads; id and time are passed in. Encoding happens once, here; everything behind it moves bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from brockman.exceptions import InvalidTrigger
from brockman.fitting import fit_actor, fit_mapping, fit_name

Encode = Callable[[dict[str, Any]], bytes]

try:
    import orjson
except ImportError:  # no wheel for this interpreter
    orjson = None  # type: ignore[assignment]

# Types that need no look inside: orjson itself refuses what is wrong in them (64 bits, lone surrogates).
_PLAIN = frozenset((str, int, bool))


def encode_with_orjson(wire: dict[str, Any]) -> bytes:
    """Return JSON, in a bytes object of its own size.

    What `orjson.dumps` returns keeps the 4 KB it was written into; cutting off the newline makes a copy that
    keeps 65 bytes beside its text (tests/benchmarks/record.py prints both).
    """
    return orjson.dumps(wire, None, orjson.OPT_APPEND_NEWLINE)[:-1]


def encode_with_json(wire: dict[str, Any]) -> bytes:
    """Return the same with the standard library. Only for what `fitting` made: it does not check 64 bits."""
    return json.dumps(wire, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def encode_trigger(
    actor_id: Any,
    action: Any,
    obj: Any,
    identities: Any,
    attributes: Any,
    variables: Any,
    *,
    trigger_id: str,
    recorded_at: str,
    max_bytes: int,
) -> bytes:
    """Return the JSON object of a trigger.

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
        and (identities is None or _is_plain(identities))
        and (attributes is None or _is_plain(attributes))
        and (variables is None or _is_plain(variables))
    ):
        try:
            body = encode_with_orjson(
                _wire(str(actor_id), action, obj, identities, attributes, variables, trigger_id, recorded_at)
            )
        except (TypeError, ValueError):  # an int of too many digits, a lone surrogate, a key that is no str:
            body = None  # the path below makes it fit, or says what is wrong
    if body is None:
        fitted = _fit(actor_id, action, obj, identities, attributes, variables)
        wire = _wire(*fitted, trigger_id, recorded_at)
        body = encode_with_json(wire) if orjson is None else encode_with_orjson(wire)
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
        raise InvalidTrigger(f"reading the arguments raised {type(error).__name__}") from None


def _is_plain(mapping: Any) -> bool:
    """Return whether a mapping is a dict of values that need no fitting."""
    if type(mapping) is not dict:
        return False
    try:
        for value in mapping.values():
            kind = type(value)
            if kind in _PLAIN or (kind is float and value - value == 0.0):  # neither nan nor infinite
                continue
            if kind is list and _PLAIN.issuperset(map(type, value)):
                continue
            return False
    except RuntimeError:  # changed by another thread meanwhile
        return False
    return True


def _wire(
    actor_id: str,
    action: str,
    obj: str,
    identities: Any,
    attributes: Any,
    variables: Any,
    trigger_id: str,
    recorded_at: str,
) -> dict[str, Any]:
    """Return the object as the API spells it: a field that is empty is left out."""
    wire: dict[str, Any] = {"actor_id": actor_id, "action": action, "object": obj}
    if identities:
        wire["captured_identities"] = identities
    if attributes:
        wire["captured_attributes"] = attributes
    if variables:
        wire["variables"] = variables
    wire["id"] = trigger_id
    wire["recorded_at"] = recorded_at
    return wire
