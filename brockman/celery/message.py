"""The message: the arguments of a call become one JSON text, and a worker validates it. No I/O."""

from __future__ import annotations

import math
import uuid
from typing import Any

from brockman.exceptions import InvalidTrigger
from brockman.trigger.encode import check_encoded


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
    body = trigger.encode(errors="surrogatepass")  # which then is no JSON
    try:
        check_encoded(body, math.inf)  # its size is checked when it is recorded
    except InvalidTrigger as error:
        raise InvalidTrigger(f"the message's trigger is wrong: {error}") from None
    return body
