"""Make what people pass fit what a trigger may hold, or say exactly what does not. No I/O, no threads, no clock.

This is the thorough path; `trigger` goes around it for values that fit as they are. Never `str()` of an unknown
object: that runs foreign code and leaks what a repr shows.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from brockman.exceptions import InvalidTrigger

Scalar = str | int | float | bool

_SURROGATES = re.compile("[\ud800-\udfff]")
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1  # what JSON readers of other languages take as an integer
# Text that is translated when it is shown. Found by name, so that none of these libraries is imported.
_LAZY_TEXTS = (
    ("django.utils.functional", "Promise"),
    ("flask_babel.speaklater", "LazyString"),
    ("babel.support", "LazyProxy"),
)
_EXPECTED = "a str, int, float, bool, UUID, date, datetime, Decimal or Enum, or a list of these"


def fit_actor(value: Any) -> str:
    """Return an `actor_id` (str, int or UUID) as text."""
    value = _resolve(value, "actor_id")
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _int_text(value)
    if isinstance(value, str):
        return _fit_required(value, "actor_id")
    raise InvalidTrigger(f"actor_id: {_shown(value)} should be a str, int or UUID")


def fit_name(value: Any, field: str) -> str:
    """Return `action` or `obj` as text."""
    value = _resolve(value, field)
    if isinstance(value, str):
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
    if not isinstance(value, Mapping):
        raise InvalidTrigger(f"{field}: {_shown(value)} should be a mapping, or None")
    fitted: dict[str, Scalar | list[Scalar]] = {}
    for key, item in _items(value, field):
        if not isinstance(key, str):
            raise InvalidTrigger(f"{field}: the key {_shown(key)} should be a str")
        if item is not None:
            fitted[_fit_text(key)] = _fit_value(item, f"{field}[{str.__str__(key)!r}]")
    return fitted


def _items(value: Mapping[Any, Any], field: str) -> list[tuple[Any, Any]]:
    try:
        return [(key, item) for key, item in value.items()]
    except RuntimeError:  # another thread changed it meanwhile: once more, from a copy made in one step
        try:
            return list(dict(value).items())
        except Exception as error:
            raise _foreign(field, error) from None
    except Exception as error:
        raise _foreign(field, error) from None


def _fit_value(value: Any, path: str) -> Scalar | list[Scalar]:
    value = _resolve(value, path)
    if isinstance(value, (list, tuple, set, frozenset)):
        try:
            items = list(value)
        except Exception as error:
            raise _foreign(path, error) from None
        return [_fit_scalar(_resolve(item, f"{path}[{i}]"), f"{path}[{i}]") for i, item in enumerate(items)]
    return _fit_scalar(value, path)


def _fit_scalar(value: Any, path: str) -> Scalar:
    if isinstance(value, str):
        return _fit_text(value)
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        number = int.__int__(value)
        return number if _INT64_MIN <= number <= _UINT64_MAX else _int_text(number)
    if isinstance(value, float):
        return _fit_float(float.__float__(value), path)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal):
        return _fit_decimal(value, path)
    if isinstance(value, date):  # datetime is one
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
    try:
        text = value.isoformat()
    except Exception as error:
        raise _foreign(path, error) from None
    if type(text) is not str or text == "NaT":  # pandas' "not a time" is a datetime
        raise InvalidTrigger(f"{path}: {_shown(value)} should be a date that exists")
    return text


def _fit_text(value: str) -> str:
    # str.__str__ takes the characters themselves, whatever a subclass does; a lone surrogate is no Unicode text.
    return _SURROGATES.sub("\ufffd", str.__str__(value))


def _int_text(value: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError:  # Python's own limit for huge ints, 4300 digits
        raise InvalidTrigger("an int of thousands of digits is not a value to track") from None


def _resolve(value: Any, path: str) -> Any:
    """Return what a lazy text, an Enum member or a numpy scalar stands for."""
    try:
        if isinstance(value, Enum):
            return _resolve(value.value, path)
        for module, name in _LAZY_TEXTS:
            lazy = getattr(sys.modules.get(module), name, None)
            if lazy is not None and isinstance(value, lazy):
                return str(value)
        scalar = getattr(sys.modules.get("numpy"), "generic", None)
        if scalar is not None and isinstance(value, scalar):
            return value.item()
    except InvalidTrigger:
        raise
    except Exception as error:
        raise _foreign(path, error) from None
    return value


def _foreign(path: str, error: Exception) -> InvalidTrigger:
    # Only the name of the class: the text of a foreign exception may hold anything.
    return InvalidTrigger(f"{path}: reading it raised {type(error).__name__}")


def _shown(value: Any) -> str:
    """Return a short text for a value of a well-known type, and the type's name for every other."""
    if value is None:
        return "None"
    if type(value) in (str, int, float, bool, bytes) and (type(value) is not int or abs(value) < 10**60):
        text = repr(value[:60] if isinstance(value, (str, bytes)) else value)
        return f"{text} ({type(value).__name__})"
    return f"a value of type {type(value).__name__}"
