"""JSON as in RFC 8259: UTF-8, no NaN or Infinity, no lone surrogates, integers of 64 bits.

`orjson` is strict by itself. Without it the standard library is restricted to the same rules, so that every
installation accepts the same bodies. An integer beyond 64 bits becomes a float, as in JavaScript. Of duplicate
keys in an object the last one counts. Only the limit of nesting differs.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

try:
    import orjson
except ImportError:  # no wheel for this interpreter
    orjson = None  # type: ignore[assignment]


def parse_with_json(body: bytes) -> Any:
    """Return the value of a JSON text; raise ValueError if it is not JSON, or nested too deeply."""
    text = body.decode("utf-8")
    try:
        value = json.loads(text, parse_constant=_reject, parse_float=_finite, parse_int=_integer)
        if "\\u" in text:  # only an escape can make a lone surrogate; encoding rejects it
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def dump_with_json(value: Any) -> str:
    """Return a value as JSON text; raise ValueError if it is nested too deeply."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dump_with_orjson(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a parsed value has no other reason to fail
        raise ValueError("nested too deeply") from None


def _reject(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _integer(text: str) -> int | float:
    if len(text) <= 20:  # int() of thousands of digits is slow, or fails
        number = int(text)
        if -(2**63) <= number < 2**64:
            return number
    return _finite(text)


parse = parse_with_json if orjson is None else orjson.loads
dump = dump_with_json if orjson is None else dump_with_orjson
