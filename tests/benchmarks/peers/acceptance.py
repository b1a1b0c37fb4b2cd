"""The bounds that brockman is to keep, as ratios within one run."""

from __future__ import annotations

import math

from tests.benchmarks.peers.results import Results


def judge(results: Results) -> int:
    """Print every bound and whether it is kept; return the exit status."""
    broken = 0
    print("\nacceptance" + f"{'found':>71}{'bound':>11}")
    for name, found, bound, at_least in checks(results):
        if math.isnan(found):
            print(f"  {name:66}{'-':>13}{'':>11}  not measured")
            continue
        kept = found >= bound if at_least else found <= bound
        broken += not kept
        sign = ">=" if at_least else "<="
        print(f"  {name:66}{found:13.2f}  {sign} {bound:<7g} {'pass' if kept else 'FAIL'}")
    return 1 if broken else 0


def checks(results: Results) -> list[tuple[str, float, float, bool]]:
    """Return name, what was found, the bound, and whether the bound is the least."""
    ours = lambda part, figure: results.median(part, "brockman", figure)  # noqa: E731
    grown = _grown(results)
    late = ours("steady", "late") / max(1.0, ours("steady", "early"))
    return [
        ("one call in a burst, x floor", results.ratio("burst", "median"), 1.7, False),
        ("p99.9 in a burst, x floor", results.ratio("burst", "p999"), 3, False),
        ("p99.9 paced, x floor", results.ratio("paced", "p999"), 2.5, False),
        ("CPU for one delivered, x floor", results.ratio("burst", "cpu"), 1.3, False),
        *_against_peers(results, "", "500 a batch"),
        *_against_peers(results, "default ", "its default"),
        (
            "64 threads: recorded a second, x one thread",
            results.ratio("threads 64", "recorded_rate", to="brockman", to_part="threads 1"),
            0.8,
            True,
        ),
        ("64 threads: p99.9 of one call, us", ours("threads 64", "p999"), 2000, False),
        ("memory of one that waits, bytes beside its JSON", ours("memory", "beside"), 100, False),
        ("import brockman.client, x import requests", results.ratio("starting", "import"), 1 / 3, False),
        ("one call at the greatest depth, x that at 1000", grown, 1.1, False),
        ("behind 200 ms at 5000 a second: lost", ours("steady", "lost"), 0, False),
        ("  and the most that waited, last third to first", late, 1.5, False),
    ]


def _against_peers(results: Results, setup: str, words: str) -> list[tuple[str, float, float, bool]]:
    def times(part: str, figure: str) -> float:
        return results.best(setup + part, figure) / results.median(part, "brockman", figure)

    rate = results.median("burst", "brockman", "rate") / results.best(setup + "burst", "rate", most=True)
    return [
        (f"one call in a burst of the best peer ({words}), x ours", times("burst", "median"), 6, True),
        (f"  p99.9 of the best peer ({words}), x ours", times("burst", "p999"), 10, True),
        (f"  p99.9 paced of the best peer ({words}), x ours", times("paced", "p999"), 3, True),
        (f"  delivered a second, x the best peer ({words})", rate, 5, True),
    ]


def _grown(results: Results) -> float:
    parts = [part for part in results.parts("depth") if "brockman" in results.sides_of(part)]
    if len(parts) < 2:
        return math.nan
    return results.ratio(parts[-1], "median", to="brockman", to_part=parts[0])
