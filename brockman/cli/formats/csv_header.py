"""Parses the header of a CSV file, and finds its delimiter. No I/O."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from brockman.cli.formats.fields import ID_NAMES, POSITIONS, REQUIRED, TIME_NAMES
from brockman.cli.source import excerpt
from brockman.exceptions import ConfigurationError

SEPARATOR = re.compile('\ufeff?"?sep=(.)"?[,;\t|]*', re.IGNORECASE)  # Excel's first line
_FIRST_NAME = re.compile(
    "\ufeff?(?:actor_?id|action|obj(?:ect)?|id|recorded_?at|timestamp|time)\\b", re.IGNORECASE
)
_MAX_NAMES_LOOKED_AT = 20
DELIMITERS = (",", ";", "\t", "|")


def _simplify(name: str) -> str:
    return re.sub(r"[ _-]", "", name).casefold()


# The field that a name stands for, whatever its case: `Actor ID`, `messageId`.
_FIELDS_BY_POSITION = {position: name for name, position in reversed(POSITIONS.items())}
_FIELDS = {_simplify(name): _FIELDS_BY_POSITION[position] for name, position in POSITIONS.items()}
_STAMPS = {_simplify(name): name for name in reversed((*TIME_NAMES, *ID_NAMES))}


class Header(NamedTuple):
    """Numbers of columns: of the three required ones, of values with their mapping and key, of times and ids.

    A column without a key has JSON objects.
    """

    delimiter: str
    width: int
    required: tuple[int, int, int]
    values: list[tuple[int, int, str]]
    times: dict[str, int]
    ids: dict[str, int]


def find_header(line: str, mapping: Mapping[str, str], delimiters: Sequence[str] = DELIMITERS) -> Header | None:
    """Return the header that a line is, or None.

    Raises:
        ConfigurationError: If a column of it is wrong.
    """
    for delimiter in delimiters:
        names = _split(line, delimiter)
        if {field for name in names for field in _fields_of(name, mapping)} >= {*REQUIRED}:
            return _parse(names, delimiter, mapping)
    return None


def split_glued(line: str, mapping: Mapping[str, str]) -> tuple[str, str] | None:
    """Return a line and the header that begins in the middle of it: the file before had no last line break."""
    for match in islice(_FIRST_NAME.finditer(line, 1), _MAX_NAMES_LOOKED_AT):
        header = line[match.start() :]
        if find_header(header, mapping) is not None:
            return line[: match.start()], header
    return None


def _split(line: str, delimiter: str) -> list[str]:
    try:
        names = [name.strip("\ufeff \"'") for name in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []
    while names and not names[-1]:  # a delimiter at the end of the line
        names.pop()
    return names


def _fields_of(name: str, mapping: Mapping[str, str]) -> list[str]:
    """Return the fields that a column is for; the name itself if it is for none."""
    simple = _simplify(name)
    mapped = [field for field, column in mapping.items() if _simplify(column.strip()) == simple]
    if mapped:
        return mapped
    if simple in _STAMPS:
        stamp = _STAMPS[simple]
        return [] if ("time" if stamp in TIME_NAMES else "id") in mapping else [stamp]
    head, dot, key = name.partition(".")
    field = _FIELDS.get(_simplify(head), "")
    if field and POSITIONS[field] >= 3:
        field = f"{field}.{key}" if key else ""
    elif dot:
        field = ""
    if field:
        return [] if field in mapping else [field]
    return [name] if name and not mapping else []


def _parse(names: Sequence[str], delimiter: str, mapping: Mapping[str, str]) -> Header:
    required = [0, 0, 0]
    values: list[tuple[int, int, str]] = []
    times: dict[str, int] = {}
    ids: dict[str, int] = {}
    seen: set[str] = set()
    for index, name in enumerate(names):
        for field in _fields_of(name, mapping):
            if field in seen:
                raise ConfigurationError(f"the CSV header names the column {excerpt(name)} twice")
            seen.add(field)
            head, _, key = field.partition(".")
            position = POSITIONS.get(head, -1)
            if (field == "time" and field in mapping) or field in TIME_NAMES:
                times[name if field in mapping else field] = index
            elif field in ID_NAMES:
                ids[name if field in mapping else field] = index
            elif 0 <= position < 3:
                required[position] = index
            elif position >= 3 and (key or field in mapping):
                values.append((index, position - 3, key))
            else:
                raise ConfigurationError(
                    f"the CSV header has a column {excerpt(name)}; it should be one of {', '.join(REQUIRED)}, id,"
                    " recorded_at, identities.NAME, attributes.NAME, variables.NAME; or give --map FIELD=NAME"
                )
    missing = [column for field, column in mapping.items() if field not in seen]
    if missing:
        raise ConfigurationError(
            f"the CSV header is {excerpt(delimiter.join(names))}; it has no column {excerpt(missing[0])} (--map)"
        )
    times = {name: times[name] for name in (*TIME_NAMES, *times) if name in times}  # the best first
    ids = {name: ids[name] for name in (*ID_NAMES, *ids) if name in ids}
    actor_id, action, obj = required
    return Header(delimiter, len(names), (actor_id, action, obj), values, times, ids)
