"""The tables of settings in docs/settings.rst: `python -m tests.docs.tables` writes them anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from brockman.django.checks import TABLES
from brockman.options.web import WebSettings
from tests.docs.blocks import ROOT

PAGE = ROOT / "docs" / "settings.rst"


def make_table(table: type[Any]) -> str:
    """Return a table: name, default, unit and meaning of each setting that is not in the table of its base."""
    inherited = {spec.name for base in table.__bases__ for spec in fields(base)}
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 25 20 55", ""]
    lines += ["   * - setting", "     - default", "     - meaning"]
    for spec in (spec for spec in fields(table) if spec.name not in inherited):
        doc = spec.metadata["doc"].replace("`", "``")
        lines += [
            f"   * - ``{spec.name}``",
            "     - --" if spec.default is None else f"     - ``{spec.default!r}``",
            *_wrapped(f"({spec.metadata['unit']}) {doc}"),
        ]
    return "\n".join(lines)


def _wrapped(text: str, width: int = 112) -> Iterator[str]:
    """Yield the lines of a cell, none of them too long."""
    start = "     - "
    while len(text) > width:
        cut = text.rindex(" ", 0, width)
        yield start + text[:cut]
        text = text[cut + 1 :]
        start = "       "
    yield start + text


def write_tables(page: str) -> str:
    """Return the page with each table, between its two comments, as the program has it."""
    for table in (*TABLES, WebSettings):
        begin, end = (f".. {table.__name__} {mark}\n" for mark in ("begin", "end"))
        before, rest = page.split(begin)
        after = rest.split(end)[1]
        page = f"{before}{begin}\n{make_table(table)}\n\n{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(write_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
