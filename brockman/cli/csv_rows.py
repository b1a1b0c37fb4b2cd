"""Triggers as rows of a CSV file with a header row. Pure.

What stands in a cell is text and stays text; an empty cell of a dotted column is left out.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence

from brockman.cli.arguments import Arguments
from brockman.cli.formats import IGNORED
from brockman.cli.source import BadLine, Line, Reading, shown
from brockman.exceptions import ConfigurationError

_PLAIN = {"actor_id": 0, "action": 1, "object": 2, "obj": 2}  # the position among the arguments
_DOTTED = {
    "identities": 3,
    "captured_identities": 3,
    "attributes": 4,
    "captured_attributes": 4,
    "variables": 5,
}
_SKIPPED = -1
_NAMES = ("actor_id", "action", "object")

Column = tuple[int, str]  # the position among the arguments, and the key in that mapping


def read_csv(lines: Iterable[Line]) -> Iterator[Reading]:
    """Make triggers of lines, the first of which is the header. Blank ones are passed over.

    Raises:
        ConfigurationError: When the header is not that of triggers.
    """
    feed = _Feed(lines)
    rows = csv.reader(feed, strict=True)
    columns: list[Column] | None = None
    while not feed.ended:
        first = feed.number + 1
        try:
            row = next(rows, [])
        except csv.Error as error:
            row = []
            if feed.bad is None:
                feed.bad = first, BadLine(f"not CSV: {error}{_until(first, feed.number)}")
        if feed.bad is not None:
            number, bad = feed.bad
            feed.bad = None
            yield number, bad if number == first else BadLine(f"{bad.reason} (in the row from line {first})")
        elif row and columns is None:
            columns = parse_header(row)
        elif row and columns is not None:
            yield first, parse_row(row, columns)


class _Feed:
    """The lines for `csv.reader`, which takes none but text; a quoted field may run over several of them."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self.number = 0
        self.bad: tuple[int, BadLine] | None = None
        self.ended = False

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        try:
            self.number, line = next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        if isinstance(line, BadLine):
            self.bad = self.bad or (self.number, line)
            line = line.text  # the quotes in it count all the same
        return line + "\n"


def is_header(row: Sequence[str]) -> bool:
    """Return whether a row names the three columns that every trigger needs."""
    return {_PLAIN.get(name.strip()) for name in row} >= {0, 1, 2}


def parse_header(row: Sequence[str]) -> list[Column]:
    """Return what the columns are.

    Raises:
        ConfigurationError: When one is missing, unknown or there twice.
    """
    if not is_header(row):
        raise ConfigurationError(f"the CSV header is {shown(','.join(row))}; it should name {', '.join(_NAMES)}")
    columns = [_parse_column(name.strip()) for name in row]
    for index, column in enumerate(columns):
        if column in columns[:index] and column[0] != _SKIPPED:
            raise ConfigurationError(f"the CSV header names the column {shown(row[index])} twice")
    return columns


def _parse_column(name: str) -> Column:
    mapping, dot, key = name.partition(".")
    if name in _PLAIN:
        return _PLAIN[name], ""
    if dot and key and mapping in _DOTTED:
        return _DOTTED[mapping], key
    if name in IGNORED:
        return _SKIPPED, ""
    raise ConfigurationError(
        f"the CSV header has a column {shown(name)}; it should be one of {', '.join(_NAMES)},"
        " identities.NAME, attributes.NAME, variables.NAME"
    )


def parse_row(row: Sequence[str], columns: Sequence[Column]) -> Arguments | BadLine:
    """Make a trigger of one row."""
    if len(row) != len(columns):
        return BadLine(f"{len(row)} cells, where the header has {len(columns)}")
    plain = ["", "", ""]
    mappings: tuple[dict[str, str], ...] = ({}, {}, {})
    for (position, key), cell in zip(columns, row, strict=True):
        if 0 <= position < 3:
            plain[position] = cell
        elif position >= 3 and cell:
            mappings[position - 3][key] = cell
    return Arguments(*plain, *mappings)


def _until(first: int, last: int) -> str:
    return f" (the row runs to line {last})" if last > first else ""
