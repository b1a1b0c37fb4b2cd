"""All commands: a help with examples that work, JSON for programs, errors that name the command."""

from __future__ import annotations

import argparse
import re
import shlex

import pytest

from brockman.cli import main, new_parser
from tests.cli.conftest import COMMANDS, subparsers

NO_JSON = {"export"}  # its output is NDJSON, CSV or Parquet


def examples(parser: argparse.ArgumentParser) -> list[str]:
    """Return the command lines in the help of a parser, without what a shell does beside them."""
    _, heading, rest = (parser.epilog or "").partition("examples:\n\n")
    assert heading, f"{parser.prog}: the epilog has no examples"
    lines = rest.split("\n\n")[0].splitlines()
    return [re.split(r"[|>#]", line[line.index("brockman ") :])[0].strip() for line in lines]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_examples_that_parse(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert (ended.value.code, f"usage: brockman {name}" in shown) == (0, True)

    found = examples(subparsers()[name])

    own = [line for line in found if line.startswith(f"brockman {name}")]
    assert 2 <= len(own) <= 5
    for line in found:
        assert line in shown
        assert new_parser().parse_args(shlex.split(line)[1:]).command == line.split()[1]


def test_the_help_of_the_program_has_examples_that_parse() -> None:
    for line in examples(new_parser()):
        if not line.endswith("--help"):
            assert new_parser().parse_args(shlex.split(line)[1:]).command == line.split()[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_prints_json_for_programs(name: str) -> None:
    assert ("--json" in subparsers()[name].format_help()) is (name not in NO_JSON)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_error_begins_with_the_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--nonsense"])
    assert ended.value.code == 2
    assert f"\nbrockman {name}: error: " in capsys.readouterr().err
