"""The README cannot lie: its settings are the program's, and its code runs."""

from __future__ import annotations

import asyncio
import re
from dataclasses import fields
from pathlib import Path

import pytest

from brockman.options import Options
from tests.conftest import KEY

README = (Path(__file__).parent.parent / "README.rst").read_text()
SNIPPETS = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", README)


def settings_table() -> str:
    """Return the table of settings as the README must have it."""
    lines = [".. list-table::", "   :header-rows: 1", "", "   * - keyword", "     - default", "     - "]
    for spec in fields(Options):
        default = "--" if spec.default is None else repr(spec.default)
        unit = spec.metadata["unit"]
        lines += [
            f"   * - ``{spec.name}``",
            f"     - {default if default == '--' else f'``{default}``'}",
            f"     - ({unit}) {spec.metadata['doc']}".replace("`", "``"),
        ]
    return "\n".join(lines)


def test_the_settings_table_is_the_one_of_the_program():
    """Every setting is in the README with its default, its unit and its meaning, and no other."""
    between = README.split(".. settings begin\n")[1].split(".. settings end")[0]
    assert between.strip() == settings_table(), f"the README should have:\n{settings_table()}"


async def no_more() -> dict:
    raise AssertionError("the application asked for more")


async def ignore(message: dict) -> None:
    pass


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_the_code_of_the_readme_runs(number, server, monkeypatch):
    """Each piece of Python in the README does what it says, against a real server."""
    monkeypatch.setenv("FL_ENDPOINT", server.endpoint)
    monkeypatch.setenv("FL_API_KEY", KEY)
    code = re.sub(r"^    ", "", SNIPPETS[number], flags=re.MULTILINE)
    names: dict[str, object] = {}
    exec(compile(code, f"README.rst, snippet {number}", "exec"), names)
    if "view_post" in names:
        names["view_post"](7, "a title")
    if "application" in names:
        asyncio.run(names["application"]({"type": "http", "path": "/a"}, no_more, ignore))
    assert names["client"].close()
    assert server.triggers


def test_the_readme_has_code_on_its_first_screen():
    """A new user sees working code before line 20."""
    assert "client.record_trigger(" in "\n".join(README.splitlines()[:20])
