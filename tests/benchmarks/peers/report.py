"""The tables."""

from __future__ import annotations

import math

from tests.benchmarks.peers.results import Results
from tests.benchmarks.peers.sides import SIDES

_CALLS = (("median", "median"), ("p99", "p99"), ("p999", "p99.9"), ("max", "max"))


def short(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(results: Results, part: str, title: str, columns: tuple[tuple[str, str], ...], *, wide: str) -> None:
    """Print a line for each side; of the figure `wide` also the least and greatest of all rounds."""
    if not results.sides_of(part):
        return
    print(f"\n{title}")
    print(f"{'':12}" + "".join(f"{name:>11}" for _, name in columns) + f"{'of ' + dict(columns)[wide]:>20}")
    for side in results.sides_of(part):
        cells = "".join(f"{short(results.median(part, side, figure)):>11}" for figure, _ in columns)
        least, most = results.spread(part, side, wide)
        lost = results.lost(part, side)
        print(
            f"{side:12}{cells}{short(least) + ' to ' + short(most):>20}" + (f"  LOST {lost:,.0f}" if lost else "")
        )


def growth(results: Results, group: str, title: str, figure: str) -> None:
    """Print a column for each part of a group."""
    parts = results.parts(group)
    sides = [side for side in results.sides if any(side in results.sides_of(part) for part in parts)]
    if not sides:
        return
    print(f"\n{title}")
    print(f"{'':12}" + "".join(f"{part.split()[1]:>12}" for part in parts))
    for side in sides:
        cells = [short(results.median(part, side, figure)) for part in parts]
        lost = [part.split()[1] for part in parts if results.lost(part, side)]
        print(
            f"{side:12}" + "".join(f"{c:>12}" for c in cells) + (f"  LOST some: {', '.join(lost)}" if lost else "")
        )


def print_report(results: Results) -> None:
    print(f"medians of {results.rounds} rounds; the last column is the least and greatest of all rounds")
    silent = [side for side in results.sides if not SIDES[side].in_background]
    if silent:
        print(f"{', '.join(silent)} has no thread: what it sends, it sends within the call")
    delivery = (("cpu", "CPU each"), ("rate", "sent/s"))
    table(
        results, "burst", "a burst: one call, and CPU for one delivered, in us", (*_CALLS, *delivery), wide="p999"
    )
    table(
        results,
        "paced",
        "1000 a second: one call, and CPU for one delivered, in us",
        (*_CALLS, delivery[0]),
        wide="p999",
    )
    for part, title in (("default burst", "a burst"), ("default paced", "1000 a second")):
        table(
            results,
            part,
            f"{title}, peers at their own default size of a batch",
            (*_CALLS, *delivery),
            wide="p999",
        )
    for part, title in (("loop burst", "a burst"), ("loop paced", "1000 a second")):
        table(results, part, f"{title}, of a loop instead of a call: the machine itself", _CALLS, wide="p999")
    for part, title in (("unsent burst", "a burst"), ("unsent paced", "1000 a second")):
        table(results, part, f"{title}, while nothing is sent: one call, in us", _CALLS, wide="p999")
    growth(results, "threads", "recorded a second, by all threads together, of", "recorded_rate")
    growth(results, "threads", "p99.9 of one call in us, threads", "p999")
    table(
        results,
        "memory",
        "resident memory of one that waits, in bytes",
        (("each", "whole"), ("beside", "beside JSON")),
        wide="each",
    )
    table(
        results,
        "starting",
        "import, and until a client is made, in ms (floor: requests, and a session)",
        (("import", "import"), ("ready", "ready")),
        wide="import",
    )
    table(
        results,
        "ending",
        "the end of a process that has just recorded 1000, in s",
        (("seconds", "seconds"),),
        wide="seconds",
    )
    for name in ("burst", "paced"):
        table(results, f"spooled {name}", f"spooled, {name}: one call, in us", (*_CALLS, *delivery), wide="p999")
    growth(results, "size", "one call in a burst, median in us, bytes of a trigger", "median")
    growth(results, "size", "CPU for one delivered, in us, bytes of a trigger", "cpu")
    growth(results, "batch", "CPU for one delivered, in us, max_batch_size", "cpu")
    growth(results, "batch", "p99.9 of one call in us, max_batch_size", "p999")
    growth(results, "depth", "one call, median in us, by the number that wait", "median")
    growth(results, "delayed", "delivered a second, ms of delay", "rate")
    growth(results, "delayed", "p99.9 of one call in us, ms of delay", "p999")
    table(
        results,
        "steady",
        "5000 a second behind 200 ms: the most that waited in the first third, and in the last",
        (("early", "early"), ("late", "late")),
        wide="late",
    )
