"""The message: the arguments of a call become one JSON text, and a worker validates it. No I/O."""

from __future__ import annotations

import json
import uuid
from typing import Any, NoReturn

from brockman.exceptions import InvalidTrigger

_REQUIRED = ("id", "actor_id", "action", "object")


def bind_arguments(
    actor_id: Any, action: Any, obj: Any, identities: Any = None, attributes: Any = None, variables: Any = None
) -> tuple[Any, ...]:
    """Return the arguments of `record_trigger` in their order."""
    return actor_id, action, obj, identities, attributes, variables


bind_arguments.__qualname__ = "record_trigger"  # the name in a TypeError


def as_uuid(text: Any) -> str | None:
    """Return a UUID as text, or None for anything else."""
    try:
        return str(uuid.UUID(text))
    except (ValueError, TypeError, AttributeError):
        return None


def validate_trigger(trigger: Any) -> bytes:
    """Return a message's trigger as JSON. Whoever has access to the broker may have published anything.

    Raises:
        InvalidTrigger: When it is not one trigger: it would break the batch that it is sent in.
    """
    if not isinstance(trigger, str):
        raise InvalidTrigger(f"the message's trigger is a {type(trigger).__name__}; it should be JSON text")
    try:
        content = json.loads(trigger, parse_constant=_reject_constant)
        body = trigger.encode()
    except (ValueError, RecursionError) as error:
        raise InvalidTrigger(f"the message's trigger is not JSON: {error}"[:300]) from None
    if not isinstance(content, dict) or not all(isinstance(content.get(name), str) for name in _REQUIRED):
        raise InvalidTrigger(f"the message's trigger is not complete: {trigger[:100]!r}")
    return body


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
