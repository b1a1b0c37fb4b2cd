"""Triggers as rows of CSV: columns for what is in the mappings, named as `brockman import` reads them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from brockman.exceptions import ConfigurationError

FIELDS = ("id", "recorded_at", "actor_id", "action", "object")
MAPPINGS = {"captured_identities": "identities", "captured_attributes": "attributes", "variables": "variables"}
MAX_COLUMNS = 2000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # as a spreadsheet begins one


def cells_of(trigger: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the columns of a trigger, with their values."""
    for name, value in trigger.items():
        if name in MAPPINGS and isinstance(value, Mapping):
            for key, inner in value.items():
                yield f"{MAPPINGS[name]}.{key}", inner
        elif value is not None:
            yield name, value


class Columns:
    """The columns that any of the triggers has."""

    def __init__(self) -> None:
        self._found: dict[str, set[str]] = {name: set() for name in ("", *MAPPINGS.values())}
        self._known: set[str] = set(FIELDS)

    def add(self, trigger: Mapping[str, Any]) -> None:
        for column, _ in cells_of(trigger):
            if column not in self._known:
                if len(self._known) == MAX_COLUMNS:
                    raise ConfigurationError(
                        f"there are more than {MAX_COLUMNS} columns; use --format ndjson, or --where"
                    )
                self._known.add(column)

    def names(self) -> list[str]:
        """Return them in order: fields, identities, attributes, variables, and what else a trigger has."""
        groups = [f"{name}." for name in MAPPINGS.values()]

        def place(column: str) -> tuple[int, str]:
            return next((n for n, group in enumerate(groups) if column.startswith(group)), len(groups)), column

        return [*FIELDS, *sorted(self._known - set(FIELDS), key=place)]


class Table:
    """Writes triggers as CSV (RFC 4180)."""

    def __init__(self, file: TextIO, columns: Columns, *, is_spreadsheet: bool) -> None:
        self._names = columns.names()
        self._known = set(self._names)
        self._is_spreadsheet = is_spreadsheet
        self._writer = csv.writer(file)
        self._writer.writerow(map(self._guarded, self._names))

    def write(self, trigger: Mapping[str, Any]) -> bool:
        """Write a row; return False if the trigger has a column that is not known: it is newer than these."""
        cells = dict(cells_of(trigger))
        if not cells.keys() <= self._known:
            return False
        self._writer.writerow([self._guarded(_text(cells[name])) if name in cells else "" for name in self._names])
        return True

    def _guarded(self, text: str) -> str:
        text = text.replace("\0", "\ufffd")  # which `csv` cannot write before Python 3.11, and few programs read
        return f"'{text}" if self._is_spreadsheet and text.startswith(_FORMULA) else text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
