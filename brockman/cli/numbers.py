"""Numbers on the command line, whose errors say what would be right."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from brockman.options.fields import show

Number = TypeVar("Number", int, float)


def whole_number(lowest: float = -math.inf, highest: float = math.inf) -> Callable[[str], int]:
    """Return a type for argparse that takes integers within limits."""
    return lambda text: _parse(int, text, "a whole number", lowest, highest)


def number(lowest: float = -math.inf, highest: float = math.inf) -> Callable[[str], float]:
    """Return a type for argparse that takes numbers within limits."""
    return lambda text: _parse(float, text, "a number", lowest, highest)


def _parse(kind: type[Number], text: str, expected: str, lowest: float, highest: float) -> Number:
    with suppress(ValueError):
        value = kind(text)
        if lowest <= value <= highest:
            return value
    limits = [
        f" {word} {limit:.0f}" for word, limit in (("from", lowest), ("to", highest)) if math.isfinite(limit)
    ]
    raise argparse.ArgumentTypeError(f"{show(text)} should be {expected}{''.join(limits)}")
