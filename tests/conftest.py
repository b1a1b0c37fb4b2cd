"""What the tests share: a recording server, clients that are closed, and a watch over threads."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from brockman.client import FocusLabClient
from tests.support.server import RecordingServer

# Ignored in a shell's background, and by what is started there: but tests send it to programs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

KEY = "da9dcaa0364541498d4ae6b4865cf395"


def eventually(condition: Callable[[], bool], timeout: float = 20.0) -> bool:
    """Return whether a condition comes true within `timeout` seconds. For what has nothing to wait on."""
    deadline = time.monotonic() + timeout
    tick = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        tick.wait(0.005)
    return True


@pytest.fixture(autouse=True)
def _no_thread_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    if set(threading.enumerate()) - before:
        gc.collect()  # a client that nobody holds lets its thread end
    assert eventually(lambda: not (set(threading.enumerate()) - before), 10), (
        f"threads left: {set(threading.enumerate()) - before}"
    )


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.startswith("FL_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[RecordingServer]:
    """A server that accepts everything, until `server.respond` is set."""
    recording = RecordingServer()
    yield recording
    recording.stop()


@pytest.fixture
def make_client(server: RecordingServer) -> Iterator[Callable[..., FocusLabClient]]:
    """Make clients for the server, with short waits; they are closed at the end."""
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
        client.close(0.5)


def record(client: FocusLabClient, count: int, start: int = 0, **more: Any) -> None:
    """Record triggers with the numbers from `start` on in `variables`."""
    for number in range(start, start + count):
        client.record_trigger(f"actor {number}", "viewed", "page", variables={"n": number, **more})


def law_holds(client: FocusLabClient, recorded: int) -> bool:
    """Return whether the conservation law holds in a snapshot, for what the caller has recorded by its own count.

    `stats().recorded` is worked out from the other counts, so that these alone always agree.
    """
    s = client.stats()
    found = s.delivered + s.rejected + sum(s.dropped.values()) + s.queued + s.in_flight
    return s.recorded == recorded and recorded + s.recovered == found
