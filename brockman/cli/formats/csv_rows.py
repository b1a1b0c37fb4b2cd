"""Parses CSV: a header, and then a trigger in each row. No I/O.

Cells are text and stay text; an empty cell of a mapping is left out.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from brockman.cli.formats.csv_header import DELIMITERS, SEPARATOR, Header, find_header, split_glued
from brockman.cli.formats.fields import REQUIRED, UnreadableField, flatten, read_id, read_time
from brockman.cli.formats.ndjson import load
from brockman.cli.source import Arguments, BadLine, Line, Reading, excerpt
from brockman.exceptions import ConfigurationError

_MAX_LINES_OF_A_ROW = 1000


def read_csv(lines: Iterable[Line], mapping: Mapping[str, str]) -> Iterator[Reading]:
    """Parse a CSV file, also several in one, each with its header.

    Raises:
        ConfigurationError: If a header is wrong.
    """
    feed = _Feed(lines)
    rows = csv.reader(feed)
    header: Header | None = None
    delimiters: tuple[str, ...] = DELIMITERS
    hint = mapping.get("action", "action").casefold()  # no header is without it
    while (line := feed.peek()) is not None:
        number, text = line
        if isinstance(text, str):
            separator = SEPARATOR.fullmatch(text) if "=" in text[:6] else None
            found = None
            if separator is not None:
                delimiters = (separator[1], *DELIMITERS)
            elif header is None or hint in text.casefold():
                found = _find_header(line, mapping, delimiters)
            if found is not None:
                header = found
                rows = csv.reader(feed, strict=True, delimiter=header.delimiter)
            if found is not None or separator is not None:
                feed.skip()
                continue
            if header is not None and hint in text.casefold():
                feed.replace(number, split_glued(text, mapping) or (text,))
        if header is not None:
            yield from _read_row(feed, rows, header)
            continue
        feed.skip()
        if isinstance(text, BadLine):
            yield number, text
        elif not text.isspace() and text:
            raise ConfigurationError(
                f"the CSV header is {excerpt(text)}; it should name {', '.join(REQUIRED)}, or --map their names"
            )


def _find_header(line: Line, mapping: Mapping[str, str], delimiters: Sequence[str]) -> Header | None:
    try:
        return find_header(str(line[1]), mapping, delimiters)
    except ConfigurationError as error:
        raise ConfigurationError(f"line {line[0]}: {error}") from None


def _read_row(feed: _Feed, rows: Iterator[list[str]], header: Header) -> Iterator[Reading]:
    """Yield the next row, unless it is blank. After one that is not CSV, its second line is the next."""
    taken = feed.taken
    taken.clear()
    try:
        row = next(rows, [])
    except csv.Error as error:
        number, text = taken[0]
        until = f" (the row runs to line {taken[-1][0]})" if len(taken) > 1 else ""
        yield number, text if isinstance(text, BadLine) else BadLine(f"not CSV: {error}{until}")
        feed.put_back()
        return
    reading = parse_row(row, header)
    first, last = taken[0][0], taken[-1][0]
    if first == last and isinstance(taken[0][1], str):
        if reading is not None:
            yield first, reading
        return
    are_rows = [_is_row(text, header) for _, text in taken[1:]]
    bad = next(((number, text) for number, text in taken if isinstance(text, BadLine)), None)
    if are_rows and all(are_rows[:-1]) and sum(are_rows) > 1:  # text with as many commas is rare
        yield first, BadLine(f"not CSV: a quote in it is open to line {last}, across what look like rows")
        feed.put_back()
    elif bad is not None:
        number, text = bad
        place = "" if number == first else f" (in the row from line {first})"
        yield number, BadLine(f"{text.reason}{place}")
    elif reading is not None:
        if isinstance(reading, BadLine) and any(are_rows):
            feed.put_back()
        yield first, reading


def _is_row(text: str | BadLine, header: Header) -> bool:
    try:
        row = next(csv.reader([_text(text)], strict=True, delimiter=header.delimiter), [])
    except csv.Error:
        return False
    return len(row) == header.width


def parse_row(row: list[str], header: Header) -> Arguments | BadLine | None:
    """Return the trigger of a row, or None if all its cells are empty."""
    width = header.width
    if len(row) != width:
        if "".join(row).strip() == "":
            return None
        if len(row) < width or any(row[width:]):
            return BadLine(f"{len(row)} cells, where the header has {width}")
    if not any(row):
        return None
    actor_id, action, obj = header.required
    mappings: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = {}, {}, {}
    at = own_id = None
    try:
        for index, mapping, key in header.values:
            if row[index]:
                mappings[mapping].update({key: row[index]} if key else _load_object(row[index]))
        if header.times:
            at = read_time({name: row[index] for name, index in header.times.items()}, [*header.times])
        if header.ids:
            own_id = read_id({name: row[index] for name, index in header.ids.items()}, [*header.ids])
    except UnreadableField as error:
        return BadLine(str(error))
    return Arguments(row[actor_id], row[action], row[obj], *mappings, at, own_id)


def _load_object(cell: str) -> dict[str, Any]:
    value = load(cell)
    if isinstance(value, BadLine):
        raise UnreadableField(f"a cell that --map has for an object is {value.reason}")
    return flatten(value)


def _text(line: str | BadLine) -> str:
    return line.text if isinstance(line, BadLine) else line  # the quotes of a bad line still count


class _Feed:
    """The lines for `csv.reader`, which accepts only text; a quoted cell may span several of them."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._next: deque[Line] = deque()
        self.taken: list[Line] = []

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if len(self.taken) >= _MAX_LINES_OF_A_ROW:
            raise csv.Error(f"a quoted cell has more than {_MAX_LINES_OF_A_ROW} lines")
        line = self.peek()
        if line is None:
            raise StopIteration
        self.taken.append(self._next.popleft())
        return _text(line[1]).lstrip("\0") + "\n"

    def peek(self) -> Line | None:
        """Return the next line without taking it; None at the end."""
        if not self._next:
            self._next.extend(islice(self._lines, 1))
        return self._next[0] if self._next else None

    def skip(self) -> None:
        self._next.popleft()

    def replace(self, number: int, texts: Sequence[str]) -> None:
        """Put lines instead of the next one."""
        self._next.popleft()
        self._next.extendleft((number, text) for text in reversed(texts))

    def put_back(self) -> None:
        """Make the second line of the last row the next one."""
        self._next.extendleft(reversed(self.taken[1:]))
