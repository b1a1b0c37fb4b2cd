"""Conditions on triggers, as `--where` gives them: `action=paid`, `variables.total=12`, `reason~=text`. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from brockman.cli.formats.times import parse_time
from brockman.exceptions import ConfigurationError
from brockman.options.fields import show

FIELDS = ("action", "object", "actor_id", "id")
TIMES = ("since", "until")
_MAPPINGS = {
    **{name: f"captured_{name}" for name in ("identities", "attributes")},
    **{name: name for name in ("captured_identities", "captured_attributes", "variables")},
}
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@dataclass(frozen=True)
class Condition:
    """One condition. A value is compared by its text: that of a string, and the JSON of anything else."""

    name: str  # such as `action`, `since` or `captured_attributes.plan`
    text: str
    is_part: bool = False  # the text is somewhere in the value; A to Z match a to z
    moment: datetime | None = None  # of `since` and `until`

    def matches(self, trigger: Mapping[str, Any], **more: str) -> bool:
        """Return whether a trigger matches; `more` has values that are beside it, such as a reason.

        Of a list any element matches. `since` and `until` need a `recorded_at`.
        """
        if self.moment is not None:
            recorded_at = _time_of(trigger.get("recorded_at"))
            return recorded_at is not None and (recorded_at < self.moment) == (self.name == "until")
        head, dot, key = self.name.partition(".")
        value = (more if head in more else trigger).get(head, ...)
        if dot:
            value = value.get(key, ...) if isinstance(value, Mapping) else ...
        return any(map(self._is_text, value if isinstance(value, list) else [value]))

    def _is_text(self, value: Any) -> bool:
        if value is ...:  # missing
            return False
        text = text_of(value)
        return self.text.lower() in text.lower() if self.is_part else self.text == text


class Conditions:
    """Conditions of which each must hold; none match every trigger."""

    def __init__(self, given: Sequence[str], *, more: Collection[str] = (), option: str = "--where") -> None:
        """Parse them. `more` names what else can be asked for, such as `reason`.

        Raises:
            ConfigurationError: For one that is malformed, or names something else.
        """
        self._conditions = [_parse(text, more, option) for text in given]

    def __bool__(self) -> bool:
        return bool(self._conditions)

    def matches(self, trigger: Mapping[str, Any], **more: str) -> bool:
        return all(condition.matches(trigger, **more) for condition in self._conditions)

    def parameters(self, names: Collection[str]) -> dict[str, str]:
        """Return those that a query of the collector can have, by these names, to leave the rest out early."""
        found: dict[str, str] = {}
        for condition in self._conditions:
            if condition.name in names and not condition.is_part:
                moment = condition.moment
                found.setdefault(condition.name, condition.text if moment is None else moment.isoformat())
        return found


def text_of(value: Any) -> str:
    """Return the text by which a value of JSON is compared."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def field_of(name: str, *, whole: bool = False) -> str | None:
    """Return the name in a trigger's JSON for a field, such as `captured_attributes.plan` for `attributes.plan`.

    None if it is no field. With `whole`, a mapping is one too.
    """
    head, dot, key = name.partition(".")
    if head in _MAPPINGS and (key or (whole and not dot)):
        return f"{_MAPPINGS[head]}{dot}{key}"
    return name if name in FIELDS else None


def check_text(text: str, option: str) -> None:
    """Raise ConfigurationError for a text that is no UTF-8, as Python passes other bytes of a command line on."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{option} is {show(text)}; it should be UTF-8") from None


def _parse(given: str, more: Collection[str], option: str) -> Condition:
    check_text(given, option)
    name, equals, text = given.partition("=")
    is_part = name.endswith("~")
    name = name.removesuffix("~").strip()
    field = name if name in (*TIMES, *more) else field_of(name)
    if not equals or field is None or (is_part and name in TIMES):
        raise ConfigurationError(
            f"{option} is {show(given)}; it should be FIELD=VALUE, or FIELD~=PART, with a FIELD out of"
            f" {', '.join((*FIELDS, *TIMES, *more))}, identities.NAME, attributes.NAME, variables.NAME"
        )
    return _at(name, text, option) if name in TIMES else Condition(field, text, is_part)


def _at(name: str, text: str, option: str) -> Condition:
    try:
        moment = parse_time(f"{text}T00:00:00Z" if _DATE.fullmatch(text.strip()) else text)
    except ValueError as error:
        raise ConfigurationError(f"{option} {name}: {error}") from None
    return Condition(name, text, moment=moment)


def _time_of(value: Any) -> datetime | None:
    try:
        return parse_time(value)
    except ValueError:
        return None
