"""Real collectors for the tests: in a thread, or in a process that can be killed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import requests

from brockman.collector.server import serve
from brockman.collector.settings import Settings
from brockman.collector.store import open_store
from brockman.collector.store.base import Store
from tests.cli.conftest import serving
from tests.collector.running import Running
from tests.support.client import KEY
from tests.support.postgresql import Postgresql, postgresql_server
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Check threads as all tests do, without garbage collection after each of these many short ones."""
    before = set(threading.enumerate())
    yield
    assert eventually(lambda: not set(threading.enumerate()) - before, 10)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start collectors in threads of this process; they are stopped at the end."""
    stack = ExitStack()

    def start(**options: Any) -> Running:
        settings = Settings(**{"port": 0, "database": tmp_path / "triggers.sqlite3", "api_key": KEY, **options})
        ready, stop = threading.Event(), threading.Event()
        urls: list[str] = []
        errors: list[BaseException] = []

        def on_ready(url: str) -> None:
            urls.append(url)
            ready.set()

        def run() -> None:
            try:
                serve(settings, on_ready=on_ready, stop=stop)
            except BaseException as error:
                errors.append(error)
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
            assert errors == []

        stack.callback(end)
        assert ready.wait(10)
        return Running(urls[0] if urls else "", Path(settings.database), session, stop, thread)

    with stack:
        yield start


@pytest.fixture
def collector(start: Callable[..., Running]) -> Running:
    """A collector with a key."""
    return start()


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start collectors as processes; they are killed at the end."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(serving(tmp_path, *arguments))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One collector for all tests that do not depend on what others store."""
    with serving(tmp_path_factory.mktemp("shared"), lifetime=1800) as collector:
        yield collector


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """One PostgreSQL server for all tests; each makes a database of its own."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a store, of each engine."""
    if request.param == "sqlite":
        return str(tmp_path / "store.sqlite3")
    server: Postgresql = request.getfixturevalue("postgresql")
    return server.empty_database()


@pytest.fixture
def store(location: str) -> Iterator[Store]:
    """A new store, of each engine."""
    with closing(open_store(location)) as opened:
        yield opened
