"""The size of modules and functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import brockman

PACKAGE = Path(brockman.__file__).parent
MAX_MODULE, MAX_FUNCTION = 400, 40  # lines
# In one piece: the way of every trigger, where `tests/test_cost.py` counts each call.
IN_ONE_PIECE = {"trigger/encode.py: encode_trigger"}


def lines_of(node: ast.stmt) -> int:
    """Return the length of a statement in lines."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def functions() -> Iterator[tuple[str, int]]:
    """Yield the place of every function and its length, the docstring not counted."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = lines_of(node) - (lines_of(node.body[0]) if ast.get_docstring(node) else 0)
                yield f"{path.relative_to(PACKAGE)}: {node.name}", length


def test_no_module_is_long() -> None:
    """A module can be read in one sitting."""
    lengths = {path.relative_to(PACKAGE): len(path.read_bytes().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert len(lengths) > 50
    assert {str(path): length for path, length in lengths.items() if length > MAX_MODULE} == {}


def test_no_function_is_long() -> None:
    """A function fits on a screen."""
    lengths = dict(functions())
    assert len(lengths) > 300
    assert {place for place, length in lengths.items() if length > MAX_FUNCTION} == IN_ONE_PIECE
