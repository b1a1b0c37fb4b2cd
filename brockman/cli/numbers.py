"""Numbers on the command line, whose errors say what would be right."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from brockman.options.fields import show

Number = TypeVar("Number", int, float)
MAX_SECONDS = 1_000_000.0  # the limit of `block_timeout`, more than eleven days


def whole_number(lowest: float = -math.inf, highest: float = math.inf) -> Callable[[str], int]:
    """Return a type for argparse that takes integers within limits."""
    return lambda text: _parse(int, text, "a whole number", lowest, highest)


def number(lowest: float = -math.inf, highest: float = math.inf) -> Callable[[str], float]:
    """Return a type for argparse that takes numbers within limits."""
    return lambda text: _parse(float, text, "a number", lowest, highest)


_SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def duration(text: str) -> float:
    """Return seconds; a type for argparse that takes a number and perhaps a unit of `_SECONDS`."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(ms|s|m|h|d|w|)", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{show(text)} should be a number and a unit, such as 200ms, 2s, 5m, 90d, 12w"
        )
    return float(match[1]) * _SECONDS[match[2]]


_BYTES = {unit: 1000**power for power, unit in enumerate(("", "K", "M", "G", "T"))}


def byte_size(text: str) -> int:
    """Return bytes; a type for argparse that takes a number and perhaps a unit, of 1000 or of 1024."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([KMGT]?)(I?)B?", text.strip().upper())
    if match is None or (match[3] and not match[2]):
        raise argparse.ArgumentTypeError(f"{show(text)} should be a number and a unit, such as 500MB, 10GB, 2TiB")
    unit = _BYTES[match[2]] if not match[3] else 1024 ** list(_BYTES).index(match[2])
    return int(float(match[1]) * unit)


def _parse(kind: type[Number], text: str, expected: str, lowest: float, highest: float) -> Number:
    with suppress(ValueError):
        value = kind(text)
        if lowest <= value <= highest:
            return value
    limits = [
        f" {word} {limit:.10g}" for word, limit in (("from", lowest), ("to", highest)) if math.isfinite(limit)
    ]
    raise argparse.ArgumentTypeError(f"{show(text)} should be {expected}{''.join(limits)}")
