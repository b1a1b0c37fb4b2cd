"""The command line explains itself, and docs/commands.rst has a section for each command."""

from __future__ import annotations

import re
import sys

import pytest

import brockman
from brockman.cli import main
from tests.support.programs import ROOT, ran

COMMANDS = ("serve", "demo", "check", "import", "export", "erase", "replay", "spool")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: brockman {name}" in capsys.readouterr().out


def test_alone_it_prints_a_help_that_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(f"\n    {name} " in out for name in COMMANDS)


def test_it_tells_its_version_also_as_a_module() -> None:
    ended = ran([sys.executable, "-m", "brockman", "--version"])
    assert ended.out == f"brockman {brockman.__version__}\n"


def test_an_unknown_command_is_a_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["exprot"])
    assert ended.value.code == 2
    assert "invalid choice: 'exprot'" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section(name: str) -> None:
    page = (ROOT / "docs" / "commands.rst").read_text(encoding="utf-8")
    assert name in re.findall(r"^brockman (\w+).*\n-{12,}$", page, re.MULTILINE)
