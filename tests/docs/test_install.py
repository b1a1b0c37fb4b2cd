"""No install command of the documentation fetches the client of 2012 from the package index."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT
from tests.docs.pip import may_be_brockman, why_wrong

TEXTS = [*PAGES, ROOT / "CONTRIBUTING.rst", ROOT / "CHANGELOG.rst", *sorted(ROOT.glob("examples/*/README.rst"))]


def install_commands(text: str) -> list[str]:
    """Return every `pip install` with its arguments, in blocks and in sentences."""
    return re.findall(r"pip install ([^\n`&#]+)", text)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_command_installs_this_version(path: Path) -> None:
    """It names this checkout, or where it is; and extras that exist."""
    for command in install_commands(path.read_text(encoding="utf-8")):
        for requirement in filter(may_be_brockman, shlex.split(command)):
            assert why_wrong(requirement) is None


@pytest.mark.parametrize("wrong", ["brockman", "brockman[django]", "brockman==0.1", ".[nothing]"])
def test_a_wrong_command_is_found(wrong: str) -> None:
    """The check above fails for it."""
    (command,) = install_commands(f"Run ``pip install '{wrong}'`` first.")
    (requirement,) = shlex.split(command)
    assert may_be_brockman(requirement)
    assert why_wrong(requirement) is not None


def test_the_reader_is_told_why() -> None:
    """README.rst says which package the index has under this name."""
    assert "client of 2012" in (ROOT / "README.rst").read_text(encoding="utf-8")
