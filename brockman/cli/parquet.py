"""Triggers as a Parquet file. DuckDB writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

from brockman.cli.tables import FIELDS, MAPPINGS
from brockman.collector.timestamps import format_timestamp, parse_timestamp
from brockman.exceptions import ConfigurationError

_TYPES = {
    **dict.fromkeys(FIELDS, "VARCHAR"),
    "recorded_at": "TIMESTAMP",  # UTC, microseconds
    **dict.fromkeys(MAPPINGS.values(), "JSON"),
}
_MEMORY = "256MB"


def load_duckdb() -> Any:
    """Return the module; raise ConfigurationError if it is not installed."""
    try:
        return import_module("duckdb")
    except ImportError:
        raise ConfigurationError("--format parquet needs DuckDB: pip install duckdb") from None


@contextmanager
def parquet_rows(path: Path) -> Iterator[TextIO]:
    """Yield a file for lines of `parquet_line`, and make a Parquet file of them after the block."""
    duckdb = load_duckdb()
    with TemporaryDirectory(prefix=".brockman-", dir=path.parent) as folder:
        lines = Path(folder, "triggers.ndjson")
        with lines.open("w", encoding="utf-8") as file:
            yield file
        columns = ", ".join(f"{name}: '{kind}'" for name, kind in _TYPES.items())
        with duckdb.connect(
            config={"memory_limit": _MEMORY, "temp_directory": folder, "threads": 2}
        ) as connection:
            source = f"read_json({_quoted(lines)}, format = 'newline_delimited', columns = {{{columns}}})"
            statement = f"COPY (SELECT * FROM {source}) TO {_quoted(path)} (FORMAT parquet, COMPRESSION zstd)"
            try:
                connection.execute(statement)
            except duckdb.Error as error:
                raise OSError(f"DuckDB cannot write {path}: {error}") from None


def parquet_line(trigger: Mapping[str, Any]) -> str:
    """Return a row as JSON. What else a trigger has, beside the fields and mappings, is left out."""
    row = {name: trigger.get(name) for name in FIELDS}
    row["recorded_at"] = format_timestamp(parse_timestamp(str(row["recorded_at"])) or 0)
    row |= {column: trigger.get(name) or {} for name, column in MAPPINGS.items()}
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
