"""The definition of a group: JSON that says which people belong to it. No I/O.

    {"where": {"attributes.plan": "pro", "identities.email": {"contains": "@example.com"}},
     "did": [{"action": "viewed", "object": "pricing", "times": 3, "within_days": 30}],
     "did_not": [{"action": "paid"}]}

A person has to meet all of it; an empty definition is everybody. Sizes are bounded: each clause costs a query.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from brockman.collector.timestamps import parse_timestamp

MAX_NAME, MAX_KEY, MAX_TEXT = 100, 200, 1000  # characters: of a group's name, of a key, of a text
MAX_CONDITIONS, MAX_CLAUSES, MAX_VALUES = 20, 10, 100
MAX_TIMES, MAX_DAYS = 1_000_000, 36_500
DAY = 86_400_000_000  # microseconds
_PLACES = ("attributes", "identities")
_CLAUSE = ("action", "object", "times", "within_days", "since", "until")
_OPERATORS = {  # texts are not compared with numbers
    "attributes": ("not", "at_least", "at_most", "contains", "exists"),
    "variables": ("not", "at_least", "at_most", "contains", "exists"),
    "identities": ("not", "contains", "exists"),
    "actor_id": ("not", "contains"),
}
_NUMBERS = (int, float)

Scalar = str | int | float | bool


class InvalidGroup(ValueError):
    """Raised when a name or a definition is wrong. The text has the path, the value, and what would be right."""

    def __init__(self, path: str, value: Any, wanted: str) -> None:
        super().__init__(f"{_plain(path)[:120]}: {_shown(value)} should be {wanted}")


@dataclass(frozen=True, slots=True)
class Condition:
    """A test for the values that a person, or a trigger, has under a name. One that passes is enough.

    Exactly one of `equals`, `contains`, `low` with `high`, or none of them, which every value passes.
    """

    place: str  # "attributes", "identities", "actor_id" or "variables"
    name: str  # "" for "actor_id"
    equals: tuple[Scalar, ...] | None = None  # one of these
    contains: str | None = None  # as text; A to Z match a to z
    low: int | float | None = None  # a number from this
    high: int | float | None = None  # a number up to this
    is_negated: bool = False  # no value may pass

    @property
    def text(self) -> str | None:
        """A text that a value has to contain; None if there is no single one."""
        wanted = self.equals[0] if self.equals and len(self.equals) == 1 else self.contains
        return wanted if type(wanted) is str and not self.is_negated else None


@dataclass(frozen=True, slots=True)
class Clause:
    """Triggers that meet all of it, which a person has, or has not."""

    actions: tuple[str, ...]  # one of these; empty for any
    objects: tuple[str, ...]
    variables: tuple[Condition, ...]
    times: int  # at least
    within: int | None  # microseconds before now; since then
    since: int | None  # microseconds since 1970; recorded at this time or later
    until: int | None  # recorded before it

    def begin(self, now: int) -> int | None:
        """Return the first moment that counts, in microseconds since 1970; None for all time."""
        return self.since if self.within is None else now - self.within


@dataclass(frozen=True, slots=True)
class Definition:
    """A parsed definition."""

    where: tuple[Condition, ...] = ()
    did: tuple[Clause, ...] = ()
    did_not: tuple[Clause, ...] = ()


def check_name(name: str) -> str:
    """Return the name of a group, composed (NFC): what looks the same is the same.

    Raises:
        InvalidGroup: For a name that a path of a URL, or a file, cannot have.
    """
    composed = unicodedata.normalize("NFC", name)
    if not 0 < len(composed) <= MAX_NAME:
        raise InvalidGroup("name", name, f"1 to {MAX_NAME} characters")
    if not composed.isprintable() or composed != composed.strip() or set(composed) & set("/\\"):
        raise InvalidGroup("name", name, "printable characters but / and \\, without space around them")
    if composed in (".", ".."):
        raise InvalidGroup("name", name, "a name, not a place in a path")
    return composed


def parse_definition(value: Any) -> Definition:
    """Return the parsed definition.

    Raises:
        InvalidGroup: For the first mistake in it.
    """
    _check_keys("definition", value, ("where", "did", "did_not"))
    where = _check_type("where", value.get("where", {}), dict, "an object")
    if len(where) > MAX_CONDITIONS:
        raise InvalidGroup("where", where, f"at most {MAX_CONDITIONS} conditions")
    return Definition(
        where=tuple(_condition_of_person(name, wanted) for name, wanted in where.items()),
        did=_clauses("did", value.get("did", [])),
        did_not=_clauses("did_not", value.get("did_not", [])),
    )


def _condition_of_person(name: str, wanted: Any) -> Condition:
    path = f"where.{name}"
    if name == "actor_id":
        return _condition(path, "actor_id", "", wanted)
    place, dot, rest = name.partition(".")
    if place not in _PLACES or not dot:
        raise InvalidGroup("where", name, "attributes.NAME, identities.NAME or actor_id")
    return _condition(path, place, _key(path, rest), wanted)


def _condition(path: str, place: str, name: str, wanted: Any) -> Condition:
    check = _actor_id if place == "actor_id" else _scalar
    if type(wanted) is not dict:
        return Condition(place, name, equals=_one_of(path, wanted, check))
    _check_keys(path, wanted, _OPERATORS[place])
    if len(wanted) != 1 and set(wanted) != {"at_least", "at_most"}:
        both = ", or at_least with at_most" if "at_least" in _OPERATORS[place] else ""
        raise InvalidGroup(path, wanted, f"an object with one of {', '.join(_OPERATORS[place])}{both}")
    if "not" in wanted:
        return Condition(place, name, equals=_one_of(f"{path}.not", wanted["not"], check), is_negated=True)
    if "contains" in wanted:
        text = _text(f"{path}.contains", wanted["contains"])
        if place == "actor_id" and "\0" in text:  # where the pattern of SQLite ends
            raise InvalidGroup(f"{path}.contains", text, "a string without NUL characters")
        return Condition(place, name, contains=text)
    if "exists" in wanted:
        exists = _check_type(f"{path}.exists", wanted["exists"], bool, "true or false")
        return Condition(place, name, is_negated=not exists)
    bounds = {operator: _number(f"{path}.{operator}", bound) for operator, bound in wanted.items()}
    return Condition(place, name, low=bounds.get("at_least"), high=bounds.get("at_most"))


def _clauses(path: str, value: Any) -> tuple[Clause, ...]:
    _check_type(path, value, list, "a list of objects")
    if len(value) > MAX_CLAUSES:
        raise InvalidGroup(path, value, f"at most {MAX_CLAUSES} objects")
    return tuple(_clause(f"{path}[{index}]", one) for index, one in enumerate(value))


def _clause(path: str, value: Any) -> Clause:
    _check_type(path, value, dict, "an object")
    names = [name for name in value if name.startswith("variables.")]
    _check_keys(path, {name: None for name in value if name not in names}, (*_CLAUSE, "variables.NAME"))
    if not names and "action" not in value and "object" not in value:
        raise InvalidGroup(path, value, "an object with at least one of action, object and variables.NAME")
    if len(names) > MAX_CONDITIONS:
        raise InvalidGroup(path, value, f"an object with at most {MAX_CONDITIONS} variables")
    if "within_days" in value and ("since" in value or "until" in value):
        raise InvalidGroup(path, value, "an object with within_days, or with since and until")
    since, until = (_moment(f"{path}.{name}", value.get(name)) for name in ("since", "until"))
    if since is not None and until is not None and since >= until:
        raise InvalidGroup(f"{path}.until", value["until"], "later than since")
    return Clause(
        actions=tuple(map(str, _one_of(f"{path}.action", value["action"], _text))) if "action" in value else (),
        objects=tuple(map(str, _one_of(f"{path}.object", value["object"], _text))) if "object" in value else (),
        variables=tuple(_condition_of_variable(path, name, value[name]) for name in names),
        times=_times(f"{path}.times", value.get("times", 1)),
        within=_within(f"{path}.within_days", value["within_days"]) if "within_days" in value else None,
        since=since,
        until=until,
    )


def _condition_of_variable(path: str, name: str, wanted: Any) -> Condition:
    path = f"{path}.{name}"
    return _condition(path, "variables", _key(path, name.removeprefix("variables.")), wanted)


def _one_of(path: str, value: Any, check: Callable[[str, Any], Scalar]) -> tuple[Scalar, ...]:
    if type(value) is not list:
        return (check(path, value),)
    if not 0 < len(value) <= MAX_VALUES:
        raise InvalidGroup(path, value, f"a list of 1 to {MAX_VALUES} values")
    return tuple(check(f"{path}[{index}]", one) for index, one in enumerate(value))


def _scalar(path: str, value: Any) -> Scalar:
    if type(value) is str:
        return _text(path, value)
    return value if type(value) is bool else _number(path, value, "a string, a number, true or false")


def _text(path: str, value: Any) -> str:
    text: str = _check_type(path, value, str, "a string")
    if not 0 < len(text) <= MAX_TEXT:
        raise InvalidGroup(path, value, f"a string of 1 to {MAX_TEXT} characters")
    return text


def _actor_id(path: str, value: Any) -> str:
    _check_type(path, value, str, "a string, as every actor_id is")
    return _text(path, value)


def _number(path: str, value: Any, wanted: str = "a number") -> int | float:
    if type(value) not in _NUMBERS or not math.isfinite(value):
        raise InvalidGroup(path, value, wanted)
    number: int | float = value
    return number


def _times(path: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= MAX_TIMES:
        raise InvalidGroup(path, value, f"a whole number from 1 to {MAX_TIMES}")
    times: int = value
    return times


def _within(path: str, value: Any) -> int:
    if not 0 < _number(path, value, "a number of days") <= MAX_DAYS:
        raise InvalidGroup(path, value, f"days above 0, up to {MAX_DAYS}")
    return max(1, int(value * DAY))


def _moment(path: str, value: Any) -> int | None:
    if value is None:
        return None
    micros = parse_timestamp(value) if type(value) is str else None
    if micros is None:
        raise InvalidGroup(path, value, "a time as in RFC 3339, such as 2026-11-23T17:22:32Z")
    return micros


def _key(path: str, name: str) -> str:
    if not 0 < len(name) <= MAX_KEY:
        raise InvalidGroup(path, name, f"a name of 1 to {MAX_KEY} characters")
    return name


def _check_keys(path: str, value: Any, known: Sequence[str]) -> None:
    for name in _check_type(path, value, dict, "an object"):
        if name not in known:
            raise InvalidGroup(path, name, f"one of {', '.join(known)}")


def _check_type(path: str, value: Any, kind: type, wanted: str) -> Any:
    if type(value) is not kind:
        raise InvalidGroup(path, value, wanted)
    return value


def _shown(value: Any) -> str:
    """Return a value for a message, short and printable."""
    if type(value) is str:
        return f"'{_plain(value[:40])}'" if len(value) <= 40 else f"'{_plain(value[:39])}…'"
    if type(value) is list:
        return f"a list of {len(value)}"
    if type(value) is dict:
        return f"an object with {', '.join(_plain(name)[:40] for name in list(value)[:5]) or 'nothing'}"
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)
