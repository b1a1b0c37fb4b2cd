"""`with` on a client that is closed, or entered already."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import requests

from brockman.asgi import DeliverOnShutdown
from brockman.buffer.spool.buffer import SpoolBuffer
from brockman.client import FocusLabClient
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport
from tests.support.client import law_holds, record
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

Make = Callable[..., FocusLabClient]


@pytest.mark.parametrize("place", ["memory", "spool", "session", "transport"])
def test_a_closed_client_is_opened_again(server: RecordingServer, make_client: Make, tmp_path, place: str) -> None:
    """Wherever its triggers wait and however they are sent, each block delivers, and its counts go on."""
    transport = MemoryTransport()
    given = {"spool": {"spool_dir": str(tmp_path)}, "transport": {"transport": transport}, "memory": {}}
    with requests.Session() as session:
        client = make_client(**(given | {"session": {"session": session}})[place])
        for number in range(3):
            with client:
                assert record(client, 2, start=2 * number) == 2
            assert record(client, 1) == 0
    received = transport.triggers if place == "transport" else server.triggers
    assert [trigger["variables"]["n"] for trigger in received] == list(range(6))
    assert client.stats().dropped == {"closed": 3}
    assert law_holds(client, 6 + 3)


def test_closing_twice_still_does_nothing(make_client: Make) -> None:
    """After a block, too, and the block may be the second one."""
    client = make_client()
    client.close()
    with client:
        record(client, 1)
        client.close()
        assert record(client, 1) == 0
    assert client.close()
    assert client.stats().dropped == {"closed": 1}
    assert law_holds(client, 2)


def test_nested_blocks_are_closed_by_the_outermost(make_client: Make, server: RecordingServer) -> None:
    """The inner one flushes."""
    client = make_client(flush_interval=600)
    with client:
        with client:
            record(client, 1)
        assert len(server.triggers) == 1
        assert record(client, 1) == 1
    assert len(server.triggers) == 2
    assert record(client, 1) == 0


def test_async_blocks_open_it_again(make_client: Make, server: RecordingServer) -> None:
    """Also nested, in two event loops, and mixed with a plain block."""
    client = make_client(flush_interval=600)

    async def run() -> None:
        async with client, client:
            record(client, 1)
        async with client:
            with client:
                record(client, 1)

    asyncio.run(run())
    asyncio.run(run())
    assert len(server.triggers) == 4
    assert record(client, 1) == 0
    assert law_holds(client, 5)


def test_a_lifespan_that_runs_twice_delivers_twice(make_client: Make, server: RecordingServer) -> None:
    """As of an application under two test clients, one after the other, wrapped in `DeliverOnShutdown`."""
    client = make_client(flush_interval=600)

    @asynccontextmanager
    async def lifespan():
        async with client:
            yield

    async def application(scope, receive, send) -> None:
        async with lifespan():
            await receive()
            await send({"type": "lifespan.startup.complete"})
            record(client, 1)
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def run(wrapped: DeliverOnShutdown) -> None:
        phases = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive():
            return {"type": next(phases)}

        async def send(message) -> None:
            assert message["type"].endswith("complete")

        await wrapped({"type": "lifespan"}, receive, send)

    wrapped = DeliverOnShutdown(application)
    asyncio.run(run(wrapped))
    asyncio.run(run(wrapped))
    assert len(server.triggers) == 2
    assert law_holds(client, 2)


def test_clients_that_share_settings_stay_open(make_client: Make, server: RecordingServer) -> None:
    """One that is entered again keeps the shared buffer open when the other one closes."""
    first, second = make_client(), make_client()
    first.close()
    with first:
        second.close()
        assert record(first, 1) == 1
        assert record(second, 1) == 0
    assert record(first, 1) == 0
    assert len(server.triggers) == 1


def test_a_fork_between_two_blocks(make_client: Make, server: RecordingServer) -> None:
    """A child enters the client that its parent has closed, and delivers."""
    client = make_client()
    with client:
        record(client, 1)
    pid = os.fork()
    if pid == 0:
        try:
            with client:
                record(client, 1, start=1)
            os._exit(0 if client.stats().delivered == 1 and not client.stats().dropped else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    with client:
        record(client, 1, start=2)
    assert [trigger["variables"]["n"] for trigger in server.triggers] == [0, 1, 2]


def test_threads_that_enter_and_leave_lose_nothing(make_client: Make, server: RecordingServer) -> None:
    """A block in one thread keeps the client open for its own triggers, whatever blocks end meanwhile."""
    client = make_client(flush_interval=0.01)
    recorded = []

    def work(number: int) -> None:
        for _ in range(30):
            with client:
                recorded.append(record(client, 1, start=number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert recorded == [1] * 120
    assert eventually(lambda: len(server.triggers) == 120)
    assert set(server.ids().values()) == {1}


class Refusing:
    """A transport of the user's, whose answers are those of `status`."""

    status = 404

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        return Answer(self.status)

    def close(self) -> None:
        """Do nothing."""


def test_nothing_is_logged_again_by_each_opening(
    make_client: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trigger on the closed client, a wrong set-up, a file of others: one line each."""
    monkeypatch.setattr(SpoolBuffer, "adopt_every", 0.0)
    (tmp_path / f"1-{1:016x}").mkdir(mode=0o700)
    (tmp_path / f"1-{1:016x}").chmod(0o777)
    transport = Refusing()
    client = make_client(spool_dir=str(tmp_path), transport=transport)
    for number in range(5):
        with client:
            record(client, 1, start=number)
            assert eventually(lambda: client.stats().last_error)
            client.close(0)
        record(client, 1)
    transport.status = 201
    with client:
        assert client.flush(20)
    lines = [line.getMessage() for line in caplog.records]
    for text in (
        "a closed client",
        "Refusing answers 404",
        "others may write",
        "again after",
    ):
        assert len([line for line in lines if text in line]) == 1, (text, lines)
    assert not [line for line in lines if client.options.endpoint in line]
