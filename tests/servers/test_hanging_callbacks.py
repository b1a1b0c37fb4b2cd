"""Callbacks and transports that never return: closing and exiting take no longer for them."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from brockman.client import FocusLabClient
from brockman.exceptions import ConnectionFailed
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport
from tests.support.client import KEY, law_holds, record
from tests.support.programs import running
from tests.support.scripts import RECORDING
from tests.support.server import RecordingServer, Reply

LIMIT = 10.0  # seconds, on a busy machine, for a close that may take one


@pytest.fixture
def hang() -> Iterator[Callable[..., None]]:
    """A function that returns at the end of the test only."""
    over = threading.Event()

    def hang(*ignored: object) -> None:
        over.wait(60)

    yield hang
    over.set()


class Unreachable(MemoryTransport):
    """Gets no answer."""

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        raise ConnectionFailed("no answer")


def close(client: FocusLabClient) -> Any:
    return client.close(0.5)


def aclose(client: FocusLabClient) -> Any:
    return asyncio.run(client.aclose(0.5))


def leave_block(client: FocusLabClient) -> None:
    with client:
        pass


@pytest.mark.parametrize("end", [close, aclose, leave_block])
def test_an_on_drop_that_hangs_does_not_hold_a_close(
    end: Callable[[FocusLabClient], Any], hang: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """It is over within its time, every trigger is counted, and the log says for how many it was not called."""
    caplog.set_level(logging.WARNING, "brockman")
    client = FocusLabClient(KEY, transport=Unreachable(), on_drop=hang, shutdown_timeout=0.5)
    record(client, 5)
    started = time.monotonic()
    end(client)
    assert time.monotonic() - started < LIMIT
    assert client.stats().dropped == {"shutdown": 5}
    assert law_holds(client, 5)
    assert "on_drop was not called for 4 of them" in caplog.text


@pytest.mark.parametrize("end", [close, aclose])
def test_a_transport_whose_close_hangs_does_not_hold_a_close(
    end: Callable[[FocusLabClient], Any], hang: Callable[..., None]
) -> None:
    """Triggers sent before stay delivered."""
    transport = MemoryTransport()
    transport.close = hang  # type: ignore[method-assign]
    client = FocusLabClient(KEY, transport=transport)
    record(client, 5)
    started = time.monotonic()
    assert end(client)
    assert time.monotonic() - started < LIMIT
    assert client.stats().delivered == 5


@pytest.mark.parametrize("end", [close, aclose])
def test_an_on_error_that_hangs_does_not_hold_a_close(
    end: Callable[[FocusLabClient], Any], hang: Callable[..., None]
) -> None:
    """Triggers behind the rejected one are dropped and counted."""
    transport = MemoryTransport(lambda body: Answer(400))
    client = FocusLabClient(KEY, transport=transport, on_error=hang, max_batch_size=1, flush_interval=0.01)
    record(client, 5)
    started = time.monotonic()
    end(client)
    assert time.monotonic() - started < LIMIT
    assert client.stats().rejected == 1
    assert client.stats().dropped == {"shutdown": 4}


def test_the_event_loop_runs_while_an_on_drop_hangs(hang: Callable[..., None]) -> None:
    """An on_drop may even wait for the loop that awaits `aclose`."""
    seen: list[str] = []

    async def note() -> None:
        seen.append("noted")

    async def work() -> None:
        loop = asyncio.get_running_loop()

        def on_drop(reason: str, body: bytes | None) -> None:
            asyncio.run_coroutine_threadsafe(note(), loop).result(30)

        client = FocusLabClient(KEY, transport=Unreachable(), on_drop=on_drop)
        record(client, 1)
        await client.aclose(1)

    asyncio.run(work())
    assert seen == ["noted"]


@pytest.mark.parametrize("late", [0, 20], ids=["waiting", "recorded-at-exit"])
@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 15)"], ids=["exit", "sigterm"])
def test_an_on_drop_that_hangs_does_not_hold_the_exit(
    server: RecordingServer, tmp_path: Any, late: int, end: str
) -> None:
    """Of several clients, and of triggers that an exit hook records: over within `shutdown_timeout`, nearly."""
    if not end and (3, 12, 0) <= sys.version_info < (3, 12, 2):
        pytest.skip("this Python starts no thread in an exit hook, and nothing bounds on_drop in the caller's")
    server.respond = lambda request: Reply(503)
    script = f"""
import atexit, sys, threading
for n in range({late}):
    atexit.register(lambda n=n: record(clients[0], f"late {{n}}"))
{RECORDING}
def hang(*ignored):
    threading.Event().wait()
clients = [
    FocusLabClient(on_drop=hang, flush_interval=n + 1, shutdown_timeout=0.5, handle_sigterm=True) for n in range(5)
]
for n in range(50):
    record(clients[n % 5], n)
{end}
"""
    with running([sys.executable, "-c", script], tmp_path, server) as program:
        started = time.monotonic()
        program.wait(30)
        assert time.monotonic() - started < LIMIT
        assert "closed with 10 triggers not delivered" in program.text()
