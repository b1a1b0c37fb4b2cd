"""Real collectors for the tests: in a thread, or in a process that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from brockman.collector.server import serve
from brockman.collector.store import Store
from tests.collector.running import KEY, Running
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Watch over threads as all tests do, without collecting garbage for each of these many short ones."""
    before = set(threading.enumerate())
    yield
    assert eventually(lambda: not set(threading.enumerate()) - before, 10)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start collectors in threads of this process; they are stopped at the end."""
    stack = ExitStack()

    def start(**options: Any) -> Running:
        settings = {"port": 0, "database": tmp_path / "triggers.sqlite3", "api_key": KEY, **options}
        ready, stop = threading.Event(), threading.Event()
        urls: list[str] = []
        faults: list[BaseException] = []

        def on_ready(url: str) -> None:
            urls.append(url)
            ready.set()

        def run() -> None:
            try:
                serve(**settings, on_ready=on_ready, stop=stop)
            except BaseException as error:
                faults.append(error)
                ready.set()

        thread = threading.Thread(target=run)
        thread.start()
        session = requests.Session()
        session.trust_env = False

        def end() -> None:
            session.close()
            stop.set()
            thread.join(10)
            assert not thread.is_alive()
            assert faults == []

        stack.callback(end)
        assert ready.wait(10)
        return Running(urls[0] if urls else "", Path(settings["database"]), session, stop, thread)

    with stack:
        yield start


@pytest.fixture
def collector(start: Callable[..., Running]) -> Running:
    """A collector with a key, at work."""
    return start()


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], Running]]]:
    """Start collectors as processes; they are killed at the end."""
    with ExitStack() as stack:
        yield lambda *arguments, key=KEY: stack.enter_context(spawned(tmp_path, *arguments, key=key))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One collector for all tests that do not mind what others store."""
    with spawned(tmp_path_factory.mktemp("shared")) as (_, collector):
        yield collector


@contextmanager
def spawned(folder: Path, *arguments: str, key: str = KEY) -> Iterator[tuple[subprocess.Popen[str], Running]]:
    """Run `python -m brockman.collector`."""
    database = folder / "triggers.sqlite3"
    command = ["-m", "brockman.collector", "--port", "0", "--database", str(database), *arguments]
    with python(*command, FL_API_KEY=key) as (process, endpoint), requests.Session() as session:
        session.trust_env = False
        yield process, Running(endpoint, database, session)


@contextmanager
def python(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a collector in development mode, every warning an error; yield the endpoint it prints as well."""
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().removeprefix("listening on ").strip()
        finally:
            process.kill()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store on a new file, which waits only briefly for locks."""
    opened = Store(tmp_path / "store.sqlite3", busy_timeout=0.1)
    yield opened
    opened.close()
