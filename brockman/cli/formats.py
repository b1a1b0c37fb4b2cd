"""Triggers as JSON, one object on each line. Pure.

What stands in a cell is text and stays text; an empty cell of a dotted column is left out.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from brockman.cli.access_log import is_access_log, read_access_log
from brockman.cli.source import Arguments, BadLine, Line, Reading, shown
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


# Each argument of `record_trigger`, and what it may be called on a line.
SPELLINGS = {
    "actor_id": ("actor_id",),
    "action": ("action",),
    "obj": ("object", "obj"),
    "identities": ("identities", "captured_identities"),
    "attributes": ("attributes", "captured_attributes"),
    "variables": ("variables",),
}
# The client stamps every trigger itself: there is no place for what another one has stamped.
IGNORED = frozenset(("id", "recorded_at"))
_KNOWN = IGNORED.union(*SPELLINGS.values())


def read_ndjson(lines: Iterable[Line]) -> Iterator[Reading]:
    """Make triggers of lines. Blank ones are passed over."""
    for number, line in lines:
        if isinstance(line, BadLine):
            yield number, line
        elif line and not line.isspace():
            yield number, parse(line)


def parse(line: str) -> Arguments | BadLine:
    """Make a trigger of one line."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        return BadLine(f"not JSON: {error.msg} at column {error.colno}: {shown(line)}")
    except (ValueError, RecursionError) as error:  # an int of thousands of digits; thousands of brackets
        return BadLine(f"not JSON: {error}")
    if not isinstance(value, dict):
        return BadLine(f"not a JSON object: {shown(line)}")
    unknown = value.keys() - _KNOWN
    if unknown:
        name = shown(min(unknown))
        return BadLine(f"{name} is no field of a trigger; what belongs to it goes into variables")
    return _collect(value)


def _collect(value: dict[str, Any]) -> Arguments | BadLine:
    found = []
    for spellings in SPELLINGS.values():
        present = [name for name in spellings if name in value]
        if len(present) > 1:
            return BadLine(f"{' and '.join(present)} are the same field; give one")
        found.append(value[present[0]] if present else None)
    return Arguments(*found)


FORMATS: dict[str, Callable[[Iterable[Line]], Iterator[Reading]]] = {
    "ndjson": read_ndjson,
    "csv": read_csv,
    "combined": read_access_log,
}
_LOOK_AT = 100  # lines: the first ones of a log may be garbage


def read_lines(lines: Iterable[Line], name: str) -> Iterator[Reading]:
    """Make triggers of lines.

    Args:
        lines: What was read.
        name: One of `FORMATS`, or "auto".

    Raises:
        ConfigurationError: When the format cannot be told.
    """
    if name != "auto":
        return FORMATS[name](lines)
    lines, seen = iter(lines), []
    for line in lines:
        if isinstance(line[1], BadLine) or line[1].strip():
            seen.append(line)
        found = detect(line)
        if found is not None:
            return FORMATS[found](chain(seen, lines))
        if len(seen) == _LOOK_AT:
            break
    if not seen:
        return iter(())  # nothing in it, in whatever format
    raise ConfigurationError("the format cannot be told from the first lines; give --format")


def detect(line: Line) -> str | None:
    """Return the name of the format that a line shows, or None."""
    _, text = line
    if isinstance(text, BadLine):
        return None
    if text.lstrip().startswith("{"):
        return "ndjson"
    if is_access_log(text):
        return "combined"
    try:
        return "csv" if is_header(next(csv.reader([text]), [])) else None
    except csv.Error:
        return None
