"""Convert arguments to what a trigger may hold, or raise InvalidTrigger with path, value and what would be right.

The slow path: `encode` skips it for plain values. It never calls `str()` on an unknown object, which would run
foreign code and send whatever its repr shows. No I/O, no clock.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from brockman.exceptions import InvalidTrigger
from brockman.process.interruption import is_interruption

Scalar = str | int | float | bool
_UTC = timezone.utc
_EPOCH = datetime(1970, 1, 1, tzinfo=_UTC)
_CANONICAL_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_MAX_AHEAD = timedelta(days=1)  # of our clock: the time may come from a machine whose clock is wrong
Value = TypeVar("Value")

_SURROGATES = re.compile("[\ud800-\udfff]")
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1  # the range that JSON readers of other languages take as an integer
# Texts that are translated when they are shown. Found by name, so that no library is imported.
_LAZY_TEXTS = (
    ("django.utils.functional", "Promise"),
    ("flask_babel.speaklater", "LazyString"),
    ("babel.support", "LazyProxy"),
)
_MODEL = ("django.db.models.base", "Model")
_BUILT_IN = (str, int, float, UUID, date, Decimal, Enum, list, tuple, set, frozenset, type(None))
_EXPECTED = "a str, int, float, bool, UUID, date, datetime, Decimal or Enum, or a list of these"


def coerce_actor_id(value: Any) -> str:
    """Return an `actor_id` (str, int or UUID) as text."""
    given, value = value, _resolve(value, "actor_id")
    if _is(value, UUID):
        return _call(UUID.__str__, value, "actor_id")
    if _is(value, int) and not _is(value, bool):
        return _int_text(int.__int__(value), "actor_id")
    expected = "a str, int or UUID"
    if _is_anonymous(value, "actor_id"):
        expected += "; nobody is logged in: pass the visitor's id, or record with `request.focuslab`"
    elif value is None and _is_loaded(_unwrap(given, "actor_id"), *_MODEL):
        expected += "; a model has no key until it is saved"
    elif given is None:
        expected += "; it may be left out within a `brockman.context`, or a request of a middleware"
    return _required_text(value, "actor_id", expected)


def is_nobody(value: Any) -> bool:
    """Return whether a value, or what it wraps, is None or a user who is not logged in."""
    with suppress(InvalidTrigger):
        value = _unwrap(value, "actor_id")
        return value is None or _is_anonymous(value, "actor_id")
    return False


def coerce_text(value: Any, field: str) -> str:
    """Return `action` or `obj` as text."""
    return _required_text(_resolve(value, field), field, "a str")


def _required_text(value: Any, field: str, expected: str) -> str:
    if not _is(value, str):
        raise InvalidTrigger(f"{field}: {_describe(value)} should be {expected}")
    text = _text(value)
    if not text.strip():
        raise InvalidTrigger(f"{field}: {_describe(text)} should not be empty")
    return text


def coerce_mapping(value: Any, field: str) -> dict[str, Scalar | list[Scalar]]:
    """Return `identities`, `attributes` or `variables` as a dict for JSON, without keys whose value is None."""
    if value is None:
        return {}
    if not _is(value, Mapping):
        raise InvalidTrigger(f"{field}: {_describe(value)} should be a mapping, or None")
    coerced: dict[str, Scalar | list[Scalar]] = {}
    for key, item in _items(value, field):
        if not _is(key, str):
            raise InvalidTrigger(f"{field}: the key {_describe(key)} should be a str")
        text = _text(key)
        path = f"{field}[{_short_repr(text)}]"
        if not _is_missing(item, path):
            coerced[text] = _coerce_value(item, path)
    return coerced


def _is_missing(value: Any, path: str) -> bool:
    """Return whether a value is None, a user who is not logged in, or a model that is not saved."""
    value = _unwrap(value, path)
    if _is_loaded(value, *_MODEL):
        return _resolve(value, path) is None
    return value is None or _is_anonymous(value, path)


def coerce_stamp(trigger_id: Any, at: Any, now: datetime) -> tuple[str | None, datetime]:
    """Return a caller's own id as text, None for none, and the caller's own time in UTC, or now."""
    return (
        None if trigger_id is None else _coerce_trigger_id(trigger_id),
        now if at is None else _coerce_at(at, now),
    )


def _coerce_trigger_id(value: Any) -> str:
    if type(value) is str and _CANONICAL_ID(value):  # as an import has it for each line
        return value
    if _is(value, UUID):
        return _call(UUID.__str__, value, "trigger_id")
    if _is(value, str):
        with suppress(ValueError):
            return str(UUID(str.__str__(value)))
    raise InvalidTrigger(f"trigger_id: {_describe(value)} should be a UUID, or the text of one")


def _coerce_at(value: Any, now: datetime) -> datetime:
    if type(value) is datetime and value.tzinfo is _UTC and _EPOCH <= value <= now:
        return value
    if not _is(value, datetime) or _call(lambda moment: moment != moment, value, "at"):  # pandas.NaT
        raise InvalidTrigger(f"at: {_describe(value)} should be a datetime with a time zone")
    shown = _call(datetime.isoformat, value, "at")
    if _call(lambda moment: moment.utcoffset() is None, value, "at"):
        raise InvalidTrigger(
            f"at: {shown} has no time zone; give it one, as `replace(tzinfo=timezone.utc)` does for a time in UTC,"
            " and `astimezone()` for one of this machine"
        )
    if not _call(lambda moment: _EPOCH <= moment <= now + _MAX_AHEAD, value, "at"):
        raise InvalidTrigger(f"at: {shown} should be a time from 1970 to a day after now")
    return _call(_as_utc, value, "at")


def _as_utc(value: datetime) -> datetime:
    """Return a time in UTC, of no subclass: pandas has one with nanoseconds."""
    utc = value.astimezone(_UTC)
    return datetime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond, _UTC)


def _items(value: Mapping[Any, Any], field: str) -> list[tuple[Any, Any]]:
    try:
        return [(key, item) for key, item in value.items()]
    except Exception as error:
        if is_interruption(error):
            raise
        if type(value) is dict:  # changed by another thread: retry with a copy, made in one step
            return list(value.copy().items())
        raise _foreign_error(field, error) from None


def _coerce_value(value: Any, path: str) -> Scalar | list[Scalar]:
    value = _resolve(value, path)
    if _is(value, (list, tuple, set, frozenset)):
        items = _call(list, value, path)
        return [_coerce_scalar(_resolve(item, f"{path}[{i}]"), f"{path}[{i}]") for i, item in enumerate(items)]
    return _coerce_scalar(value, path)


def _coerce_scalar(value: Any, path: str) -> Scalar:
    if _is(value, str):
        return _text(value)
    if _is(value, bool):
        return bool(value)
    if _is(value, int):
        number = int.__int__(value)
        return number if _INT64_MIN <= number <= _UINT64_MAX else _int_text(number, path)
    if _is(value, float):
        real = float.__float__(value)
        if not math.isfinite(real):
            raise _not_finite(real, path)
        return real
    if _is(value, UUID):
        return _call(UUID.__str__, value, path)
    if _is(value, Decimal):
        return _coerce_decimal(_call(Decimal, value, path), path)
    if _is(value, date):  # also a datetime
        return _coerce_date(value, path)
    raise InvalidTrigger(f"{path}: {_describe(value)} should be {_EXPECTED}")


def _coerce_decimal(value: Decimal, path: str) -> float | str:
    if not value.is_finite():
        raise _not_finite(value, path)
    number = float(value)
    # Text where a float would lose digits, as with an int beyond 64 bits.
    return number if math.isfinite(number) and Decimal(repr(number)) == value else str(value)


def _coerce_date(value: date, path: str) -> str:
    if _call(lambda moment: moment != moment, value, path):  # pandas.NaT is a datetime
        raise InvalidTrigger(f"{path}: {_describe(value)} should be a date that exists")
    return _call(datetime.isoformat if _is(value, datetime) else date.isoformat, value, path)


def _text(value: str) -> str:
    # str.__str__ returns the characters, whatever a subclass does. A lone surrogate cannot be encoded as UTF-8.
    return _SURROGATES.sub("\ufffd", str.__str__(value))


def _int_text(value: int, path: str) -> str:
    try:
        return int.__repr__(value)
    except ValueError:  # Python's own limit for huge ints
        raise InvalidTrigger(f"{path}: an int of thousands of digits should be shortened") from None


def _is(value: Any, kinds: type | tuple[type, ...]) -> bool:
    """Return whether a value is of a type. `isinstance` would also believe an overridden `__class__`."""
    return issubclass(type(value), kinds)


def _call(method: Callable[[Any], Value], value: Any, path: str) -> Value:
    """Call a method on a value whose class may override what the method uses."""
    try:
        return method(value)
    except Exception as error:
        if is_interruption(error):
            raise
        raise _foreign_error(path, error) from None


def _resolve(value: Any, path: str) -> Any:
    """Return the value of an Enum member, lazy text or object, or numpy scalar, and the key of a Django model."""
    if _is(value, Enum):
        value = _call(lambda member: member.value, value, path)
        if _is(value, Enum):
            raise InvalidTrigger(f"{path}: an Enum whose value is an Enum should be {_EXPECTED}")
    value = _unwrap(value, path)
    if _is_loaded(value, *_MODEL):
        value = _call(lambda model: model.pk, value, path)
    for lazy in _LAZY_TEXTS:
        if _is_loaded(value, *lazy):
            return _call(str, value, path)
    if _is_loaded(value, "numpy", "generic"):
        item = _call(lambda number: number.item(), value, path)
        if _is(item, int) and _call(lambda number: number.dtype.kind, value, path) in "mM":
            # Nanoseconds, which a datetime cannot hold.
            raise InvalidTrigger(f"{path}: a numpy time in nanoseconds should be in microseconds")
        return item
    return value


def _unwrap(value: Any, path: str) -> Any:
    if _is_loaded(value, "django.utils.functional", "LazyObject"):  # such as `request.user`
        return _call(lambda lazy: lazy.__class__ and lazy._wrapped, value, path)  # `__class__` evaluates it
    return value


def _is_anonymous(value: Any, path: str) -> bool:
    """Return whether a value is a user who is not logged in, of Django's class or of one that takes its place."""
    if _is(value, _BUILT_IN) or _is_loaded(value, *_MODEL):
        return False
    return _call(lambda user: hasattr(type(user), "is_anonymous") and user.is_anonymous is True, value, path)


def _is_loaded(value: Any, module: str, name: str) -> bool:
    """Return whether a value is of a class in a module that is imported already."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and _is(value, kind)


def class_name(value: Any) -> str:
    """Return the name of a value's class, without a `__name__` that its metaclass may define."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name


def _not_finite(value: float | Decimal, path: str) -> InvalidTrigger:
    return InvalidTrigger(f"{path}: {value!r} is not JSON; it should be a finite number")


def _foreign_error(path: str, error: Exception) -> InvalidTrigger:
    # Only the name of the class: the text of a foreign exception may hold anything.
    return InvalidTrigger(f"{path}: reading it raised {class_name(error)}")


def _describe(value: Any) -> str:
    """Return a short text for a value of a built-in type, and only the type's name for any other."""
    if value is None:
        return "None"
    if type(value) in (str, int, float, bool, bytes) and (type(value) is not int or abs(value) < 10**60):
        return f"{_short_repr(value)} ({class_name(value)})"
    return f"a value of type {class_name(value)}"


def _short_repr(value: Any) -> str:
    return repr(value[:60] if isinstance(value, (str, bytes)) else value)
