"""Fixtures of all tests: a recording server, clients that are closed at the end, a check for leaked threads."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings

from brockman.client import FocusLabClient
from brockman.delivery import pipeline
from brockman.process import log_thread
from tests.support.client import KEY
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

# A shell ignores SIGINT in its background jobs, and their children inherit that; tests send it to programs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A thousand processes import brockman: the first one compiles it, also where the environment says that each does.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# On a busy machine an example may take long.
settings.register_profile("patient", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

WITH_PROGRAMS = ("servers", "spool", "celery", "django")  # folders whose tests take long


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first: the last of them would run alone."""
    items.sort(key=lambda item: item.path.parent.name not in WITH_PROGRAMS)


@pytest.fixture(autouse=True)
def _no_thread_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    log_thread.wait_until_written(60)
    if set(threading.enumerate()) - before:
        gc.collect()  # the thread of a client without references ends
    assert eventually(lambda: not (set(threading.enumerate()) - before), 60), (
        f"threads left: {set(threading.enumerate()) - before}"
    )


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("FL_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A close gives `on_drop` as long as it takes: on a busy machine its thread may begin late."""
    monkeypatch.setattr(pipeline, "_NOTIFY_SECONDS", 30.0)


class _WrittenLog:
    """pytest's `caplog`, which waits before each access until brockman's lines are written."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def __getattr__(self, name: str) -> Any:
        log_thread.wait_until_written(60)
        return getattr(self._caplog, name)


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log of this process; brockman writes its lines in a thread."""
    return cast(pytest.LogCaptureFixture, _WrittenLog(caplog))


@pytest.fixture
def server() -> Iterator[RecordingServer]:
    """A server that accepts everything unless `server.respond` is set."""
    recording = RecordingServer()
    yield recording
    recording.stop()


@pytest.fixture
def make_client(server: RecordingServer) -> Iterator[Callable[..., FocusLabClient]]:
    """A function that makes clients for the server, with short waits; they are closed at the end."""
    made: list[FocusLabClient] = []

    def make(**options: Any) -> FocusLabClient:
        settings = {
            "api_key": KEY,
            "endpoint": server.endpoint,
            "flush_interval": 0.05,
            "backoff_base": 0.01,
            "backoff_cap": 0.05,
            **options,
        }
        made.append(FocusLabClient(**settings))
        return made[-1]

    yield make
    server.hang_up()
    for client in made:
        client.close(0.05)
