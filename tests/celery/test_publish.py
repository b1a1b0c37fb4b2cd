"""A broker that is unreachable, or refuses: no call blocks for long or fails, and no trigger is lost."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.exceptions import OperationalError

from tests.celery.workers import (
    FORKING,
    PROMISE,
    annotated,
    messages,
    publish,
    publisher,
    reconnect,
    redis_conf,
    timed,
)
from tests.support.programs import free_port
from tests.support.redis_server import redis_server
from tests.support.server import RecordingServer

Broker = Callable[[Path, RecordingServer], contextlib.AbstractContextManager[str]]


@contextlib.contextmanager
def refused(folder: Path, server: RecordingServer) -> Iterator[str]:
    """No process listens."""
    yield f"127.0.0.1:{free_port()}"


@contextlib.contextmanager
def stopped(folder: Path, server: RecordingServer) -> Iterator[str]:
    """A Redis that is suspended: the kernel accepts connections, and no command is answered."""
    port = free_port()
    with redis_server(folder / "redis", server, port) as broker:
        broker.process.send_signal(signal.SIGSTOP)
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def silent(folder: Path, server: RecordingServer) -> Iterator[str]:
    """Connections are accepted, and nothing is ever sent."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def unreachable(folder: Path, server: RecordingServer) -> Iterator[str]:
    """No packet is answered: the backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as waiting:
        for _ in range(4):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


UNREACHABLE = [refused, stopped, silent, unreachable]


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
@pytest.mark.parametrize("broker", UNREACHABLE, ids=lambda broker: broker.__name__)
def test_an_unreachable_broker_loses_nothing_and_blocks_no_call(
    server: RecordingServer,
    tmp_path: Path,
    endpoint: dict[str, str],
    scheme: str,
    broker: Broker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first call returns within 2 s, so do the next fifty together; each trigger arrives once."""
    with (
        broker(tmp_path, server) as address,
        publisher({"broker_url": f"{scheme}://{address}"}, **endpoint) as task,
    ):
        ids: list[str] = []
        assert timed(lambda: ids.extend(publish(task, 1))) < PROMISE
        assert timed(lambda: ids.extend(publish(task, 50, 1))) < PROMISE  # all of them
        server.wait_until(lambda server: len(server.triggers) >= 51)
    assert server.ids() == dict.fromkeys(ids, 1)
    warnings = [record for record in caplog.records if record.name == "brockman"]
    assert [record.levelno for record in warnings] == [logging.WARNING]
    assert "broker cannot be reached" in warnings[0].getMessage()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
@pytest.mark.parametrize("broker", [refused, silent], ids=lambda broker: broker.__name__)
def test_without_the_fallback_a_call_raises(
    server: RecordingServer, tmp_path: Path, endpoint: dict[str, str], scheme: str, broker: Broker
) -> None:
    """Celery's exception, within 2 s."""
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


def test_a_call_with_followers_raises(server: RecordingServer, endpoint: dict[str, str]) -> None:
    """Only a worker calls them, so there is no fallback."""
    conf = {"broker_url": f"redis://127.0.0.1:{free_port()}"}
    with publisher(conf, **endpoint) as task, pytest.raises(OperationalError):
        task.apply_async(("7", "viewed", "page"), link=task.si("7", "left", "page"))
    assert server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "redis://Geheim#@127.0.0.1:{}",  # Celery takes the password for the host
        "redis://:x@Geheim@127.0.0.1:{}",
        "redis://a:x@127.0.0.1:{0};redis://Geheim?@127.0.0.1:{0}",
        ["redis://:Geheim%2F@127.0.0.1:{}", "redis://Geheim#2@127.0.0.1:{}"],
        "redis://:Geheim@127.0.0.1:{}/0",
        "amqp://a:Geheim@127.0.0.1:{0}//;amqp://a:Geheim@127.0.0.1:{0}//",
        "redis+socket:///Geheim/redis?password=Geheim",
    ],
    ids=str,
)
def test_no_password_of_a_broker_is_logged(
    server: RecordingServer, endpoint: dict[str, str], url: str | list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """However its URL is written, also where Celery takes a part of the password for a host."""
    port = free_port()
    urls = url.format(port) if isinstance(url, str) else [each.format(port) for each in url]
    with publisher({"broker_url": urls}, **endpoint) as task:
        publish(task, 1)
        server.wait_until(lambda server: len(server.triggers) == 1)
    (line,) = (record.getMessage() for record in caplog.records if record.name == "brockman")
    assert line.startswith("brockman: the Celery broker cannot be reached (")
    assert "geheim" not in line.lower()


Spoil = Callable[[redis.Redis], Any]


# Reasons for which a running Redis refuses a message.
REFUSALS: dict[str, Spoil] = {
    "password": lambda look: look.config_set("requirepass", "secret"),
    "read only": lambda look: look.replicaof("127.0.0.1", str(free_port())),
    "out of memory": lambda look: look.config_set("maxmemory", "1"),
    "connection limit": lambda look: look.config_set("maxclients", "1"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_broker_that_refuses_messages_is_treated_as_unreachable(
    server: RecordingServer, redis_port: int, endpoint: dict[str, str], refusal: str
) -> None:
    """No call raises or blocks; each trigger arrives once, without the broker."""
    with redis.Redis(port=redis_port) as look, publisher(redis_conf(redis_port), **endpoint) as task:
        REFUSALS[refusal](look)
        ids: list[str] = []
        assert timed(lambda: ids.extend(publish(task, 20))) < PROMISE
        server.wait_until(lambda server: len(server.triggers) >= 20)
    assert server.ids() == dict.fromkeys(ids, 1)


@pytest.mark.parametrize("url", ["rediss://127.0.0.1:{}/0?ssl_cert_reqs=none", "amqp://127.0.0.1:{}"])
def test_a_broker_of_another_protocol(
    server: RecordingServer, redis_port: int, endpoint: dict[str, str], url: str
) -> None:
    """A Redis gets a TLS handshake, or AMQP."""
    with publisher({"broker_url": url.format(redis_port)}, **endpoint) as task:
        ids: list[str] = []
        assert timed(lambda: ids.extend(publish(task, 5))) < PROMISE
        server.wait_until(lambda server: len(server.triggers) >= 5)
    assert server.ids() == dict.fromkeys(ids, 1)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Resolve broker.example to this machine, but only once the event is set."""
    answers = threading.Event()
    resolve = socket.getaddrinfo

    def wait(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "broker.example":
            answers.wait(20)
            host = "127.0.0.1"
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    yield answers
    answers.set()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_resolver_that_does_not_answer(
    server: RecordingServer, endpoint: dict[str, str], scheme: str, resolver: threading.Event
) -> None:
    """Socket timeouts do not cover it; the call's time limit does."""
    with publisher({"broker_url": f"{scheme}://broker.example:{free_port()}"}, **endpoint) as task:
        ids: list[str] = []
        assert timed(lambda: ids.extend(publish(task, 5))) < PROMISE
        server.wait_until(lambda server: len(server.triggers) >= 5)
        resolver.set()
    assert server.ids() == dict.fromkeys(ids, 1)


def test_a_connection_that_opens_too_late_returns_to_the_pool(
    redis_port: int, endpoint: dict[str, str], resolver: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """The next call uses it: the pool has no other."""
    caplog.set_level(logging.INFO, "brockman")
    conf = {"broker_url": f"redis://broker.example:{redis_port}", "broker_pool_limit": 1}
    with publisher(conf | annotated(broker_cooldown=0.01), **endpoint) as task:
        publish(task, 1)
        resolver.set()
        ids: list[str] = []
        reconnect(task, ids, caplog)
    assert [message["headers"]["id"] for message in messages(redis_port)] == ids[-1:]


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_host_with_many_unreachable_addresses(
    server: RecordingServer,
    tmp_path: Path,
    endpoint: dict[str, str],
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time limit is that of the call, not of each address."""
    resolve = socket.getaddrinfo

    def resolve_many(host: Any, *args: Any, **kwargs: Any) -> Any:
        found = resolve("127.0.0.1" if host == "broker.example" else host, *args, **kwargs)
        return found * 5 if host == "broker.example" else found

    monkeypatch.setattr(socket, "getaddrinfo", resolve_many)
    with unreachable(tmp_path, server) as address:
        url = f"{scheme}://broker.example:{address.partition(':')[2]}"
        with publisher({"broker_url": url}, **endpoint) as task:
            ids: list[str] = []
            assert timed(lambda: ids.extend(publish(task, 5))) < PROMISE
            server.wait_until(lambda server: len(server.triggers) >= 5)
    assert server.ids() == dict.fromkeys(ids, 1)


def test_many_threads_on_a_broker_that_never_answers(
    server: RecordingServer, tmp_path: Path, endpoint: dict[str, str]
) -> None:
    """No call takes longer with more threads than connections."""

    with silent(tmp_path, server) as address, publisher({"broker_url": f"redis://{address}"}, **endpoint) as task:
        with ThreadPoolExecutor(40) as threads:
            waits = list(threads.map(lambda n: timed(lambda: publish(task, 1, n)), range(40)))
        server.wait_until(lambda server: len(server.triggers) >= 40)
    assert max(waits) < PROMISE


def test_a_broker_that_hangs_and_recovers(
    server: RecordingServer,
    tmp_path: Path,
    endpoint: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A call on an open connection is bounded, too; after the cooldown messages are published again."""
    caplog.set_level(logging.INFO, "brockman")
    port = free_port()
    with (
        redis_server(tmp_path / "redis", server, port) as broker,
        publisher(redis_conf(port) | annotated(broker_cooldown=0.2), **endpoint) as task,
    ):
        published = publish(task, 10)
        broker.process.send_signal(signal.SIGSTOP)
        fallen: list[str] = []
        assert timed(lambda: fallen.extend(publish(task, 1, 10))) < PROMISE
        broker.process.send_signal(signal.SIGCONT)
        server.wait_until(lambda server: server.ids() == dict.fromkeys(fallen, 1))
        reconnect(task, fallen, caplog)
        published += [fallen.pop(), *publish(task, 5, 2000)]
        # The message that was not answered may be there nevertheless, with the same id.
        waiting = {message["headers"]["id"] for message in messages(port)}
        assert waiting - set(fallen) == set(published)
        server.wait_until(lambda server: server.ids() == dict.fromkeys(fallen, 1))


def test_a_connection_that_was_closed_while_idle_is_replaced(
    server: RecordingServer, tmp_path: Path, endpoint: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A Redis that was restarted between two calls gets both messages."""
    port = free_port()
    with publisher(redis_conf(port), **endpoint) as task:
        for round_ in range(2):
            with redis_server(tmp_path / f"redis {round_}", server, port), redis.Redis(port=port) as look:
                publish(task, 1)
                assert look.llen("celery") == 1
    assert server.requests == []
    assert caplog.text == ""


def test_an_unstable_broker_leaks_nothing(
    server: RecordingServer, redis_port: int, endpoint: dict[str, str]
) -> None:
    """Connections are closed and refused repeatedly: no file or thread is left, each trigger arrives once."""
    ids: list[str] = []
    conf = redis_conf(redis_port) | annotated(broker_cooldown=0.01)
    with redis.Redis(port=redis_port) as look, publisher(conf, **endpoint) as task:
        ids += publish(task, 10)
        files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        for start in range(10, 2010, 50):
            look.client_kill_filter(_type="normal", skipme=True)
            look.config_set("maxmemory", str(start // 50 % 2))
            ids += publish(task, 50, start)
        assert task.client.flush(20)
        assert len(os.listdir("/proc/self/fd")) <= files + 5  # the client's own
        assert threading.active_count() <= threads + 5
    arrived = Counter(message["headers"]["id"] for message in messages(redis_port)) + server.ids()
    assert arrived == dict.fromkeys(ids, 1)


def test_forks_while_a_thread_publishes(redis_port: int, endpoint: dict[str, str]) -> None:
    """As under `gunicorn --preload`: no child uses its parent's connection, or finds a lock held."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, json.dumps(redis_conf(redis_port))],
        env={**os.environ, **endpoint},
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    objects = [json.loads(message["payload"][1]["trigger"])["object"] for message in messages(redis_port)]
    expected = {f"child {number} {turn}" for number in range(20) for turn in range(5)} | {"before"}
    expected |= {f"parent {number}" for number in range(int(result.stdout))}
    assert Counter(objects) == dict.fromkeys(expected, 1)


def test_two_apps_in_a_process(server: RecordingServer, redis_port: int, endpoint: dict[str, str]) -> None:
    """Each publishes to its own broker, also while the other's is unreachable."""
    unreachable = {"broker_url": f"redis://127.0.0.1:{free_port()}"}
    with publisher(redis_conf(redis_port), **endpoint) as here, publisher(unreachable, **endpoint) as there:
        fallen, published = publish(there, 3), publish(here, 3)
        fallen += publish(there, 3)
        server.wait_until(lambda server: len(server.triggers) == 6)
    assert server.ids() == dict.fromkeys(fallen, 1)
    assert [message["headers"]["id"] for message in messages(redis_port)] == published
