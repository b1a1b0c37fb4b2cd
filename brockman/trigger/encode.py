"""Encode the arguments of `record_trigger` as the JSON object of the API, once: everything after it moves bytes.

No I/O, no threads; id and time are passed in.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from brockman.exceptions import InvalidTrigger
from brockman.process.interruption import is_interruption
from brockman.process.threads import in_sub_interpreter
from brockman.trigger.coerce import coerce_actor_id, coerce_mapping, coerce_text

try:
    if in_sub_interpreter():  # orjson fails to import or, before 3.12, breaks in the main one
        raise ImportError
    import orjson
except ImportError:  # no wheel for this interpreter
    orjson = None  # type: ignore[assignment]
else:
    _ORJSON_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z


class _NeedsCoercion(ValueError):
    """Raised on the fast path for a value that is not plain."""


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
        actor_id, action, obj, identities, attributes, variables: As in `record_trigger`.
        trigger_id: A UUID as text.
        recorded_at: The time of recording, in UTC.
        max_bytes: The limit for the JSON.

    Raises:
        InvalidTrigger: With the path, the value and what would be right.
    """
    body = None
    if (
        orjson is not None
        and type(action) is str
        and type(obj) is str
        and (type(actor_id) is int or (type(actor_id) is str and actor_id.strip()))
        and action.strip()
        and obj.strip()
    ):
        # One long function, because each call costs time: tests/test_cost.py counts them, and
        # tests/benchmarks/record.py prints the price of one.
        try:
            for mapping in (identities, attributes, variables):
                if mapping is None:
                    continue
                if type(mapping) is not dict:
                    raise _NeedsCoercion
                for value in mapping.values():
                    kind = type(value)
                    if kind is str or kind is int:
                        continue
                    if kind is list:
                        for item in value:
                            kind = type(item)
                            if not (kind is str or kind is int or kind is bool):
                                raise _NeedsCoercion
                    elif not (kind is bool or (kind is float and value - value == 0.0)):  # nan, or infinite
                        raise _NeedsCoercion
            wire = {
                "actor_id": str(actor_id),
                "action": action,
                "object": obj,
                "captured_identities": identities,
                "captured_attributes": attributes,
                "variables": variables,
                "id": trigger_id,
                # orjson leaves out a fraction of zero.
                "recorded_at": recorded_at if recorded_at.microsecond else format_time(recorded_at),
            }
            if not identities:  # empty fields are left out
                del wire["captured_identities"]
            if not attributes:
                del wire["captured_attributes"]
            if not variables:
                del wire["variables"]
            # `dumps` returns an object that keeps its 4 KB of working memory; the slice without the newline is a
            # copy of the right size (tests/benchmarks/record.py prints both).
            body = orjson.dumps(wire, None, _ORJSON_OPTIONS)[:-1]
        except (TypeError, ValueError, RuntimeError) as error:
            # A key that is not a str, a lone surrogate, a dict that changes, a clock frozen by a test.
            if is_interruption(error):
                raise
    if body is None:
        wire = coerce_trigger(actor_id, action, obj, identities, attributes, variables)
        body = _dumps({**wire, "id": trigger_id, "recorded_at": format_time(recorded_at)})
    if len(body) > max_bytes:
        raise InvalidTrigger(f"the trigger is {len(body)} bytes long; it should be at most {max_bytes}")
    return body


@lru_cache(maxsize=16)  # a log has many lines of one second
def format_time(moment: datetime) -> str:
    """Return a time in UTC as RFC 3339 with microseconds."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def check_encoded(body: object, max_bytes: float) -> None:
    """Refuse what is not one trigger as `encode_trigger` makes it: it would break the batch that it is sent in.

    Raises:
        InvalidTrigger: With what is wrong, and what would be right.
    """
    if not isinstance(body, bytes):
        raise InvalidTrigger(f"body: a {type(body).__name__} should be the bytes of `encode_trigger`")
    if len(body) > max_bytes:
        raise InvalidTrigger(f"body: the trigger is {len(body)} bytes long; it should be at most {max_bytes}")
    try:
        content = _loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidTrigger(f"body: {_shown(body)} is not JSON ({error}); {_ONE_OBJECT}") from None
    if type(content) is not dict:
        raise InvalidTrigger(f"body: {_shown(body)} is JSON, but no object; {_ONE_OBJECT}")
    for name in _REQUIRED:
        text = content.get(name)
        if type(text) is not str or not text.strip():
            raise InvalidTrigger(f"body: {name!r} in {_shown(body)} should be a str that is not empty")
    if b"\n" in body or b"\r" in body:
        raise InvalidTrigger(f"body: {_shown(body)} should be one line, as `encode_trigger` returns it")


def _loads_strictly(body: bytes) -> Any:
    """Return what JSON holds, by the rules of orjson: UTF-8 only, no NaN, no lone surrogates."""
    content = json.loads(body.decode(), parse_constant=_reject_constant)
    json.dumps(content, ensure_ascii=False).encode()
    return content


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _shown(body: bytes) -> str:
    return repr(body if len(body) <= 60 else body[:60] + b"...")


_loads = _loads_strictly if orjson is None else orjson.loads
_REQUIRED = ("id", "actor_id", "action", "object")
_ONE_OBJECT = "it should be one JSON object, as `encode_trigger` returns it"


def coerce_trigger(
    actor_id: Any, action: Any, obj: Any, identities: Any, attributes: Any, variables: Any
) -> dict[str, Any]:
    """Return a trigger as a dict for JSON, without id and time.

    Raises:
        InvalidTrigger: With the path, the value and what would be right.
    """
    fields = {
        "actor_id": coerce_actor_id(actor_id),
        "action": coerce_text(action, "action"),
        "object": coerce_text(obj, "obj"),
        "captured_identities": coerce_mapping(identities, "identities"),
        "captured_attributes": coerce_mapping(attributes, "attributes"),
        "variables": coerce_mapping(variables, "variables"),
    }
    return {name: value for name, value in fields.items() if value}  # empty fields are left out


def _dumps(wire: dict[str, Any]) -> bytes:
    if orjson is None:
        return json.dumps(wire, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return orjson.dumps(wire, None, _ORJSON_OPTIONS)[:-1]
