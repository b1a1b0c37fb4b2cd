"""Which format a file has, told from its first lines. Pure."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from brockman.cli.access_log import is_access_log, read_access_log
from brockman.cli.csv_rows import is_header, read_csv
from brockman.cli.formats import read_ndjson
from brockman.cli.source import BadLine, Line, Reading
from brockman.exceptions import ConfigurationError

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
