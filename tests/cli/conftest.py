"""Runs the command, and `brockman serve` as its collector."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from brockman.cli import main, new_parser
from tests.collector.running import Running
from tests.support.client import KEY
from tests.support.programs import ROOT, Ended, environment, started


def subparsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command by its name."""
    (action,) = [one for one in new_parser()._actions if isinstance(one, argparse._SubParsersAction)]
    return dict(action.choices)


COMMANDS = tuple(subparsers())


def command(*arguments: str) -> list[str]:
    """Return the command line of `brockman`, every warning an error."""
    return [sys.executable, "-W", "error", "-m", "brockman", *arguments]


@contextmanager
def serving(folder: Path, *options: str, lifetime: float = 60) -> Iterator[Running]:
    """Run `brockman serve` in development mode; it is killed at the end."""
    database = folder / "triggers.sqlite3"
    arguments = ["-m", "brockman", "serve", "--port", "0", "--database", str(database), *options]
    with listening(arguments, database, lifetime) as collector:
        yield collector


@contextmanager
def listening(arguments: list[str], database: Path, lifetime: float = 60) -> Iterator[Running]:
    """Run a collector with Python in development mode, every warning an error."""
    python = [sys.executable, "-X", "dev", "-W", "error", *arguments]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests/support/development")])
    with (
        started(python, limit=lifetime, env=environment(FL_API_KEY=KEY, PYTHONPATH=path)) as process,
        requests.Session() as session,
    ):
        session.trust_env = False
        assert process.stdout is not None
        try:
            endpoint = process.stdout.readline().removeprefix("listening on ").strip()
            yield Running(endpoint, database, session, process=process)
        finally:
            process.kill()


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Running]:
    """A collector in a process of its own."""
    with serving(tmp_path) as running:
        yield running


def row(ended: Ended, label: str) -> str:
    """Return the value in a row of the table; the label may have a comma and spaces."""
    (line,) = [line for line in ended.out.splitlines() if line.startswith(label + "  ")]
    return line.removeprefix(label).split()[0]


Import = Callable[..., Ended]


@pytest.fixture
def run_import(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ended]:
    """Run `brockman import` in this process on a file with the given content, or on a path."""

    def run(endpoint: str, content: str | bytes | Path, *arguments: str) -> Ended:
        monkeypatch.setenv("FL_ENDPOINT", endpoint)
        monkeypatch.setenv("FL_API_KEY", KEY)
        path = content if isinstance(content, Path) else tmp_path / "input"
        if isinstance(content, str):
            path.write_text(content)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        status = main(["import", str(path), *arguments])
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run


def recorded(collector: Running) -> list[dict[str, Any]]:
    """Return what the collector has, without id and timestamp."""
    return [
        {name: value for name, value in trigger.items() if name not in ("id", "recorded_at")}
        for trigger in collector.stored()
    ]


def read_terminal(number: int) -> str:
    """Return what a process writes to a terminal until it exits."""
    output = b""
    with os.fdopen(number, "rb", buffering=0) as terminal:
        try:
            while chunk := terminal.read(65536):
                output += chunk
        except OSError:  # the other side closed it
            pass
    return output.decode()
