"""What a hostile world does to the task: brokers that refuse, messages that are none, limits, forks."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from brockman.exceptions import InvalidTrigger
from tests.celery.test_confirm import CONFIRMED, OWN
from tests.celery.test_publish import PROMISE, timed
from tests.celery.test_task import MEMORY, messages
from tests.celery.test_worker import done, is_empty
from tests.celery.workers import NAME, annotated, publish, publisher, redis_conf, worker
from tests.conftest import eventually
from tests.servers.running import free_port
from tests.support.server import RecordingServer, Reply, Request, silence

Spoil = Callable[[redis.Redis], Any]

# How a Redis that works may refuse to take a message.
REFUSALS: dict[str, Spoil] = {
    "password": lambda look: look.config_set("requirepass", "secret"),
    "read only": lambda look: look.replicaof("127.0.0.1", str(free_port())),
    "out of memory": lambda look: look.config_set("maxmemory", "1"),
    "connection limit": lambda look: look.config_set("maxclients", "1"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_broker_that_refuses_is_as_good_as_none(
    server: RecordingServer, redis_port: int, endpoint: dict[str, str], refusal: str
) -> None:
    """No call raises or waits; each trigger arrives once, past the broker."""
    with redis.Redis(port=redis_port) as look, publisher(redis_conf(redis_port), **endpoint) as task:
        REFUSALS[refusal](look)
        ids: list[str] = []
        assert timed(lambda: ids.extend(publish(task, 20))) < PROMISE
        server.wait_until(lambda server: len(server.triggers) >= 20)
    assert server.ids() == dict.fromkeys(ids, 1)


@pytest.mark.parametrize("url", ["rediss://127.0.0.1:{}/0?ssl_cert_reqs=none", "amqp://127.0.0.1:{}"])
def test_a_broker_of_another_language(
    server: RecordingServer, redis_port: int, endpoint: dict[str, str], url: str
) -> None:
    """TLS, or AMQP, spoken to a Redis."""
    with publisher({"broker_url": url.format(redis_port)}, **endpoint) as task:
        ids: list[str] = []
        assert timed(lambda: ids.extend(publish(task, 5))) < PROMISE
        server.wait_until(lambda server: len(server.triggers) >= 5)
    assert server.ids() == dict.fromkeys(ids, 1)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_resolver_that_never_answers(
    server: RecordingServer, endpoint: dict[str, str], scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No time limit of a socket reaches it; the call waits no longer than for anything else."""
    is_over = threading.Event()
    resolve = socket.getaddrinfo

    def stand_still(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "broker.example":
            return resolve(host, *args, **kwargs)
        is_over.wait(20)
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", stand_still)
    with publisher({"broker_url": f"{scheme}://broker.example"}, **endpoint) as task:
        ids: list[str] = []
        assert timed(lambda: ids.extend(publish(task, 5))) < PROMISE
        server.wait_until(lambda server: len(server.triggers) >= 5)
        is_over.set()
    assert server.ids() == dict.fromkeys(ids, 1)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_name_with_many_addresses_of_which_none_answers(
    server: RecordingServer, endpoint: dict[str, str], scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not take their time one after the other."""
    resolve = socket.getaddrinfo
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())

        def resolve_many(host: Any, *args: Any, **kwargs: Any) -> Any:
            found = resolve("127.0.0.1" if host == "broker.example" else host, *args, **kwargs)
            return found * 5 if host == "broker.example" else found

        monkeypatch.setattr(socket, "getaddrinfo", resolve_many)
        url = f"{scheme}://broker.example:{full.getsockname()[1]}"
        with publisher({"broker_url": url}, **endpoint) as task:
            ids: list[str] = []
            assert timed(lambda: ids.extend(publish(task, 5))) < PROMISE
            server.wait_until(lambda server: len(server.triggers) >= 5)
    assert server.ids() == dict.fromkeys(ids, 1)


def test_a_broker_that_comes_and_goes_leaks_nothing(
    server: RecordingServer, redis_port: int, endpoint: dict[str, str]
) -> None:
    """Connections are cut, and refused, again and again: no file or thread is left, each trigger is there once."""
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


FORKING = """
import json, os, sys, threading
import celery
import brockman.celery

app = celery.Celery("app")
app.conf.update(json.loads(sys.argv[1]))
task = app.tasks["brockman.record_trigger"]
task.delay("7", "viewed", "before")
is_over = threading.Event()
count = 0

def work():
    global count
    while not is_over.is_set():
        task.delay("7", "viewed", f"parent {count}")
        count += 1

def child(number):
    for turn in range(5):
        task.delay("7", "viewed", f"child {number} {turn}")

threads = [threading.Thread(target=work)]
for thread in threads:
    thread.start()
for number in range(20):
    pid = os.fork()
    if pid == 0:
        child(number)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
is_over.set()
for thread in threads:
    thread.join()
print(count)
"""


def test_forks_while_a_thread_publishes(redis_port: int, endpoint: dict[str, str]) -> None:
    """As under `gunicorn --preload`: no child speaks on its parent's connection, and no lock is left behind."""
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, json.dumps(redis_conf(redis_port))],
        env={**os.environ, **endpoint},
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    objects = [json.loads(message["payload"][1]["trigger"])["object"] for message in messages(redis_port)]
    expected = {f"child {number} {turn}" for number in range(20) for turn in range(5)} | {"before"}
    expected |= {f"parent {number}" for number in range(int(told.stdout))}
    assert Counter(objects) == dict.fromkeys(expected, 1)


def test_a_hard_time_limit_loses_nothing(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """Confirmed mode: the child is killed in the middle of an attempt, and the trigger comes again."""
    conf = redis_conf(redis_port)
    conf["task_annotations"] = {NAME: {"time_limit": 1}}
    accepted = Counter[str]()

    def respond(request: Request) -> Reply:
        if not server.requests:
            return Reply(act=silence)
        accepted.update(trigger["id"] for trigger in request.triggers)
        return Reply()

    server.respond = respond
    with publisher(conf, **endpoint) as task:
        ids = publish(task, 5)
    with worker(tmp_path / "worker", server, conf, "-P", "prefork", "-c", "1", **CONFIRMED) as running:
        assert eventually(lambda: accepted.keys() == set(ids)), running.text()
        assert eventually(lambda: is_empty(redis_port)), running.text()
        assert "Hard time limit" in running.text()


POISON: list[dict[str, Any]] = [
    {"kwargs": {"trigger": "not json"}},
    {"kwargs": {"trigger": 5}},
    {"kwargs": {"trigger": ["x"]}},
    {"kwargs": {"trigger": "{}"}},
    {"kwargs": {"trigger": '{"id": "1"}, {"id": "2"}'}},
    {"kwargs": {"trigger": '{"id": NaN}'}},
    {"kwargs": {"trigger": "[" * 100_000}},
    {"kwargs": {"trigger": "x" * 10_000_000}},
    {"kwargs": {"colour": "red"}},
    {"args": list(range(9))},
    {"args": ["7", "viewed", ""]},
    {"args": ["7", "viewed", "page", {"a": {"b": 1}}]},
]


@pytest.mark.parametrize("mode", ["buffered", "confirmed"])
def test_messages_that_hold_no_trigger(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str], mode: str
) -> None:
    """Whatever somebody publishes: it is counted and told, and spoils nothing else."""
    conf = redis_conf(redis_port)
    with publisher(conf, **endpoint) as task:
        names = []
        for poison in POISON:
            task.app.send_task("own", **poison, ignore_result=True)
            names.append(str(uuid.uuid4()))
            task.app.send_task("own", ("7", "viewed", "page"), task_id=names[-1], ignore_result=True)
    source = OWN
    with worker(tmp_path / "worker", server, conf, "-P", "solo", source=source, FL_CELERY_MODE=mode) as running:
        assert eventually(lambda: is_empty(redis_port) and done(running) == len(names)), running.text()
        running.finish()
    told = [json.loads(line) for line in running.truth.read_text().splitlines()]
    count = len(POISON)
    assert [line["rejected"] for line in told if "rejected" in line] == [count]
    assert len([line for line in told if "error" in line]) == count
    assert server.ids() == dict.fromkeys(names, 1)
    assert running.text().count("a message without a valid trigger") == 1  # a minute


def test_odd_arguments(redis_port: int, endpoint: dict[str, str]) -> None:
    """Iterators are taken; the names that messages use are none of the caller's."""
    with publisher(redis_conf(redis_port), **endpoint) as task:
        task.apply_async(part for part in ("7", "viewed", "page"))
        task.apply_async(None, {"actor_id": "7", "action": "viewed", "obj": "page"})
        for wrong in ({"trigger": "x"}, {"faults": 3}, {"trigger": None}):
            with pytest.raises(TypeError, match="unexpected keyword"):
                task.delay("7", "viewed", "page", **wrong)
        with pytest.raises(InvalidTrigger):
            task.delay(None, "viewed", "page")
        with pytest.raises(TypeError):
            task.delay()
        with pytest.raises(TypeError):
            task.delay(*range(7))
    assert len(messages(redis_port)) == 2


@contextlib.contextmanager
def _configured(app: Any, **changes: Any) -> Iterator[None]:
    before = {name: app.conf[name] for name in changes}
    app.conf.update(changes)
    yield
    app.conf.update(before)


CONFIGURATIONS: list[dict[str, Any]] = [
    {"task_protocol": 1},
    {"task_compression": "gzip"},
    {"task_serializer": "pickle"},
    {"task_serializer": "yaml"},
    {"task_serializer": "msgpack"},
    {"task_create_missing_queues": False},
    {"result_extended": True},
    {"task_always_eager": True, "task_eager_propagates": True},
]


def test_every_configuration(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """Protocols, serializers, compression, late acknowledgement for all, no result backend, beat in the worker."""
    conf = redis_conf(redis_port)
    conf |= {
        "result_backend": f"redis://127.0.0.1:{free_port()}",
        "accept_content": ["json", "pickle", "yaml", "msgpack"],
    }
    ids = []
    with publisher(conf, **endpoint) as task:
        for changes in CONFIGURATIONS:
            with _configured(task.app, **changes):
                ids += publish(task, 1, len(ids))
        conf |= {"task_acks_late": True, "task_track_started": True, "worker_proc_alive_timeout": 30}
        options = ("-P", "prefork", "-c", "1", "-B")
        with worker(tmp_path / "worker", server, conf, *options, C_FORCE_ROOT="1") as running:
            server.wait_until(lambda server: len(server.triggers) >= len(CONFIGURATIONS))
            assert eventually(lambda: is_empty(redis_port)), running.text()
            running.finish()
    assert server.ids() == dict.fromkeys(ids, 1)


def test_two_apps_in_a_process(server: RecordingServer, redis_port: int, endpoint: dict[str, str]) -> None:
    """Each publishes to its own broker, and one that is away does not keep the other from it."""
    away = {"broker_url": f"redis://127.0.0.1:{free_port()}"}
    with publisher(redis_conf(redis_port), **endpoint) as here, publisher(away, **endpoint) as there:
        fallen, published = publish(there, 3), publish(here, 3)
        fallen += publish(there, 3)
        server.wait_until(lambda server: len(server.triggers) == 6)
    assert server.ids() == dict.fromkeys(fallen, 1)
    assert [message["headers"]["id"] for message in messages(redis_port)] == published


@pytest.mark.parametrize("mode", ["buffered", "confirmed"])
def test_a_black_hole_does_not_hold_a_warm_shutdown(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str], mode: str
) -> None:
    """The endpoint accepts and never answers: a worker ends within its limits, and says what it leaves."""
    conf = redis_conf(redis_port)
    server.respond = lambda request: Reply(act=silence)
    with publisher(conf, **endpoint) as task:
        publish(task, 4)
    settings = {
        "FL_CELERY_MODE": mode,
        "FL_SHUTDOWN_TIMEOUT": "0.5",
        "FL_READ_TIMEOUT": "0.5",
        "FL_CONNECT_TIMEOUT": "0.5",
    }
    with worker(tmp_path / "worker", server, conf, "-P", "prefork", "-c", "2", **settings) as running:
        server.wait_until(lambda server: len(server.requests) >= 1)
        assert timed(running.finish) < 15
    if mode == "confirmed":
        assert not is_empty(redis_port)
    else:
        assert "shutdown" in running.text()


def test_an_eager_app_raises_what_it_should(endpoint: dict[str, str]) -> None:
    """With `task_eager_propagates` too a mistake is the caller's."""
    with publisher(MEMORY | {"task_always_eager": True, "task_eager_propagates": True}, **endpoint) as task:
        with pytest.raises(InvalidTrigger):
            task.delay("7", "viewed", "")
        assert task.delay("7", "viewed", "page").get() is True
