"""README.rst: short, and true from the first screen to the diagram."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import brockman
from brockman import FocusLabClient
from brockman.testing import capture
from tests.docs.blocks import PAGES, README, ROOT, named, only, run_shell, to_shell
from tests.support.client import KEY, record

TEXT = README.read_text(encoding="utf-8")
PACKAGE = Path(brockman.__file__).parent


def test_it_is_short():
    """Under 300 lines: the rest is in docs/."""
    assert len(TEXT.splitlines()) < 300


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.rst"], ids=lambda page: page.name)
def test_no_line_is_longer_than_120_characters(page):
    """They can be read in a terminal, and compared side by side."""
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    assert [number for number, line in lines if len(line) > 120] == []


def test_there_is_code_on_the_first_screen():
    """A new user sees working code before line 20."""
    assert "client.record_trigger(" in "\n".join(TEXT.splitlines()[:20])


def test_the_first_steps_work_when_typed_from_the_top(tmp_path):
    """Install, serve, record, read back."""
    # A script records before the collector listens, which a reader does not.
    output = run_shell(to_shell(named("first steps")), tmp_path, FL_SHUTDOWN_TIMEOUT="60")
    assert re.search(r'"action":"viewed".*"total":1\b', output)
    assert (tmp_path / "triggers.sqlite3").exists()


def test_the_command_for_the_tests_is_what_is_run_before_a_change_lands():
    """`.ci/run` types it, in a new virtual environment."""
    install, run = only("run the tests").code.removeprefix("$ ").strip().split(" && ")
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace("--quiet ", "").splitlines()
    assert install in lines
    assert any(line.startswith(run) for line in lines)


@pytest.mark.parametrize("block", named("conservation law"), ids=str)
def test_the_counts_add_up_as_the_law_says(block):
    """The law, as it is printed, holds for the numbers of `stats()`."""
    left, right = block.code.split("=")
    with capture(), FocusLabClient(KEY, on_invalid="drop") as client:
        record(client, 3)
        client.record_trigger("", "", "")
        counts = vars(client.stats())
    assert eval(left, {}, counts) == eval(right, {"sum": sum}, counts) == 4


@pytest.mark.parametrize("block", named("diagram"), ids=str)
def test_the_diagram_names_what_is_in_the_package(block):
    """The way of a trigger, in its order, and what it stands on."""
    names = re.findall(r"^(\w+) {2,}\w", block.code, re.MULTILINE)
    assert names == ["client", "trigger", "buffer", "delivery", "transport"]
    beneath = re.findall(r"(\w+) \(", block.code.partition("beneath:")[2])
    there = {path.stem for path in PACKAGE.iterdir()}
    assert set(names + beneath) - there == set()


def test_it_links_to_every_page():
    """No page of the documentation is hidden, and no link is dead."""
    linked = set(re.findall(r"<(docs/\w+\.rst)>", TEXT))
    there = {f"docs/{page.name}" for page in PAGES if page is not README}
    assert linked == there - {"docs/index.rst", "docs/quickstart.rst", "docs/changelog.rst"}
