"""`brockman export`: write the triggers of a collector to a file."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

from brockman.cli.arguments import add_command, add_where
from brockman.cli.conditions import FIELDS, TIMES, Conditions
from brockman.cli.parquet import load_duckdb, parquet_line, parquet_rows
from brockman.cli.refusals import read_refused
from brockman.cli.requesting import Api, add_source_options
from brockman.cli.spool_view import is_file
from brockman.cli.stored import Stored, store_location, stored_triggers
from brockman.cli.tables import Columns, Table
from brockman.cli.terminal import Progress, explain_interruption, raise_on_signals
from brockman.collector import strict_json
from brockman.exceptions import ConfigurationError
from brockman.options.fields import printable
from brockman.process.log import count_of

DESCRIPTION = """\
Write the triggers of a collector to standard output or a file, in the order of their arrival: those that are
stored when the export begins, while others arrive."""
EPILOG = """\
examples:

  brockman export > triggers.ndjson
  brockman export --where action=paid --since 2026-11-01 --format csv --output paid.csv
  brockman export --store focuslab.sqlite3 --format parquet --output triggers.parquet
  brockman export --refused --where action=paid

formats:

  ndjson    One JSON object in each line, as it was sent. `brockman import --format ndjson` takes it, and keeps ids
            and times: importing it into the same collector changes nothing.
  csv       A row for each trigger, a column for each field and each name in identities, attributes and variables.
            The triggers are read twice, first for the names. Lists are JSON. With --spreadsheet, a text that a
            spreadsheet would take for a formula begins with a quotation mark.
  parquet   Columns id, recorded_at (UTC), actor_id, action, object, and identities, attributes and variables as
            JSON. Needs DuckDB (pip install duckdb), --output, and room for the triggers as JSON beside the file.

exit status: 0 everything was written; 1 it was not, and FILE is as before; 2 wrong usage; 130 Ctrl-C."""


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "export",
        run,
        help="write the triggers of a collector to a file",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add_where(parser, "only triggers with this value")
    parser.add_argument("--since", metavar="TIME", help="recorded at this time or later: a date, or ISO 8601")
    parser.add_argument("--until", metavar="TIME", help="recorded before it")
    parser.add_argument("--format", choices=["ndjson", "csv", "parquet"], default="ndjson", help="default: ndjson")
    parser.add_argument("--output", metavar="FILE", help="write to a file, which is replaced when it is complete")
    parser.add_argument("--spreadsheet", action="store_true", help="CSV without formulas")
    parser.add_argument(
        "--refused", action="store_true", help="the refused triggers, with their reasons, as ndjson"
    )
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    conditions = _check(options)
    raise_on_signals()
    with explain_interruption("the output ends early" if options.output is None else "the file is as before"):
        if options.refused:
            written = _run(options, _Refused(Api(options), conditions))
        else:
            with stored_triggers(options) as stored:
                written = _run(options, _Triggers(stored, conditions))
    if options.output is not None:
        print(f"{count_of(written, 'trigger')} written to {printable(options.output)}", file=sys.stderr)
    return 0


def _check(options: argparse.Namespace) -> Conditions:
    if options.format == "parquet":
        load_duckdb()
        if options.output is None:
            raise ConfigurationError("--format parquet needs --output FILE")
    if options.spreadsheet and options.format != "csv":
        raise ConfigurationError("--spreadsheet is for --format csv")
    if options.refused and options.format != "ndjson":
        raise ConfigurationError(f"--refused is for --format ndjson, not {options.format}")
    if options.refused and store_location(options) is not None:
        raise ConfigurationError("--refused needs a collector: set FL_ENDPOINT")
    times = [f"{name}={text}" for name in TIMES if (text := getattr(options, name)) is not None]
    return Conditions([*options.where, *times], more=("reason",) if options.refused else ())


class _Triggers:
    """Those that match, in the order of their arrival, and as often as they are asked for."""

    unit = " triggers"

    def __init__(self, stored: Stored, conditions: Conditions) -> None:
        self._stored, self._conditions = stored, conditions
        self._filters = conditions.parameters((*FIELDS, *TIMES))
        self._newest = stored.newest()
        self.total = None if conditions else stored.count()
        self.read = 0

    def lines(self) -> Iterator[str]:
        self.read = 0
        for page in self._stored.pages(self._filters, self._newest):
            for line in page:
                if not self._conditions or self._conditions.matches(strict_json.parse(line.encode())):
                    yield line
            self.read += len(page)


class _Refused:
    """The refused triggers that match, with their reasons, the oldest first."""

    unit = " refused triggers"

    def __init__(self, api: Api, conditions: Conditions) -> None:
        self._api, self._conditions = api, conditions
        self.total: int | None = None
        self.read = 0

    def lines(self) -> Iterator[str]:
        for entries in read_refused(self._api, self._conditions):
            for entry in entries:
                yield json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
            self.read += len(entries)


def _run(options: argparse.Namespace, source: _Triggers | _Refused) -> int:
    """Write the file, and return how many triggers it has."""
    has_bar = options.output is not None or is_file(sys.stdout.buffer)
    bar: AbstractContextManager[object] = nullcontext()
    if has_bar:
        bar = Progress(lambda: (source.read, ""), total=source.total, unit=source.unit)
    with bar, _target(options.output) as path:
        if options.format == "parquet":
            assert path is not None
            with parquet_rows(path) as file:
                return _write(file, (parquet_line(strict_json.parse(line.encode())) for line in source.lines()))
        with _opened(path) as file:
            if options.format == "ndjson":
                return _write(file, source.lines())
            columns = Columns()
            for line in source.lines():
                columns.add(strict_json.parse(line.encode()))
            table = Table(file, columns, is_spreadsheet=options.spreadsheet)
            return sum(table.write(strict_json.parse(line.encode())) for line in source.lines())


def _write(file: TextIO, lines: Iterator[str]) -> int:
    count = 0
    for count, line in enumerate(lines, start=1):  # noqa: B007
        file.write(f"{line}\n")
    return count


@contextmanager
def _target(output: str | None) -> Iterator[Path | None]:
    """Yield the path of a file that becomes the output after the block, if it is complete; None is stdout."""
    if output is None or (os.path.exists(output) and not os.path.isfile(output)):
        yield None if output is None else Path(output)  # a device, or a pipe
        return
    path = Path(os.path.realpath(output))
    if not path.parent.is_dir():
        raise ConfigurationError(f"--output: there is no directory {str(path.parent)!r}")
    with TemporaryDirectory(prefix=".brockman-export-", dir=path.parent) as folder:
        written = Path(folder, path.name)
        yield written
        written.chmod(0o600)
        os.replace(written, path)


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        file = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="", write_through=False)
        try:
            yield file
            file.flush()
        finally:
            with suppress(OSError):
                file.detach()
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        yield file
