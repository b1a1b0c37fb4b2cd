"""Lines a second that `brockman import` delivers: `python -m tests.benchmarks.importing`.

A log of 100 000 lines goes to a collector in a process of its own, on a new file. With `--beside PATH` the import
of another checkout of brockman does the same in turn, and the ratio is printed: by the clock, and by the processor
time of import and collector, which depends less on what else the machine does.

Then the log is imported again as it grew by a tenth, and as it was rotated: the collector should hold each line
once.
"""

from __future__ import annotations

import argparse
import gzip
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from brockman.collector.store import open_store
from brockman.collector.store.values import Query

ROOT = Path(__file__).parents[2]
KEY = "0123456789abcdef0123456789abcdef"


class Cost(NamedTuple):
    """The time that an import takes for each line."""

    wall: float  # microseconds, as it prints them
    import_cpu: float  # with the start of the process
    collector_cpu: float


def write_log(path: Path, first: int, last: int) -> None:
    """Write some lines of one log: every tenth is the same as the one before, 50 have the same time."""
    with path.open("w") as log:
        for number in range(first, last):
            number -= number % 10 == 1
            hour, minute, second = number // 50 // 3600, number // 50 // 60 % 60, number // 50 % 60
            log.write(
                f"203.0.113.{number % 250} - - [10/Oct/2025:{hour:02d}:{minute:02d}:{second:02d} +0200]"
                f' "GET /page/{number}?from=mail HTTP/1.1" 200 {number} "https://example.com/"'
                f' "Mozilla/5.0 (X11; Linux x86_64; rv:{number % 7}.0) Gecko/20100101 Firefox/128.0"\n'
            )


@contextmanager
def collecting(database: Path) -> Iterator[tuple[str, list[float]]]:
    """Run a collector of this checkout; its processor time is in the list afterwards."""
    cpu: list[float] = []
    command = [sys.executable, "-m", "brockman", "serve", "--port", "0", "--database", str(database)]
    with subprocess.Popen(command, cwd=ROOT, env=environment(ROOT), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().removeprefix("listening on ").strip(), cpu
        finally:
            process.terminate()
            cpu.append(wait(process))


def environment(checkout: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(checkout), "FL_API_KEY": KEY}


def wait(process: subprocess.Popen[str]) -> float:
    """Wait for a process; return the processor time that it used."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def run_import(checkout: Path, endpoint: str, *files: Path) -> tuple[dict[str, float], float]:
    """Import files; return the numbers of the table, and the processor time."""
    command = [sys.executable, "-m", "brockman", "import", "--endpoint", endpoint, *map(str, files)]
    with subprocess.Popen(
        command, cwd=checkout, env=environment(checkout), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        rows = [line.split("  ", 1) for line in process.stdout.read().splitlines()]
        return {label: float(rest.split()[0]) for label, rest in rows if rest.split()[0] != "unknown"}, wait(
            process
        )


def measure(checkout: Path, log: Path, count: int) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        with collecting(Path(folder) / "triggers.sqlite3") as (endpoint, collector_cpu):
            table, import_cpu = run_import(checkout, endpoint, log)
        assert table["lines read"] == count
        return Cost(*(1e6 * seconds / count for seconds in (table["seconds"], import_cpu, *collector_cpu)))


def check_again(folder: Path, count: int) -> None:
    """Import a log three times; raise AssertionError unless each of its lines is held once."""
    log, rotated, database = folder / "access.log", folder / "access.log.1.gz", folder / "triggers.sqlite3"
    grown, total = count + count // 10, count + count // 5
    with collecting(database) as (endpoint, _):
        write_log(log, 0, count)
        tables = [run_import(ROOT, endpoint, log)[0]]
        write_log(log, 0, grown)
        tables.append(run_import(ROOT, endpoint, log)[0])
        rotated.write_bytes(gzip.compress(log.read_bytes()))
        write_log(log, grown, total)
        tables.append(run_import(ROOT, endpoint, folder / "access.log*")[0])
    print(
        "imported again: "
        + ", ".join(f"{table['new']:.0f} new, {table['repeated']:.0f} repeated" for table in tables)
    )
    with closing(open_store(database)) as store:
        held: Counter[str] = Counter()
        after: int | None = 0
        while after is not None:
            page = store.page(Query(limit=10_000, after=after))
            held.update(body.split('"object":"')[1].split('"')[0] for body in page.bodies)
            after = page.next
    assert held == Counter(f"/page/{number - (number % 10 == 1)}" for number in range(total))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", type=Path, help="another checkout of brockman")
    options = parser.parse_args()
    checkouts = [ROOT, *([options.beside.resolve()] if options.beside else [])]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "access.log"
        write_log(log, 0, options.lines)
        rounds = [[measure(each, log, options.lines) for each in checkouts] for _ in range(options.rounds)]
        costs = [Cost(*map(statistics.median, zip(*of_one, strict=True))) for of_one in zip(*rounds, strict=True)]
        for checkout, cost in zip(checkouts, costs, strict=True):
            print(f"{1e6 / cost.wall:8.0f} lines a second  {checkout}")
            cpu = f"import {cost.import_cpu:.1f} us, collector {cost.collector_cpu:.1f} us"
            print(f"{'':9}processor time for each: {cpu}")
        if options.beside:
            own, other = costs
            cpu = (other.import_cpu + other.collector_cpu) / (own.import_cpu + own.collector_cpu)
            print(
                f"ratio of this one to that: {other.wall / own.wall:.2f} by the clock, {cpu:.2f} by processor time"
            )
        check_again(Path(folder), options.lines)
        print("each line is held once")


if __name__ == "__main__":
    main()
