"""The command line explains itself; docs/commands.rst has a section for each command, and the keys of its JSON."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import brockman
from brockman.cli import main
from tests.cli.conftest import COMMANDS, command
from tests.collector.conftest import start  # noqa: F401
from tests.collector.running import Running
from tests.support.client import KEY
from tests.support.programs import ROOT, environment, ran, started


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


def documented_keys(name: str) -> set[str]:
    """Return the keys that the table has for a command, without those of objects within."""
    page = (ROOT / "docs" / "commands.rst").read_text(encoding="utf-8")
    table = page.partition("``--json`` of     keys")[2].partition("\n\n")[0]
    rows = re.split(r"^(?=``)", table, flags=re.MULTILINE)
    (row,) = [row for row in rows if row.startswith(f"``{name}`` ")]
    keys = row.partition(f"``{name}`` ")[2].partition(";")[0]
    return set(re.findall(r"``(\w+)``", re.sub(r"\([^)]*\)", "", keys)))


@pytest.fixture
def keys_of(
    start: Callable[..., Running],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., set[str]]:
    """Run a command in this process, with a collector, and return the keys of what it prints."""
    monkeypatch.setenv("FL_ENDPOINT", start().endpoint)
    monkeypatch.setenv("FL_API_KEY", KEY)

    def run(*arguments: str) -> set[str]:
        assert main([*arguments, "--json"]) == 0
        return set(json.loads(capsys.readouterr().out))

    return run


def test_the_keys_of_the_json_are_those_of_the_page(keys_of: Callable[..., set[str]], tmp_path: Path) -> None:
    spool, file = tmp_path / "spool", tmp_path / "file"
    spool.mkdir(mode=0o700)
    file.write_text('{"actor_id": "7", "action": "viewed", "object": "page"}\n')
    assert keys_of("check") == documented_keys("check")
    assert keys_of("record", "ada", "viewed", "page") == documented_keys("record")
    assert keys_of("import", str(file)) == documented_keys("import")
    assert keys_of("erase", "--actor", "7", "--dry-run") >= documented_keys("erase")
    assert keys_of("replay") == documented_keys("replay")
    assert keys_of("spool", str(spool)) == documented_keys("spool")
    assert keys_of("spool", str(spool), "--send") == documented_keys("spool --send")


def test_serve_says_where_it_listens_as_json(tmp_path: Path) -> None:
    with started(command("serve", "--port", "0", "--json"), cwd=tmp_path, env=environment()) as process:
        assert process.stdout is not None
        assert set(json.loads(process.stdout.readline())) == documented_keys("serve")
        process.terminate()
