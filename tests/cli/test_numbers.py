"""Numbers with units on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from brockman.cli.numbers import byte_size, duration


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000000", 1_000_000),
        ("10GB", 10**10),
        ("10 gb", 10**10),
        ("1.5M", 1_500_000),
        ("2TiB", 2**41),
        ("64KiB", 65536),
        ("7B", 7),
    ],
)
def test_a_size_has_a_unit_of_1000_or_1024(text: str, size: int) -> None:
    assert byte_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("12h", 43_200), ("90d", 7_776_000), ("12w", 7_257_600), ("5 m", 300)]
)
def test_a_time_has_a_unit(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("parse", [byte_size, duration])
@pytest.mark.parametrize("text", ["", "GB", "-1", "10XB", "1e9", "10GBit", "iB", "1 2", "٣"])
def test_anything_else_says_what_would_be_right(parse: Callable[[str], float], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="should be a number and a unit, such as"):
        parse(text)
