"""A broker that is away: a web request that calls the task neither hangs nor fails, and loses nothing."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.exceptions import OperationalError

from tests.celery.workers import annotated, publish, publisher, redis_conf, redis_server
from tests.conftest import eventually
from tests.servers.running import free_port
from tests.support.server import RecordingServer

PROMISE = 2.0  # seconds that one call may take, under default settings

Broker = Callable[[Path, RecordingServer], contextlib.AbstractContextManager[str]]


@contextlib.contextmanager
def refused(folder: Path, server: RecordingServer) -> Iterator[str]:
    """Nobody listens."""
    yield f"127.0.0.1:{free_port()}"


@contextlib.contextmanager
def stopped(folder: Path, server: RecordingServer) -> Iterator[str]:
    """A Redis that has stopped working: the system accepts for it, and nothing answers."""
    port = free_port()
    with redis_server(folder / "redis", server, port) as broker:
        broker.process.send_signal(signal.SIGSTOP)
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def silent(folder: Path, server: RecordingServer) -> Iterator[str]:
    """Connections are accepted, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def unreachable(folder: Path, server: RecordingServer) -> Iterator[str]:
    """Packets are lost: the queue of those who want to connect is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as waiting:
        for _ in range(4):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


AWAY = [refused, stopped, silent, unreachable]


def timed(call: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    started = time.monotonic()
    call()
    return time.monotonic() - started


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
@pytest.mark.parametrize("broker", AWAY, ids=lambda broker: broker.__name__)
def test_nothing_is_lost_and_nobody_waits_long(
    server: RecordingServer,
    tmp_path: Path,
    endpoint: dict[str, str],
    scheme: str,
    broker: Broker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each call returns within 2 s, after the first ones hardly wait; each trigger arrives once; one warning."""
    with (
        broker(tmp_path, server) as address,
        publisher({"broker_url": f"{scheme}://{address}"}, **endpoint) as task,
    ):
        ids: list[str] = []
        assert timed(lambda: ids.extend(publish(task, 1))) < PROMISE
        assert timed(lambda: ids.extend(publish(task, 50, 1))) < PROMISE  # together
        server.wait_until(lambda server: len(server.triggers) >= 51)
    assert server.ids() == dict.fromkeys(ids, 1)
    warnings = [record for record in caplog.records if record.name == "brockman"]
    assert [record.levelno for record in warnings] == [logging.WARNING]
    assert "broker cannot be reached" in warnings[0].getMessage()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
@pytest.mark.parametrize("broker", [refused, silent], ids=lambda broker: broker.__name__)
def test_without_the_fallback_it_raises(
    server: RecordingServer, tmp_path: Path, endpoint: dict[str, str], scheme: str, broker: Broker
) -> None:
    """What kombu raises, within 2 s."""
    endpoint["FL_CELERY_FALLBACK"] = "0"
    with (
        broker(tmp_path, server) as address,
        publisher({"broker_url": f"{scheme}://{address}"}, **endpoint) as task,
    ):
        started = time.monotonic()
        with pytest.raises(OperationalError):
            task.delay("7", "viewed", "page")
        assert time.monotonic() - started < PROMISE
    assert server.requests == []


def test_a_broker_that_hangs_in_mid_work_and_comes_back(
    server: RecordingServer,
    tmp_path: Path,
    endpoint: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A connection that answers no more is a black hole too; afterwards messages are published again."""
    caplog.set_level(logging.INFO, "brockman")
    port = free_port()
    with (
        redis_server(tmp_path / "redis", server, port) as broker,
        redis.Redis(port=port) as look,
        publisher(redis_conf(port) | annotated(broker_cooldown=0.2), **endpoint) as task,
    ):
        published = publish(task, 10)
        broker.process.send_signal(signal.SIGSTOP)
        fallen: list[str] = []
        assert timed(lambda: fallen.extend(publish(task, 1, 10))) < PROMISE
        broker.process.send_signal(signal.SIGCONT)
        server.wait_until(lambda server: server.ids() == dict.fromkeys(fallen, 1))
        assert eventually(lambda: bool(fallen.extend(publish(task, 1, 11))) or "again" in caplog.text, 20)
        published += [fallen.pop(), *publish(task, 5, 1000)]
        # The call that was not answered may have come through nevertheless: with the same id.
        messages = [message.decode() for message in look.lrange("celery", 0, -1)]
        assert all(any(name in text for text in messages) for name in published)
        assert sum(not any(name in text for name in fallen) for text in messages) == len(published)
        server.wait_until(lambda server: server.ids() == dict.fromkeys(fallen, 1))
    assert "reached again" in caplog.text


def test_a_connection_that_was_closed_while_idle_is_no_outage(
    server: RecordingServer, tmp_path: Path, endpoint: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A Redis that was restarted between two calls gets the second one's message."""
    port = free_port()
    with publisher(redis_conf(port), **endpoint) as task:
        for round_ in range(2):
            with redis_server(tmp_path / f"redis {round_}", server, port), redis.Redis(port=port) as look:
                publish(task, 1)
                assert look.llen("celery") == 1
    assert server.requests == []
    assert caplog.text == ""


def test_many_threads_on_a_black_hole(server: RecordingServer, tmp_path: Path, endpoint: dict[str, str]) -> None:
    """With more threads than there are connections, none waits longer."""
    from concurrent.futures import ThreadPoolExecutor

    with silent(tmp_path, server) as address, publisher({"broker_url": f"redis://{address}"}, **endpoint) as task:
        with ThreadPoolExecutor(40) as threads:
            waits = list(threads.map(lambda n: timed(lambda: publish(task, 1, n)), range(40)))
        server.wait_until(lambda server: len(server.triggers) >= 40)
    assert max(waits) < PROMISE


def test_what_is_to_follow_is_not_forgotten(server: RecordingServer, endpoint: dict[str, str]) -> None:
    """A chain needs the broker: with it away the call raises, although the fallback is on."""
    conf = {"broker_url": f"redis://127.0.0.1:{free_port()}"}
    with publisher(conf, **endpoint) as task, pytest.raises(OperationalError):
        task.apply_async(("7", "viewed", "page"), link=task.si("7", "left", "page"))
    assert server.requests == []
