"""Parses lines into triggers: NDJSON, CSV, or an access log. No I/O."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain

from brockman.cli import access_log
from brockman.cli.source import Arguments, BadLine, Line, Reading, excerpt
from brockman.exceptions import ConfigurationError

# What a field may be called, and its position among the arguments of `record_trigger`.
_POSITIONS = {
    "actor_id": 0,
    "action": 1,
    "object": 2,
    "obj": 2,
    "identities": 3,
    "captured_identities": 3,
    "attributes": 4,
    "captured_attributes": 4,
    "variables": 5,
}
_REQUIRED = ("actor_id", "action", "object")
_IGNORED = ("id", "recorded_at")  # the client stamps every trigger itself
_DETECT_LINES = 100  # the first lines of a log may be garbage

Column = tuple[int, str] | None  # the position among the arguments and the key in that mapping; None is ignored


def read_lines(lines: Iterable[Line], name: str) -> Iterator[Reading]:
    """Parse lines of a format in `FORMATS`, or "auto"; skip blank ones.

    Raises:
        ConfigurationError: If the format cannot be detected, or the header of a CSV file is wrong.
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
        if len(seen) == _DETECT_LINES:
            break
    if not seen:
        return iter(())  # an empty file has every format
    raise ConfigurationError("cannot detect the format from the first lines; give --format")


def detect(line: Line) -> str | None:
    _, text = line
    if isinstance(text, BadLine):
        return None
    if text.lstrip().startswith("{"):
        return "ndjson"
    if access_log.LINE.fullmatch(text):
        return "combined"
    try:
        return "csv" if is_header(next(csv.reader([text]), [])) else None
    except csv.Error:
        return None


def _parse_each(parse: Callable[[str], Arguments | BadLine], lines: Iterable[Line]) -> Iterator[Reading]:
    for number, line in lines:
        if isinstance(line, BadLine):
            yield number, line
        elif line and not line.isspace():
            yield number, parse(line)


# --- NDJSON ---


def parse_json(line: str) -> Arguments | BadLine:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        return BadLine(f"not JSON: {error.msg} at column {error.colno}: {excerpt(line)}")
    except (ValueError, RecursionError) as error:  # an int of thousands of digits; thousands of brackets
        return BadLine(f"not JSON: {error}")
    if not isinstance(value, dict):
        return BadLine(f"not a JSON object: {excerpt(line)}")
    unknown = value.keys() - _POSITIONS.keys() - {*_IGNORED}
    if unknown:
        return BadLine(f"{excerpt(min(unknown))} is not a field of a trigger; put it into variables")
    names: dict[int, str] = {}
    for name, position in _POSITIONS.items():
        if name in value:
            if position in names:
                return BadLine(f"{names[position]} and {name} are the same field; give one")
            names[position] = name
    return Arguments(*(value[names[position]] if position in names else None for position in range(6)))


# --- CSV: cells are text and stay text; an empty cell of a mapping is left out ---


def read_csv(lines: Iterable[Line]) -> Iterator[Reading]:
    """Parse a CSV file; raise ConfigurationError if the first line is not a valid header."""
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
                until = f" (the row runs to line {feed.number})" if feed.number > first else ""
                feed.bad = first, BadLine(f"not CSV: {error}{until}")
        if feed.bad is not None:
            number, bad = feed.bad
            feed.bad = None
            yield number, bad if number == first else BadLine(f"{bad.reason} (in the row from line {first})")
        elif row and columns is None:
            columns = parse_header(row)
        elif row and columns is not None:
            yield first, parse_row(row, columns)


class _Feed:
    """The lines for `csv.reader`, which accepts only text; a quoted field may span several of them."""

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
            line = line.text  # its quotes still count
        return line + "\n"


def is_header(row: Sequence[str]) -> bool:
    return {_POSITIONS.get(name.strip()) for name in row} >= {0, 1, 2}


def parse_header(row: Sequence[str]) -> list[Column]:
    if not is_header(row):
        raise ConfigurationError(
            f"the CSV header is {excerpt(','.join(row))}; it should name {', '.join(_REQUIRED)}"
        )
    columns = [_parse_column(name.strip()) for name in row]
    for index, column in enumerate(columns):
        if column is not None and column in columns[:index]:
            raise ConfigurationError(f"the CSV header names the column {excerpt(row[index])} twice")
    return columns


def _parse_column(name: str) -> Column:
    if name in _IGNORED:
        return None
    field, dot, key = name.partition(".")
    position = _POSITIONS.get(field, -1)
    if (position >= 3 and key) or (0 <= position < 3 and not dot):
        return position, key
    raise ConfigurationError(
        f"the CSV header has a column {excerpt(name)}; it should be one of {', '.join(_REQUIRED)},"
        " identities.NAME, attributes.NAME, variables.NAME"
    )


def parse_row(row: Sequence[str], columns: Sequence[Column]) -> Arguments | BadLine:
    if len(row) != len(columns):
        return BadLine(f"{len(row)} cells, where the header has {len(columns)}")
    required = ["", "", ""]
    mappings: tuple[dict[str, str], ...] = ({}, {}, {})
    for column, cell in zip(columns, row, strict=True):
        if column is None:
            continue
        position, key = column
        if position < 3:
            required[position] = cell
        elif cell:
            mappings[position - 3][key] = cell
    return Arguments._make((*required, *mappings, None, None))


FORMATS: dict[str, Callable[[Iterable[Line]], Iterator[Reading]]] = {
    "ndjson": partial(_parse_each, parse_json),
    "csv": read_csv,
    "combined": partial(_parse_each, access_log.parse),
}
