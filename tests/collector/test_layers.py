"""What the collector may know."""

from __future__ import annotations

import ast
from pathlib import Path

import brockman.collector

FOLDER = Path(brockman.collector.__file__).parent


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(node.module or "")
    return found


def test_the_collector_never_imports_the_client() -> None:
    for path in FOLDER.glob("*.py"):
        for name in imports_of(path):
            assert not name.startswith("brockman") or name.startswith("brockman.collector"), f"{path.name}: {name}"


def test_one_module_speaks_to_sqlite() -> None:
    assert [path.name for path in FOLDER.glob("*.py") if "sqlite3" in imports_of(path)] == ["store.py"]
