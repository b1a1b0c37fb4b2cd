"""The arithmetic of docs/sizing.rst: `python -m tests.docs.sizing` writes its second table anew from the first."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from tests.docs.blocks import ROOT

PAGE = ROOT / "docs" / "sizing.rst"
BEGIN, END = ".. sizes begin\n", ".. sizes end\n"
_ROW = re.compile(r"^(.+?)  +([\d ]*\d)  +([\d ]*\d)$", re.MULTILINE)
PER_DAY = [10**exponent for exponent in range(3, 10)]
PEAK = 4  # times the average
BUSY = 0.5  # of a core at the peak
DAYS = 90
JOINING = 0.25  # of the time, while triggers arrive
MOST_OF_SQLITE, MOST_OF_POSTGRESQL = 100e9, 10e12  # bytes on one disk
COLUMNS = (
    *("a day", "a second, peak", "store", "collectors", "cores of PG"),
    *("disk a day", "disk of 90 days", "days", "joined"),
)
WIDTHS = (13, 14, 10, 10, 11, 10, 15, 6, 6)


@dataclass(frozen=True)
class Constants:
    """A column of the first table."""

    bytes_on_disk: int
    bytes_of_wal: int
    store: int  # microseconds of CPU in the collector
    store_in_postgresql: int
    join: int
    join_in_postgresql: int
    joined: int  # a second


def read_constants(page: str) -> tuple[Constants, Constants]:
    """Return the constants of SQLite and of PostgreSQL."""
    rows = [(int(one.replace(" ", "")), int(other.replace(" ", ""))) for _, one, other in _ROW.findall(page)]
    sqlite, postgresql = zip(*rows, strict=True)
    return Constants(*sqlite), Constants(*postgresql)


def size(per_day: int, sqlite: Constants, postgresql: Constants) -> tuple[str, ...]:
    """Return the cells of a row: SQLite as long as its file is not too large, and one collector is enough."""
    is_small = per_day * sqlite.bytes_on_disk * DAYS <= MOST_OF_SQLITE
    engine, most = (sqlite, MOST_OF_SQLITE) if is_small else (postgresql, MOST_OF_POSTGRESQL)
    second = per_day / 86_400
    a_day = per_day * engine.bytes_on_disk
    collectors = 1 if is_small else max(2, math.ceil(second * PEAK * engine.store / 1e6 / BUSY) + 1)
    cores = math.ceil(second * (PEAK * engine.store_in_postgresql + engine.join_in_postgresql) / 1e6 / BUSY)
    return (
        f"{per_day:,}".replace(",", " "),
        f"{math.ceil(second * PEAK):,}".replace(",", " "),
        "SQLite" if is_small else "PostgreSQL",
        str(collectors),
        "-" if is_small else str(max(1, cores)),
        show_bytes(a_day),
        show_bytes(a_day * DAYS),
        str(min(DAYS, int(most / a_day))),
        f"{min(100, int(100 * JOINING * engine.joined / second))} %",
    )


def show_bytes(number: float) -> str:
    """Return a number of bytes, rounded to two digits."""
    unit = max(1, int(math.log10(number)) // 3)
    value = number / 1000**unit
    return f"{value:.0f} {'_kMGTP'[unit]}B" if value >= 10 else f"{value:.1f} {'_kMGTP'[unit]}B"


def make_table(page: str) -> str:
    constants = read_constants(page.partition(BEGIN)[0])
    rule = "  ".join("=" * width for width in WIDTHS)
    rows = [COLUMNS, *(size(per_day, *constants) for per_day in PER_DAY)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, WIDTHS, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def write_table(page: str) -> str:
    """Return the page with the table as it follows from the constants."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{make_table(page)}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(write_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
