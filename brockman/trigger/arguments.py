"""The arguments of `record_trigger`: names, types for type checkers, and the hook that changes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Protocol, TypedDict
from uuid import UUID

from brockman.exceptions import ConfigurationError

NAMES = ("actor_id", "action", "obj", "identities", "attributes", "variables")


class HasKey(Protocol):
    """A Django model; its primary key is recorded."""

    pk: Any


class LazyText(Protocol):
    """Text that is translated when it is used, such as Django's `gettext_lazy`: what `%` formats into a str."""

    def __mod__(self, values: Any, /) -> str:
        """Return the text with the values filled in."""


class NumpyScalar(Protocol):
    """A number of numpy's; the Python number that it stands for is recorded."""

    def item(self) -> Any:
        """Return the Python number."""


Text = str | Enum | LazyText
Actor = Text | int | UUID | HasKey | NumpyScalar
Scalar = Actor | float | Decimal | date  # bool is an int, datetime a date
Value = Scalar | None | Sequence[Scalar] | Set[Scalar]
Values = Mapping[str, Value]  # `identities`, `attributes`, `variables`
Arguments = tuple[Any, Any, Any, Any, Any, Any]  # all six, in the order of `NAMES`; not checked yet


class Rest(TypedDict, total=False):
    """The keywords that a call may leave out."""

    actor_id: Actor | None
    identities: Values | None
    attributes: Values | None
    variables: Values | None
    at: datetime | None
    trigger_id: UUID | str | None


def apply_hook(
    before_record: Callable[[dict[str, Any]], Mapping[str, Any] | None], arguments: Arguments
) -> Arguments | None:
    """Return the arguments as the hook changes them; None when it drops the trigger.

    Raises:
        ConfigurationError: When it returns something else.
    """
    changed = before_record(dict(zip(NAMES, arguments, strict=True)))
    if changed is None:
        return None
    if not set(changed) <= set(NAMES):
        raise ConfigurationError(f"before_record should return a dict with the keys {NAMES}, or None")
    actor_id, action, obj, identities, attributes, variables = map(changed.get, NAMES)
    return actor_id, action, obj, identities, attributes, variables
