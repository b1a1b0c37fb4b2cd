"""The README cannot lie: its settings are the program's, and its code runs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from brockman.options import Options
from brockman.options.fields import Settings
from tests.conftest import KEY

README = (Path(__file__).parent.parent / "README.rst").read_text()
ALL_SNIPPETS = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", README)
# Those of a project of Django's, or for a broker, run in the tests of these.
SNIPPETS = [code for code in ALL_SNIPPETS if not re.search("django|celery|capture", code)]


def settings_table(table: type[Settings], header: str, spell: Callable[[str], str]) -> str:
    """Return a table of settings as the README must have it."""
    lines = [".. list-table::", "   :header-rows: 1", "", f"   * - {header}", "     - default", "     - "]
    for spec in fields(table):
        default = "--" if spec.default is None else repr(spec.default)
        unit = spec.metadata["unit"]
        lines += [
            f"   * - ``{spell(spec.name)}``",
            f"     - {default if default == '--' else f'``{default}``'}",
            f"     - ({unit}) {spec.metadata['doc']}".replace("`", "``"),
        ]
    return "\n".join(lines)


def assert_table(name: str, table: str) -> None:
    """Fail unless the README has the table between the marks of that name."""
    between = README.split(f".. {name} begin\n")[1].split(f".. {name} end")[0]
    assert between.strip() == table, f"the README should have:\n{table}"


def test_the_settings_table_is_the_one_of_the_program():
    """Every setting is in the README with its default, its unit and its meaning, and no other."""
    assert_table("settings", settings_table(Options, "keyword", str))


async def no_more() -> dict:
    raise AssertionError("the application asked for more")


async def ignore(message: dict) -> None:
    pass


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_the_code_of_the_readme_runs(number, server, monkeypatch, tmp_path):
    """Each piece of Python in the README does what it says, against a real server."""
    monkeypatch.setenv("FL_ENDPOINT", server.endpoint)
    monkeypatch.setenv("FL_API_KEY", KEY)
    code = re.sub(r"^    ", "", SNIPPETS[number], flags=re.MULTILINE)
    code = code.replace("/var/lib", str(tmp_path))
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
