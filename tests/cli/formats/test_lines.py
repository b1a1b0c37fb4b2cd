"""Lines as servers write them, and the triggers they become: each file of this folder is one kind of log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from brockman.cli.formats import FORMATS
from brockman.cli.source import Arguments, BadLine

FILES = sorted(Path(__file__).parent.glob("*.txt"))


def cases(path: Path) -> list[tuple[str, str]]:
    """Return pairs of a line and the trigger or the reason below it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(line, below.strip()) for line, below in zip(lines[::2], lines[1::2], strict=True)]


def describe(reading: Arguments | BadLine) -> str:
    """Return the text of a reading as the files have it; empty fields are left out."""
    if isinstance(reading, BadLine):
        return f"bad: {reading.reason}"
    fields: dict[str, Any] = reading._asdict()
    fields["at"] = None if reading.at is None else reading.at.isoformat()
    del fields["text"]  # the line's own
    return json.dumps({name: value for name, value in fields.items() if value}, ensure_ascii=False)


def read(line: str, name: str) -> str:
    ((number, reading),) = FORMATS[name]([(7, line)], {})
    assert number == 7
    return describe(reading)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_line_becomes_the_trigger_below_it(path: Path) -> None:
    """Also wrong lines: their reason is below them."""
    name = path.stem.partition("-")[0]
    assert len(cases(path)) >= 10
    assert [read(line, name) for line, _ in cases(path)] == [below for _, below in cases(path)]
