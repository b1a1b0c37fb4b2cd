"""The user's hook before a trigger is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from brockman.exceptions import ConfigurationError

if TYPE_CHECKING:
    from brockman.delivery.pipeline import Pipeline

_ARGUMENTS = ("actor_id", "action", "obj", "identities", "attributes", "variables")


def call_before_record(
    hook: Callable[[dict[str, Any]], dict[str, Any] | None], values: tuple[Any, ...], pipeline: Pipeline
) -> tuple[Any, ...] | None:
    """Return the arguments of `record_trigger` as the hook wants them, or None when it keeps the trigger back.

    That is counted as `filtered`. A hook that raises drops the trigger too (`hook_failed`): it may be there to
    take personal data out.
    """
    try:
        changed = hook(dict(zip(_ARGUMENTS, values, strict=True)))
        if changed is not None and set(changed) <= set(_ARGUMENTS):
            return tuple(changed.get(name) for name in _ARGUMENTS)
        if changed is not None:
            raise ConfigurationError(f"before_record should return a dict with the keys {_ARGUMENTS}, or None")
    except Exception as error:
        pipeline.callbacks.failed("before_record", error)
        pipeline.drop("hook_failed")
        return None
    pipeline.drop("filtered")
    return None
