"""`brockman demo`: record triggers through an outage, and prove that each arrived once."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Any

import brockman
from brockman.cli.arguments import add_command, add_json
from brockman.cli.failure import CommandFailed
from brockman.cli.numbers import whole_number
from brockman.cli.proof import Proof, compose, examine
from brockman.cli.serve import has_collector
from brockman.cli.terminal import (
    Progress,
    Row,
    explain_interruption,
    format_table,
    ignore_signals,
    raise_on_signals,
)
from brockman.client import FocusLabClient
from brockman.options import Options
from brockman.process.clock import monotonic
from brockman.process.log import count_of
from brockman.stats import Stats

DESCRIPTION = """\
Start a collector, record triggers from many threads through a short outage, and prove from its database that each
of them arrived exactly once. Nothing leaves this machine, and nothing stays on it."""
EPILOG = """\
examples:

  brockman demo
  brockman demo --triggers 2000
  brockman demo --triggers 2000 --json

exit status: 0 each trigger arrived once; 1 some did not, or the collector failed; 2 wrong usage; 130 Ctrl-C."""
THREADS = 8
_OUTAGE = 1.0  # seconds
_PATIENCE = 30.0  # seconds that a thread waits for room in the buffer, and `flush` for the last triggers
_STOP_TIMEOUT = 10.0  # seconds


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "demo",
        run,
        help="see triggers delivered through an outage",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument(
        "--triggers", type=whole_number(1), default=20_000, metavar="N", help="how many (default: %(default)s)"
    )
    parser.add_argument("--seed", type=whole_number(), default=1, metavar="N", help="selects other triggers")
    add_json(parser, "print only the numbers, as JSON")


def run(options: argparse.Namespace) -> int:
    if not has_collector("demo"):
        return 2
    from brockman.collector.errors import InvalidSetting, StoreUnavailable

    try:
        with explain_interruption("nothing of it is left"):
            outcome, proof = _perform(options)
    except (CollectorFailed, InvalidSetting, StoreUnavailable) as error:
        raise CommandFailed(f"the collector failed: {error}") from None
    if options.json:
        print(json.dumps(_numbers(outcome, proof)))
        return 1 if proof.problems else 0
    return conclude(outcome, proof)


def _numbers(outcome: Outcome, proof: Proof) -> dict[str, Any]:
    stats = outcome.stats
    return {
        "recorded": stats.recorded,
        "delivered": stats.delivered,
        "requests": stats.batches,
        "retries": stats.retries,
        "rejected": stats.rejected,
        "dropped": sum(stats.dropped.values()),
        "rows": proof.rows,
        "distinct_ids": proof.distinct_ids,
        "duplicates": proof.duplicates,
        "seconds": round(outcome.seconds, 3),
        "cost_microseconds": round(median(outcome.costs) / 1000, 1),
        "problems": proof.problems,
    }


def _perform(options: argparse.Namespace) -> tuple[Outcome, Proof]:
    raise_on_signals()
    seed, count = options.seed, options.triggers
    api_key, outage_after = secrets.token_hex(16), max(1, count // 3)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="brockman-demo-")))
        stack.callback(ignore_signals)  # while the directory is removed
        database = folder / "triggers.sqlite3"
        with _collector(database, api_key, outage_after) as endpoint:
            if not options.json:
                _introduce(endpoint, count, outage_after)
            outcome = _record(endpoint, api_key, seed, count)
        return outcome, examine(database, seed, count)


def _introduce(endpoint: str, count: int, outage_after: int) -> None:
    print(f"collector at {endpoint}, a process with its SQLite file in a temporary directory")
    print(f"{count} triggers from {THREADS} threads through one client; after {outage_after} of them")
    print(f"the collector responds 503 for {_OUTAGE:g} s. With overflow='block' nothing is dropped:")
    print("a thread that finds the buffer full waits for room.", flush=True)


def conclude(outcome: Outcome, proof: Proof) -> int:
    stats, calls = outcome.stats, len(outcome.costs)
    dropped = ", ".join(f"{count} {reason}" for reason, count in stats.dropped.items())
    cost = f"{median(outcome.costs) / 1000:.1f}"
    rows: list[Row] = [
        ("recorded", str(stats.recorded), "by record_trigger"),
        ("delivered", str(stats.delivered), f"in {count_of(stats.batches, 'request')}"),
        ("retried", str(stats.retries), "attempts beyond the first"),
        ("rejected", str(stats.rejected), "by the collector"),
        ("dropped", str(sum(stats.dropped.values())), dropped or "by the client"),
        ("time", f"{outcome.seconds:.2f}", "seconds, from the first record_trigger to the end of flush"),
        ("rate", f"{stats.delivered / outcome.seconds:.0f}", "triggers a second over that time, outage included"),
        ("cost", cost, f"microseconds: median of {calls} calls of record_trigger,"),
        ("", "", f"in {THREADS} threads that compete"),
        ("rows", str(proof.rows), "in the collector's database, read after it has exited"),
        ("distinct ids", str(proof.distinct_ids), "among them"),
        ("duplicates", str(proof.duplicates), "dropped by the collector"),
    ]
    print(format_table(rows))
    print(proof.conclusion)
    return 1 if proof.problems else 0


class CollectorFailed(Exception):
    """Raised if the collector does not start. The text is its output."""


@contextmanager
def _collector(database: Path, api_key: str, outage_after: int) -> Iterator[str]:
    """Run `brockman serve` on a free port of the loopback interface; yield its endpoint."""
    command = [sys.executable, "-m", "brockman", "serve", "--port", "0", "--database", str(database)]
    package = os.path.dirname(os.path.dirname(os.path.abspath(brockman.__file__)))
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    with (
        (database.parent / "collector.log").open("w+", errors="replace") as log,
        subprocess.Popen(
            [*command, "--outage-after", str(outage_after), "--outage-for", str(_OUTAGE)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=database.parent,  # -m searches the current directory first, which may have a queue.py
            env={**os.environ, "FL_API_KEY": api_key, "PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C in the terminal does not reach it
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                process.wait(_STOP_TIMEOUT)
                log.seek(0)
                raise CollectorFailed(log.read().strip() or "no output")
            yield line.removeprefix("listening on ").strip()
        except BaseException:
            ignore_signals()
            raise
        finally:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT)
            finally:
                process.kill()


@dataclass(frozen=True)
class Outcome:
    """The client's side of the demonstration."""

    stats: Stats
    seconds: float  # from the first `record_trigger` to the end of the flush
    costs: list[int]  # the duration of each `record_trigger`, in nanoseconds


def _record(endpoint: str, api_key: str, seed: int, count: int) -> Outcome:
    # Defaults for all settings, so that those in the environment are ignored.
    settings: dict[str, Any] = {spec.name: spec.default for spec in fields(Options)}
    settings |= {"endpoint": endpoint, "api_key": api_key, "overflow": "block", "block_timeout": _PATIENCE}
    with FocusLabClient(**settings) as client:

        def look() -> tuple[int, str]:
            stats = client.stats()
            return stats.delivered, f"recorded={stats.recorded} retries={stats.retries}"

        with Progress(look, total=count, unit=" delivered"):
            started = monotonic()
            costs = _record_all(client, seed, count)
            client.flush(_PATIENCE)
            return Outcome(client.stats(), monotonic() - started, costs)


def _record_all(client: FocusLabClient, seed: int, count: int) -> list[int]:
    """Record the triggers 1 to `count` from `THREADS` threads; return the duration of each call in nanoseconds.

    All threads stop if a trigger is dropped. After an exception, such as Ctrl-C, the client is closed, so that
    no thread waits for room in the buffer.
    """
    stop = threading.Event()

    def record_share(first: int) -> list[int]:
        costs = []
        for number in range(first, count + 1, THREADS):
            if stop.is_set():
                break
            arguments = compose(seed, number)
            before = perf_counter_ns()
            recorded = client.record_trigger(*arguments[:6])
            costs.append(perf_counter_ns() - before)
            if not recorded:
                stop.set()
        return costs

    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="demo")
    try:
        shares = [pool.submit(record_share, first) for first in range(1, THREADS + 1)]
        return [cost for share in shares for cost in share.result()]
    except BaseException:
        stop.set()
        client.close(0.0)
        raise
    finally:
        pool.shutdown()
