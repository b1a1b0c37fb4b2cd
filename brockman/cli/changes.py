"""Changes of triggers, as `--set` and `--unset` give them: `variables.total=12`, `attributes.plan`. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from brockman.cli.conditions import FIELDS, field_of
from brockman.cli.values import parse_value
from brockman.exceptions import ConfigurationError
from brockman.options.fields import show

_PLAIN = (*FIELDS, "recorded_at")  # whose values are text


class Unchangeable(ValueError):
    """Raised for a trigger that cannot be changed; the text says why."""


class Changes:
    """Fields to set and to remove. A value is JSON (`12`, `true`, `"12"`, `["a"]`), or else text."""

    def __init__(self, given: Sequence[str], removed: Sequence[str]) -> None:
        """Parse them; raise ConfigurationError for one that is malformed, or names something else."""
        self._removed = [_field("--unset", text, text) for text in removed]
        self._set = [_parse(text) for text in given]

    def __bool__(self) -> bool:
        return bool(self._removed or self._set)

    def apply(self, trigger: dict[str, Any]) -> dict[str, Any]:
        """Return a changed copy of a trigger.

        Raises:
            Unchangeable: If something else is where an object of values should be.
        """
        changed = dict(trigger)
        for name in self._removed:
            head, dot, key = name.partition(".")
            if not dot:
                changed.pop(head, None)
            elif isinstance(changed.get(head), dict):
                changed[head] = {other: value for other, value in changed[head].items() if other != key}
        for name, value in self._set:
            head, dot, key = name.partition(".")
            if not dot:
                changed[head] = value
            elif isinstance(values := changed.get(head) or {}, dict):
                changed[head] = {**values, key: value}
            else:
                raise Unchangeable(f"{head} is no object; --unset {head} removes it")
        return changed


def _parse(given: str) -> tuple[str, Any]:
    name, equals, text = given.partition("=")
    field = _field("--set", name if equals else "", given)
    if field in _PLAIN:
        return field, text
    value = parse_value(text)
    if "." not in field and not isinstance(value, dict):
        raise ConfigurationError(
            f"--set is {show(given)}; it should have an object, such as {{}}, or name a value"
        )
    return field, value


def _field(option: str, name: str, given: str) -> str:
    name = name.strip()
    field = name if name in _PLAIN else field_of(name, whole=True)
    if field is None:
        wanted = "FIELD=VALUE" if option == "--set" else "FIELD"
        raise ConfigurationError(
            f"{option} is {show(given)}; it should be {wanted} with a FIELD out of {', '.join(_PLAIN)},"
            " identities.NAME, attributes.NAME, variables.NAME"
        )
    return field
