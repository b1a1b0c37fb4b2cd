"""The hooks that workers call now and then, with real clients."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from brockman.client import FocusLabClient
from brockman.process import pulse
from tests.support.client import record, worker_threads
from tests.support.server import RecordingServer
from tests.support.waiting import eventually


@pytest.fixture
def callers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that call a hook which always has something new."""
    names: list[str] = []

    def hook() -> bool:
        names.append(threading.current_thread().name)
        return True

    monkeypatch.setattr(pulse, "hooks", [hook])
    return names


def test_a_worker_calls_while_it_sleeps_and_ends_all_the_same_when_its_client_is_gone(
    callers: list[str], make_client: Callable[..., FocusLabClient], server: RecordingServer
) -> None:
    """Also while the worker of another client keeps calling."""
    stays = make_client()
    record(stays, 1)
    goes = FocusLabClient("another key", server.endpoint)
    record(goes, 1)
    assert stays.flush(60)
    assert goes.flush(60)
    assert len(worker_threads()) == 2
    del goes
    assert eventually(lambda: len(worker_threads()) == 1)
    called = len(callers)
    assert eventually(lambda: len(callers) > called)
    assert set(callers) == {"brockman-worker"}


def test_no_thread_of_the_application_calls(callers: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be in a signal handler, within code that holds a lock that a hook needs."""
    monkeypatch.setattr(pulse, "_SHORTEST", 0.0)
    pulse.beat()
    assert callers == []
    pulse.beat_here()
    assert callers == [threading.current_thread().name]
