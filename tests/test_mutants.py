"""Each of these faults, put into the code, makes the conservation test fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUN = """
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.test_conservation import Conservation

print("begun")
run_state_machine_as_test(Conservation, settings=settings(
    max_examples=200, stateful_step_count=25, deadline=None, derandomize=True, database=None,
    phases=[Phase.generate], suppress_health_check=list(HealthCheck)))
"""
MUTANTS = {
    "a settle is skipped": (
        "delivery/engine.py",
        "if start < len(bodies):\n        yield bodies[start:], ACCEPTED",
        "",
    ),
    "a 207 counts as all delivered": (
        "delivery/engine.py",
        "for bodies, each in _runs(piece.bodies, result):",
        "for bodies, each in [(piece.bodies, ACCEPTED)]:",
    ),
    "the rejections of a 207 are shifted by one": (
        "delivery/policy.py",
        "errors.setdefault(index,",
        "errors.setdefault((index + 1) % count,",
    ),
    "the newest is dropped without counting": (
        "buffer/memory.py",
        'self._counters.drop("overflow", body)',
        "pass",
    ),
    "the oldest is dropped without counting": (
        "buffer/memory.py",
        'self._counters.dropped["overflow"] += 1',
        "pass",
    ),
    "the oldest is dropped without a call of on_drop": (
        "buffer/memory.py",
        'self._counters.notify_drop("overflow", body)',
        "pass",
    ),
    "the last of a batch is lost when it is taken": (
        "buffer/memory.py",
        "batch = list(self._in_flight)",
        "batch = self._in_flight and self._in_flight.pop() and list(self._in_flight)",
    ),
    "what is taken stays where it waited": (
        "buffer/memory.py",
        "move(self._waiting, self._in_flight, fitting)",
        "self._in_flight.extend(islice(self._waiting, fitting))",
    ),
    "a lost answer counts as delivered": (
        "delivery/engine.py",
        "return error, resends",
        "return Answer(201), resends",
    ),
    "a refused trigger counts as delivered": (
        "delivery/worker.py",
        "delivered=event.is_accepted",
        "delivered=True",
    ),
    "a trigger that always meets a 500 vanishes from the counts": (
        "buffer/memory.py",
        "self._counters.rejected += count",
        "self._counters.rejected += 0",
    ),
    "halving loses a trigger": ("trigger/batch.py", "bodies[middle:]", "bodies[middle + 1 :]"),
    "halving sends a trigger twice": ("trigger/batch.py", "bodies[middle:]", "bodies[middle - 1 :]"),
    "a portal's page counts as success": (
        "delivery/policy.py",
        "if answer.is_page or answer.text is None",
        "if False",
    ),
    "close loses what waits": (
        "buffer/memory.py",
        "move(self._waiting, self._in_flight, NEVER)",
        "self._waiting.clear()",
    ),
    "close does not count what it drops": (
        "buffer/memory.py",
        "self._counters.dropped[reason] += 1",
        "pass",
    ),
    "the bound in bytes is not kept": (
        "buffer/memory.py",
        "self._bytes += size",
        "self._bytes += 0",
    ),
    "the request that a stale connection lost counts as accepted": (
        "delivery/engine.py",
        "if not error.stale or resends:\n                    return error, resends",
        "return (error if not error.stale or resends else Answer(201)), resends",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_conservation_test_catches(name, tmp_path):
    """The run of a copy with this fault fails."""
    file, old, new = MUTANTS[name]
    shutil.copytree(ROOT / "brockman", tmp_path / "brockman")  # with what is compiled
    shutil.copytree(ROOT / "tests" / "support", tmp_path / "tests" / "support")
    for needed in ("__init__.py", "test_conservation.py"):
        shutil.copy(ROOT / "tests" / needed, tmp_path / "tests" / needed)
    source = (tmp_path / "brockman" / file).read_text()
    assert source.count(old) >= 1, "the code has changed: write this mutant anew"
    (tmp_path / "brockman" / file).write_text(source.replace(old, new, 1))
    done = subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("begun\n"), done.stderr
    assert done.returncode != 0
    # Flaky: found, but it depended on the clock, and did not happen again.
    assert "Error" in done.stderr or "Flaky" in done.stderr
