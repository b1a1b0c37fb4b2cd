"""The command as a process, and a collector for it: `brockman serve` itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from brockman.cli import main
from tests.collector.running import KEY, Running
from tests.support.programs import environment, started

ROOT = Path(__file__).parents[2]


def command(*arguments: str) -> list[str]:
    """Return the command line of `brockman`, every warning an error."""
    return [sys.executable, "-W", "error", "-m", "brockman", *arguments]


def ran(arguments: list[str], **options: Any) -> Ended:
    """Run a process to its end."""
    with started(arguments, stdin=subprocess.DEVNULL, **options) as process:
        out, err = process.communicate()
    return Ended(process.returncode, out, err)


@contextmanager
def served(folder: Path, *options: str) -> Iterator[Running]:
    """Run `brockman serve` in a folder."""
    arguments = command("serve", "--port", "0", *options)
    with (
        started(arguments, cwd=folder, env=environment(FL_API_KEY=KEY), stderr=None) as process,
        requests.Session() as session,
    ):
        session.trust_env = False
        assert process.stdout is not None
        try:
            endpoint = process.stdout.readline().removeprefix("listening on ").strip()
            yield Running(endpoint, folder / "focuslab.sqlite3", session)
        finally:
            process.terminate()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Run collectors with options; they end with the test."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(served(tmp_path, *arguments))


@pytest.fixture
def collector(serve: Callable[..., Running]) -> Running:
    """A collector at work."""
    return serve()


@dataclass
class Ended:
    """What a command left behind."""

    status: int
    out: str
    err: str

    def row(self, label: str) -> str:
        """Return the value of a row of the table."""
        (line,) = [line for line in self.out.splitlines() if line.startswith(label + "  ")]
        return line.removeprefix(label).split()[0]


Import = Callable[..., Ended]


@pytest.fixture
def run_import(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ended]:
    """Run `brockman import` in this process on a file of the given content, or on a path."""

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
    """Return what the collector has, without what the client stamps."""
    return [
        {name: value for name, value in trigger.items() if name not in ("id", "recorded_at")}
        for trigger in collector.stored()
    ]


def read_terminal(number: int) -> str:
    """Return what a process has written to a terminal, once it has ended."""
    shown = b""
    with os.fdopen(number, "rb", buffering=0) as terminal:
        try:
            while part := terminal.read(65536):
                shown += part
        except OSError:  # the other side has closed it
            pass
    return shown.decode()
