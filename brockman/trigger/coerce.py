"""Make what people pass fit what a trigger may hold, or say exactly what does not. No I/O, no threads, no clock.

This is the thorough path; `trigger` goes around it for values that fit as they are. Never `str()` of an unknown
object: that runs foreign code and leaks what a repr shows.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from brockman.exceptions import InvalidTrigger

Scalar = str | int | float | bool
Value = TypeVar("Value")

_SURROGATES = re.compile("[\ud800-\udfff]")
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1  # what JSON readers of other languages take as an integer
# Text that is translated when it is shown. These are found by name, so that no library is imported.
_LAZY_TEXTS = (
    ("django.utils.functional", "Promise"),
    ("flask_babel.speaklater", "LazyString"),
    ("babel.support", "LazyProxy"),
)
_EXPECTED = "a str, int, float, bool, UUID, date, datetime, Decimal or Enum, or a list of these"


def fit_actor(value: Any) -> str:
    """Return an `actor_id` (str, int or UUID) as text."""
    value = _resolve(value, "actor_id")
    if _is(value, UUID):
        return _read(UUID.__str__, value, "actor_id")
    if _is(value, int) and not _is(value, bool):
        return _int_text(int.__int__(value), "actor_id")
    if _is(value, str):
        return _fit_required(value, "actor_id")
    raise InvalidTrigger(f"actor_id: {_shown(value)} should be a str, int or UUID")


def fit_name(value: Any, field: str) -> str:
    """Return `action` or `obj` as text."""
    value = _resolve(value, field)
    if _is(value, str):
        return _fit_required(value, field)
    raise InvalidTrigger(f"{field}: {_shown(value)} should be a str")


def _fit_required(value: str, field: str) -> str:
    text = _fit_text(value)
    if not text.strip():
        raise InvalidTrigger(f"{field}: {_shown(text)} should not be empty")
    return text


def fit_mapping(value: Any, field: str) -> dict[str, Scalar | list[Scalar]]:
    """Return `identities`, `attributes` or `variables` as a dict that JSON can hold; None values are left out."""
    if value is None:
        return {}
    if not _is(value, Mapping):
        raise InvalidTrigger(f"{field}: {_shown(value)} should be a mapping, or None")
    fitted: dict[str, Scalar | list[Scalar]] = {}
    for key, item in _items(value, field):
        if not _is(key, str):
            raise InvalidTrigger(f"{field}: the key {_shown(key)} should be a str")
        if item is not None:
            text = _fit_text(key)
            fitted[text] = _fit_value(item, f"{field}[{_shortened(text)}]")
    return fitted


def _items(value: Mapping[Any, Any], field: str) -> list[tuple[Any, Any]]:
    try:
        return [(key, item) for key, item in value.items()]
    except Exception as error:
        if type(value) is dict:  # another thread changed it meanwhile: once more, from a copy made in one step
            return list(value.copy().items())
        raise _foreign(field, error) from None


def _fit_value(value: Any, path: str) -> Scalar | list[Scalar]:
    value = _resolve(value, path)
    if _is(value, (list, tuple, set, frozenset)):
        items = _read(list, value, path)
        return [_fit_scalar(_resolve(item, f"{path}[{i}]"), f"{path}[{i}]") for i, item in enumerate(items)]
    return _fit_scalar(value, path)


def _fit_scalar(value: Any, path: str) -> Scalar:
    if _is(value, str):
        return _fit_text(value)
    if _is(value, bool):
        return bool(value)
    if _is(value, int):
        number = int.__int__(value)
        return number if _INT64_MIN <= number <= _UINT64_MAX else _int_text(number, path)
    if _is(value, float):
        return _fit_float(float.__float__(value), path)
    if _is(value, UUID):
        return _read(UUID.__str__, value, path)
    if _is(value, Decimal):
        return _fit_decimal(_read(Decimal, value, path), path)
    if _is(value, date):  # datetime is one
        return _fit_date(value, path)
    raise InvalidTrigger(f"{path}: {_shown(value)} should be {_EXPECTED}")


def _fit_float(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise InvalidTrigger(f"{path}: {value!r} is not JSON; it should be a finite number")
    return value


def _fit_decimal(value: Decimal, path: str) -> float | str:
    if not value.is_finite():
        raise InvalidTrigger(f"{path}: {value!r} is not JSON; it should be a finite number")
    number = float(value)
    # As with an int beyond 64 bits: what a JSON number cannot hold digit for digit becomes text.
    return number if math.isfinite(number) and Decimal(repr(number)) == value else str(value)


def _fit_date(value: date, path: str) -> str:
    if _read(lambda moment: moment != moment, value, path):  # pandas' "not a time" is a datetime
        raise InvalidTrigger(f"{path}: {_shown(value)} should be a date that exists")
    return _read(datetime.isoformat if _is(value, datetime) else date.isoformat, value, path)


def _fit_text(value: str) -> str:
    # str.__str__ takes the characters themselves, whatever a subclass does; a lone surrogate is no Unicode text.
    return _SURROGATES.sub("\ufffd", str.__str__(value))


def _int_text(value: int, path: str) -> str:
    try:
        return int.__repr__(value)
    except ValueError:  # Python's own limit for huge ints
        raise InvalidTrigger(f"{path}: an int of thousands of digits should be shortened") from None


def _is(value: Any, kinds: type | tuple[type, ...]) -> bool:
    """Return whether a value is of a kind, by its type alone: `isinstance` also believes a lying `__class__`."""
    return issubclass(type(value), kinds)


def _read(method: Callable[[Any], Value], value: Any, path: str) -> Value:
    """Call a method of a well-known class on a value, which may be of a subclass with code of its own."""
    try:
        return method(value)
    except Exception as error:
        raise _foreign(path, error) from None


def _resolve(value: Any, path: str) -> Any:
    """Return what an Enum member, a lazy text or object, a model or a numpy scalar stands for."""
    if _is(value, Enum):
        value = _read(lambda member: member.value, value, path)
        if _is(value, Enum):
            raise InvalidTrigger(f"{path}: an Enum whose value is an Enum should be {_EXPECTED}")
    value = _resolve_model(value, path)
    for lazy in _LAZY_TEXTS:
        if _is_loaded(value, *lazy):
            return _read(str, value, path)
    if _is_loaded(value, "numpy", "generic"):
        item = _read(lambda number: number.item(), value, path)
        if _is(item, int) and value.dtype.kind in "mM":  # nanoseconds, which no datetime holds
            raise InvalidTrigger(f"{path}: a numpy time in nanoseconds should be in microseconds")
        return item
    return value


def _resolve_model(value: Any, path: str) -> Any:
    """Return what Django's lazy object stands for, such as `request.user`, and of a model its primary key."""
    if _is_loaded(value, "django.utils.functional", "LazyObject"):
        value = _read(lambda lazy: lazy.__class__ and lazy._wrapped, value, path)  # asking for its class fills it
    if _is_loaded(value, "django.db.models.base", "Model"):
        value = _read(lambda model: model.pk, value, path)
    return value


def _is_loaded(value: Any, module: str, name: str) -> bool:
    """Return whether a value is of a class of a library that somebody has imported."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and _is(value, kind)


def class_name(value: Any) -> str:
    """Return the name of a value's class; a metaclass with a `__name__` of its own is not asked."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name


def _foreign(path: str, error: Exception) -> InvalidTrigger:
    # Only the name of the class: the text of a foreign exception may hold anything.
    return InvalidTrigger(f"{path}: reading it raised {class_name(error)}")


def _shown(value: Any) -> str:
    """Return a short text for a value of a well-known type, and the type's name for every other."""
    if value is None:
        return "None"
    if type(value) in (str, int, float, bool, bytes) and (type(value) is not int or abs(value) < 10**60):
        return f"{_shortened(value)} ({class_name(value)})"
    return f"a value of type {class_name(value)}"


def _shortened(value: Any) -> str:
    return repr(value[:60] if isinstance(value, (str, bytes)) else value)
