"""`brockman demo`: triggers through an outage, and the proof that each arrived once."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from brockman.cli.collector_process import CollectorFailed, CollectorProcess
from brockman.cli.extras import has_collector
from brockman.cli.interrupt import shield
from brockman.cli.proof import Proof, examine
from brockman.cli.recording import THREADS, record_all
from brockman.cli.scenario import compose
from brockman.cli.table import Row, format_table
from brockman.cli.terminal import Progress
from brockman.client import FocusLabClient
from brockman.options import Options
from brockman.process.clock import monotonic
from brockman.stats import Stats

DESCRIPTION = """\
Start a collector, record triggers from many threads while it is away for a moment, and prove from its database
that each of them arrived, and arrived once. Everything stays on this machine; nothing is left behind."""
_OUTAGE = 1.0  # seconds
_PATIENCE = 30.0  # seconds that a thread waits for room, and the end for the last trigger


def add_parser(commands: Any) -> None:
    """Add `demo` to the commands."""
    parser = commands.add_parser("demo", help="see triggers delivered through an outage", description=DESCRIPTION)
    parser.add_argument(
        "--triggers", type=_count, default=20_000, metavar="N", help="how many (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="makes other triggers")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demonstration."""
    if not has_collector("demo"):
        return 2
    from brockman.collector.errors import InvalidSetting, StoreUnavailable

    try:
        outcome, proof = _perform(options.seed, options.triggers)
    except (CollectorFailed, InvalidSetting, StoreUnavailable) as error:
        print(f"brockman demo: the collector failed: {error}", file=sys.stderr)
        return 1
    return conclude(outcome, proof)


def _perform(seed: int, count: int) -> tuple[Outcome, Proof]:
    api_key, outage_after = secrets.token_hex(16), max(1, count // 3)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="brockman-demo-")))
        collector = CollectorProcess(folder, api_key, outage_after=outage_after, outage_for=_OUTAGE)
        stack.enter_context(collector)
        stack.callback(shield)  # on the way out this comes first
        _introduce(collector.endpoint, count, outage_after)
        with _no_proxy():
            outcome = _record(collector.endpoint, api_key, seed, count)
        collector.stop()
        return outcome, examine(collector.database, seed, count)


def conclude(outcome: Outcome, proof: Proof) -> int:
    """Print the table and the verdict; return the exit status."""
    print(format_table(_rows(outcome, proof)))
    print(proof.verdict)
    return 1 if proof.problems else 0


@dataclass(frozen=True)
class Outcome:
    """What the client says of its work.

    Attributes:
        stats: Its counts.
        seconds: From the first `record_trigger` to the end of the flush.
        costs: What each `record_trigger` took, in nanoseconds.
    """

    stats: Stats
    seconds: float
    costs: list[int]


def _introduce(endpoint: str, triggers: int, outage_after: int) -> None:
    print(f"collector at {endpoint}, a process of its own, its SQLite file in a temporary folder")
    print(f"{triggers} triggers from {THREADS} threads through one client; after {outage_after} of them")
    print(f"the collector answers 503 for {_OUTAGE:g} s. overflow='block': a thread that finds the buffer full")
    print("waits for room, so that nothing is dropped.", flush=True)


def _record(endpoint: str, api_key: str, seed: int, count: int) -> Outcome:
    defaults: dict[str, Any] = {
        spec.name: spec.default for spec in fields(Options)
    }  # not what the environment may say
    settings = {"endpoint": endpoint, "api_key": api_key, "overflow": "block", "block_timeout": _PATIENCE}
    with FocusLabClient(**{**defaults, **settings}) as client:

        def look() -> tuple[int, str]:
            stats = client.stats()
            return stats.delivered, f"recorded={stats.recorded} retries={stats.retries}"

        with Progress(look, total=count, unit=" delivered"):
            started = monotonic()
            costs = record_all(client, partial(compose, seed), count)
            client.flush(_PATIENCE)
            return Outcome(client.stats(), monotonic() - started, costs)


@contextmanager
def _no_proxy() -> Iterator[None]:
    """Keep what goes to this machine away from a proxy that the environment names."""
    before = os.environ.get("no_proxy")
    others = before or os.environ.get("NO_PROXY", "")
    os.environ["no_proxy"] = f"127.0.0.1,{others}"
    try:
        yield
    finally:
        if before is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = before


def _rows(outcome: Outcome, proof: Proof) -> list[Row]:
    stats, calls = outcome.stats, len(outcome.costs)
    dropped = ", ".join(f"{count} {reason}" for reason, count in stats.dropped.items())
    return [
        ("recorded", str(stats.recorded), "by record_trigger"),
        ("delivered", str(stats.delivered), f"in {stats.batches} requests"),
        ("retried", str(stats.retries), "attempts beyond the first"),
        ("rejected", str(stats.rejected), "by the collector"),
        ("dropped", str(sum(stats.dropped.values())), dropped or "by the client"),
        ("time", f"{outcome.seconds:.2f}", "seconds, from the first record_trigger to the end of flush"),
        ("rate", f"{stats.delivered / outcome.seconds:.0f}", "triggers a second over that time, outage included"),
        (
            "cost",
            f"{median(outcome.costs) / 1000:.1f}",
            f"microseconds: median of {calls} calls of record_trigger,",
        ),
        ("", "", f"each timed in its thread, {THREADS} of which compete"),
        ("rows", str(proof.rows), "in the collector's database, read after it has ended"),
        ("distinct ids", str(proof.distinct_ids), "among them"),
        ("duplicates", str(proof.duplicates), "dropped by the collector"),
    ]


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} should be a whole number from 1")
    return count
