"""`brockman demo`: triggers through an outage, and the proof that each arrived once."""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Any

import brockman
from brockman.cli.proof import Proof, compose, examine
from brockman.cli.serve import has_collector
from brockman.cli.source import Arguments
from brockman.cli.terminal import Progress, Row, format_table, ignore_signals
from brockman.client import FocusLabClient
from brockman.options import Options
from brockman.process.clock import monotonic
from brockman.stats import Stats

_STOP_WITHIN = 10.0  # seconds


class CollectorFailed(Exception):
    """Raised when the collector does not start; the text is what it said."""


class CollectorProcess:
    """Listens on a free port of the loopback interface. Its files are in a folder that the caller removes.

    Attributes:
        database: Path of its SQLite file.
        endpoint: Its URL, once it has started.
    """

    def __init__(self, folder: Path, api_key: str, *, outage_after: int, outage_for: float) -> None:
        """Prepare; nothing runs before `with`."""
        self.database = folder / "triggers.sqlite3"
        self.endpoint = ""
        self._folder = folder
        self._said = folder / "collector.log"
        self._api_key = api_key
        self._outage = ["--outage-after", str(outage_after), "--outage-for", str(outage_for)]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> CollectorProcess:
        """Start it, and wait until it listens.

        Raises:
            CollectorFailed: When it ends instead.
        """
        command = [sys.executable, "-m", "brockman.collector", "--port", "0", "--database", str(self.database)]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                command + self._outage,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                cwd=self._folder,  # -m looks for modules there first: the current one may hold a queue.py
                env=self._environment(),
                start_new_session=True,  # Ctrl-C at the terminal is for us; we end it when we have finished
            )
        try:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
            if not line.startswith("listening on "):
                self._process.wait(_STOP_WITHIN)
                raise CollectorFailed(self._said.read_text(errors="replace").strip() or "it said nothing")
        except BaseException:
            self.stop()
            raise
        self.endpoint = line.removeprefix("listening on ").strip()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, and wait until it has ended. Idempotent."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_WITHIN)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()

    def _environment(self) -> dict[str, str]:
        """Return ours, with the key, and with this very brockman to be found from another folder."""
        place = os.path.dirname(os.path.dirname(os.path.abspath(brockman.__file__)))
        paths = [place, os.environ.get("PYTHONPATH", "")]
        return {**os.environ, "FL_API_KEY": self._api_key, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


THREADS = 8


def record_all(client: FocusLabClient, compose: Callable[[int], Arguments], count: int) -> list[int]:
    """Record the triggers 1 to `count`, from `THREADS` threads.

    All stop when one is not buffered. When this is interrupted, the client is closed: a thread that waits for
    room in the buffer waits no longer.

    Args:
        client: What to record through.
        compose: Returns the arguments of the trigger of a number.
        count: How many.

    Returns:
        What each call of `record_trigger` took, in nanoseconds.
    """
    stop = threading.Event()
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="demo")
    try:
        shares = [
            pool.submit(_record_share, client, compose, range(first, count + 1, THREADS), stop)
            for first in range(1, THREADS + 1)
        ]
        return [cost for share in shares for cost in share.result()]
    except BaseException:
        stop.set()
        client.close(0.0)
        raise
    finally:
        pool.shutdown()


def _record_share(
    client: FocusLabClient, compose: Callable[[int], Arguments], numbers: range, stop: threading.Event
) -> list[int]:
    costs = []
    for number in numbers:
        if stop.is_set():
            break
        arguments = compose(number)
        before = perf_counter_ns()
        recorded = client.record_trigger(*arguments)
        costs.append(perf_counter_ns() - before)
        if not recorded:
            stop.set()
    return costs


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
        stack.callback(ignore_signals)  # on the way out this comes first
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
