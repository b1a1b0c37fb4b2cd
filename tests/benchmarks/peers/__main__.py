"""brockman, the floor and the peers, interleaved in one run: `python -m tests.benchmarks.peers`.

Every figure is the median over rounds; each part of each side in each round is a process of its own. The peers
come with `pip install -e '.[peers]'`; those that are missing are named, and left out. Exits with 1 when a ratio of
the acceptance list is broken. Figures of different runs, or machines, are not to be compared: ratios are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.peers import measure, plot, report, sink
from tests.benchmarks.peers.acceptance import judge
from tests.benchmarks.peers.plan import Part, make_plan
from tests.benchmarks.peers.results import Results
from tests.benchmarks.peers.sides import SIDES, is_there


def run_part(part: Part, side: str, remote: sink.Remote) -> measure.Figures:
    """Measure one side in a process of its own; print the error and return nothing if it fails."""
    remote.reset()
    if part.function == "starting":
        opened = SIDES[side].open
        return {"import": time_script(f"import {opened.module}"), "ready": time_script(opened.ready)}
    call = [part.function, side, str(remote.port), json.dumps(part.options)]
    command = [sys.executable, "-m", measure.__name__, *call]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        ended = time.monotonic()
        figures: measure.Figures = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        print(f"{side} failed in {part.name}: {error} {getattr(error, 'stderr', '')!s:.500}", file=sys.stderr)
        return {}
    if part.function == "ending":
        came = remote.wait_for(int(figures["before"]) + part.options["count"], 1.0).triggers - figures["before"]
        figures = {"seconds": ended - figures["left_at"], "lost": part.options["count"] - came}
    return figures


def time_script(lines: str) -> float:
    """Run lines in a process that has imported nothing, the second time, from compiled files; return the ms."""
    script = f"import time; t = time.perf_counter(); {lines}; print((time.perf_counter() - t) * 1000)"
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [sys.executable, "-c", script]
        outputs = [subprocess.run(command, capture_output=True, env=environ, check=True).stdout for _ in range(2)]
    return float(outputs[1])


def sides_of(part: Part, sides: list[str]) -> list[str]:
    """Return the sides of a part; those that send within the call have nothing that waits."""
    wanted = [side for side in sides if part.sides is None or side in part.sides]
    return [side for side in wanted if part.function != "memory" or SIDES[side].in_background]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="(default: 5, with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="a quarter of the triggers, one round")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="only these: " + ", ".join(groups()))
    parser.add_argument(
        "--sides", nargs="+", choices=SIDES, default=list(SIDES), metavar="SIDE", help="only these"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="write a plot")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures of all rounds; read by --from"
    )
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="measure nothing: report these")
    options = parser.parse_args()
    results = Results.read(options.source) if options.source else run(options)
    if options.json:
        results.write(options.json)
    report.print_report(results)
    if options.plot:
        options.plot.write_text(plot.draw(results))
    return judge(results)


def groups() -> list[str]:
    return list(dict.fromkeys(part.group for part in make_plan(quick=False)))


def run(options: argparse.Namespace) -> Results:
    missing = [side for side in options.sides if not is_there(side)]
    if missing:
        names = ", ".join(SIDES[side].package or side for side in missing)
        print(f"not installed, and left out: {names} (pip install -e '.[peers]')")
    sides = [side for side in options.sides if side not in missing]
    plan = [part for part in make_plan(quick=options.quick) if not options.parts or part.group in options.parts]
    rounds = options.rounds or (1 if options.quick else 5)
    results = Results(sides)
    with sink.running() as remote:
        for number in range(rounds):
            for part in plan:
                if part.once and number:
                    continue
                for side in sides_of(part, sides):
                    results.add(part.name, side, run_part(part, side, remote))
            print(f"round {number + 1} of {rounds} is done", file=sys.stderr)
    return results


if __name__ == "__main__":
    sys.exit(main())
