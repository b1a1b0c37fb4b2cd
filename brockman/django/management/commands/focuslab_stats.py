"""`manage.py focuslab_stats`: print the counts of triggers, of each process and of all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from brockman.django.client import DjangoFocusLabClient
from brockman.django.settings import DjangoSettings, read_settings
from brockman.django.shared_stats import ProcessStats, is_private, read_all
from brockman.exceptions import ConfigurationError
from brockman.process.clock import wall
from brockman.stats import Stats

_COLUMNS = ("recorded", "recovered", "delivered", "rejected", "dropped", "waiting")


class Command(BaseCommand):
    help = (
        "Prints how many triggers were recorded, recovered from a spool, delivered, rejected and dropped, and how"
        " many wait: of each process that wrote its counts to the cache FL_STATS_CACHE within a day, and of all."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object for each process, a line each")

    def handle(self, *args: Any, **options: Any) -> None:
        client = DjangoFocusLabClient()
        try:
            alias = read_settings(DjangoSettings).stats_cache
            processes = [ProcessStats("here", 0, wall(), client.stats())] if alias is None else _read(alias)
        except ConfigurationError as error:
            raise CommandError(f"The settings are wrong: {error}.") from None
        if options["json"]:
            for process in processes:
                self.stdout.write(json.dumps(asdict(process)))
            return
        if alias is None:
            self.stdout.write(
                "Each process has counts of its own, and this one has just started. Name a cache that processes"
                " share in FL_STATS_CACHE, and they write their counts there. This process:"
            )
        for line in _table(processes):
            self.stdout.write(line)


def _read(alias: str) -> list[ProcessStats]:
    try:
        processes = None if is_private(alias) else list(read_all(alias))
    except Exception as error:  # a cache's own errors have no class in common
        raise CommandError(f"The cache {alias!r} of FL_STATS_CACHE cannot be read: {error!r}") from None
    if processes is None:
        raise CommandError(f"The cache {alias!r} of FL_STATS_CACHE is not shared by processes.")
    return processes


def _table(processes: Sequence[ProcessStats]) -> Iterator[str]:
    """Yield a line for each process, the sums, the reasons of drops, and the last errors."""
    if not processes:
        yield "No process has recorded a trigger and written its counts within a day."
        return
    yield f"{'process':<28}" + "".join(f"{name:>12}" for name in _COLUMNS) + f"{'written':>10}"
    reasons: Counter[str] = Counter()
    sums = [0] * len(_COLUMNS)
    now = wall()
    for process in processes:
        counts = _counts(process.stats)
        sums = [total + count for total, count in zip(sums, counts, strict=True)]
        reasons.update(process.stats.dropped)
        name = f"{process.host[:20]} {process.pid or ''}"
        yield f"{name:<28}" + "".join(f"{count:>12}" for count in counts) + f"{now - process.left_at:>6.0f} s ago"
    yield f"{'all':<28}" + "".join(f"{count:>12}" for count in sums)
    if reasons:
        yield "dropped: " + ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    for kind, name in (("last error", "last_error"), ("not on disk", "spool_error")):
        for error in sorted({getattr(process.stats, name) or "" for process in processes} - {""}):
            yield f"{kind}: {error}"


def _counts(stats: Stats) -> list[int]:
    waiting = stats.queued + stats.in_flight
    dropped = sum(stats.dropped.values())
    return [stats.recorded, stats.recovered, stats.delivered, stats.rejected, dropped, waiting]
