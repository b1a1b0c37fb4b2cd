"""The message: the arguments of a call become one JSON text, and a worker validates it. No I/O."""

from __future__ import annotations

import math
import re
import uuid
from datetime import datetime
from typing import Any

from brockman.exceptions import InvalidTrigger
from brockman.trigger.encode import check_encoded

_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def bind_arguments(
    actor_id: Any = None,
    action: Any = None,
    obj: Any = None,
    identities: Any = None,
    attributes: Any = None,
    variables: Any = None,
    *,
    at: Any = None,
    trigger_id: Any = None,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of `record_trigger`: the six of the trigger in their order, and its time and id."""
    return (actor_id, action, obj, identities, attributes, variables), {"at": at, "trigger_id": trigger_id}


bind_arguments.__qualname__ = "record_trigger"  # the name in a TypeError


def as_uuid(text: Any) -> str | None:
    """Return a UUID as text, or None for anything else."""
    try:
        return str(uuid.UUID(text))
    except (ValueError, TypeError, AttributeError):
        return None


def parse_time(at: Any) -> Any:
    """Return the datetime that RFC 3339 text stands for, and anything else unchanged."""
    found = _RFC_3339.fullmatch(at) if isinstance(at, str) else None
    if found is None:
        return at
    day, time, fraction, zone = found.groups()
    try:
        return datetime.fromisoformat(
            f"{day}T{time}.{(fraction or '')[:6]:0<6}{zone.upper().replace('Z', '+00:00')}"
        )
    except ValueError:  # such as a 30th of February
        return at


def validate_trigger(trigger: Any) -> bytes:
    """Return a message's trigger as JSON. Whoever has access to the broker may have published anything.

    Raises:
        InvalidTrigger: When it is not one trigger: it would break the batch that it is sent in.
    """
    if not isinstance(trigger, str):
        raise InvalidTrigger(f"the message's trigger is a {type(trigger).__name__}; it should be JSON text")
    body = trigger.encode(errors="surrogatepass")  # which then is no JSON
    try:
        check_encoded(body, math.inf)  # its size is checked when it is recorded
    except InvalidTrigger as error:
        raise InvalidTrigger(f"the message's trigger is wrong: {error}") from None
    return body
