"""JSON as RFC 8259 has it: UTF-8, no NaN or Infinity, no lone surrogates, integers of 64 bits.

`orjson` keeps these rules by itself; without it the standard library is held to the same ones, so that what one
installation of the collector takes, another takes as well. An integer beyond 64 bits becomes a float, as in
JavaScript. Of keys that occur twice in an object the last one counts. Only the bound on nesting differs.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

try:
    import orjson
except ImportError:  # no wheel for this interpreter
    orjson = None  # type: ignore[assignment]


def parse_with_orjson(body: bytes) -> Any:
    """Return the value that a JSON text holds.

    Raises:
        ValueError: When it is not JSON, or nested too deeply.
    """
    return orjson.loads(body)


def dump_with_orjson(value: Any) -> str:
    """Return a value as JSON text.

    Raises:
        ValueError: When it is nested too deeply.
    """
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # `parse` made the value, so depth is all that can be wrong with it
        raise ValueError("nested too deeply") from None


def parse_with_json(body: bytes) -> Any:
    """Return the same as `parse_with_orjson`, with the standard library."""
    text = body.decode("utf-8")
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_integer)
        if "\\u" in text:  # an escape is the only way to a lone surrogate; encoding refuses it
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def dump_with_json(value: Any) -> str:
    """Return the same as `dump_with_orjson`, with the standard library."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _integer(text: str) -> int | float:
    if len(text) <= 20:  # int() of thousands of digits is slow, or refused
        number = int(text)
        if -(2**63) <= number < 2**64:
            return number
    return _finite(text)


parse = parse_with_json if orjson is None else parse_with_orjson
dump = dump_with_json if orjson is None else dump_with_orjson
