"""RabbitMQ, which keeps each message until it is acknowledged: nothing may be lost, whatever is killed."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.celery.calls import ACCEPT, SETTINGS, TASKS, calling, check
from tests.celery.old_messages import every_kind, objects
from tests.celery.rabbitmq import Node
from tests.celery.workers import (
    CONFIRMED,
    DJANGO,
    FORKING,
    NEVER,
    PROMISE,
    annotated,
    done,
    publish,
    publisher,
    reconnect,
    timed,
    worker,
)
from tests.support.server import RecordingServer, Reply, Request
from tests.support.waiting import eventually

POOL = ("-P", "prefork", "-c", "2")
_seconds = threading.Event().wait


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node for the tests of this module."""
    node = Node(tmp_path_factory.mktemp("rabbitmq"))
    try:
        node.start()
        yield node
    finally:
        node.end()


def conf(node: Node, queue: str) -> dict[str, Any]:
    """Return the configuration of an app with a queue of its own."""
    return {"broker_url": node.url, "task_default_queue": queue}


def test_nothing_is_lost_by_kill_9_at_any_moment(
    server: RecordingServer, tmp_path: Any, node: Node, endpoint: dict[str, str]
) -> None:
    """Confirmed mode: pool processes, then the worker, three times; all triggers arrive, duplicates by id."""
    settings = conf(node, "killed")
    moment = random.Random()
    arrived = Counter[str]()

    def respond(request: Request) -> Reply:
        if moment.random() < 0.02:
            return Reply(503)
        if len(request.body) == int(request.headers["content-length"]):  # else the sender was killed
            arrived.update(trigger["id"] for trigger in request.triggers)
        return Reply()

    def wait_a_while() -> None:
        reached = len(server.requests) + moment.randrange(1, 60)
        server.wait_until(lambda server: len(server.requests) >= reached)
        _seconds(moment.uniform(0, 0.01))

    server.respond = respond
    with publisher(settings, **endpoint) as task:
        ids = publish(task, 700)
    for life in range(3):
        with worker(tmp_path / str(life), server, settings, *POOL, **CONFIRMED) as running:
            for _ in range(2):
                wait_a_while()
                os.kill(moment.choice(running.children), signal.SIGKILL)
            wait_a_while()
            running.kill()
    assert len(arrived) < 700
    with worker(tmp_path / "last", server, settings, *POOL, **CONFIRMED) as last:
        assert eventually(lambda: arrived.keys() == set(ids), 30), last.text()


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_a_task_runs_in_the_context_of_its_caller(
    server: RecordingServer, tmp_path: Any, node: Node, endpoint: dict[str, str], pool: str
) -> None:
    """As over Redis; here a task of Celery's own waits for the header of a chord."""
    if pool == "gevent":
        pytest.importorskip("gevent")
    (tmp_path / "results").mkdir()
    results = {"result_backend": f"file://{tmp_path}/results", "result_chord_retry_interval": 0.1}
    settings = conf(node, f"context {pool}") | ACCEPT | results
    options = (tmp_path / "worker", server, settings, "-P", pool, "-c", "2")
    with calling(settings, pool, endpoint) as caller, worker(*options, source=TASKS, **SETTINGS) as running:
        check(caller, running, server)


@pytest.mark.parametrize("mode", ["buffered", "confirmed"])
def test_messages_of_brockman_0_1_are_delivered(
    server: RecordingServer, tmp_path: Any, node: Node, mode: str
) -> None:
    """As Celery 3.0 and 3.1 published them, pickled and as JSON; none is left, none is there twice."""
    pytest.importorskip("django")
    settings = conf(node, f"old {mode}") | {"accept_content": ["json", "pickle"]}
    old = [
        message
        for celery in (0, 1)
        for is_pickled in (True, False)
        for message in every_kind(celery=celery, is_pickled=is_pickled)
    ]
    environment = {"FL_CELERY_MODE": mode, "C_FORCE_ROOT": "1"}
    with worker(tmp_path / "worker", server, settings, *POOL, source=DJANGO, **environment) as running:
        node.publish(f"old {mode}", [(message.body, message.amqp_properties) for message in old])
        server.wait_until(lambda server: len(server.triggers) == len(old))
        running.finish()
    assert {trigger["id"]: trigger["object"] for trigger in server.triggers} == objects(old)
    assert node.waiting(f"old {mode}") == []


def test_a_warm_shutdown_delivers_everything(
    server: RecordingServer, tmp_path: Any, node: Node, endpoint: dict[str, str]
) -> None:
    """Buffered mode: what was received is delivered, the rest stays in the broker."""
    settings = conf(node, "warm")
    with publisher(settings, **endpoint) as task:
        ids = publish(task, 400)
    with worker(tmp_path / "first", server, settings, *POOL, FL_FLUSH_INTERVAL=NEVER) as first:
        assert eventually(lambda: done(first) >= 40)
        first.finish()
    left = node.waiting("warm")
    assert sorted([trigger["id"] for trigger in server.triggers] + list(left)) == sorted(ids)


def test_a_broker_that_hangs_and_recovers(
    server: RecordingServer,
    node: Node,
    endpoint: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A call waits for its confirm no longer than promised; after the cooldown messages are published again."""
    caplog.set_level(logging.INFO, "brockman")
    with publisher(conf(node, "hung") | annotated(broker_cooldown=0.2), **endpoint) as task:
        ids = publish(task, 10)
        node.signal(signal.SIGSTOP)
        try:
            assert timed(lambda: ids.extend(publish(task, 1, 10))) < PROMISE
            server.wait_until(lambda server: server.ids() == {ids[-1]: 1})
        finally:
            node.signal(signal.SIGCONT)
        node.wait()
        reconnect(task, ids, caplog)
        assert task.client.flush(20)
    # The message that was not confirmed may be there nevertheless, with the same id.
    assert {*server.ids(), *node.waiting("hung")} == set(ids)


GREENLETS = """
from gevent import monkey; monkey.patch_all()
import json, sys, time
import celery
import brockman.celery

app = celery.Celery("app")
app.conf.update(json.loads(sys.argv[1]))
task = app.tasks["brockman.record_trigger"]
task.delay("7", "viewed", "before")
print("published", flush=True)
sys.stdin.readline()
started = time.monotonic()
task.delay("7", "viewed", "while it hangs")
print(time.monotonic() - started, flush=True)
"""


def test_a_greenlet_does_not_block_forever(server: RecordingServer, node: Node, endpoint: dict[str, str]) -> None:
    """Under gevent, too, a call on an open connection to a broker that hangs is bounded."""
    pytest.importorskip("gevent")
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", GREENLETS, json.dumps(conf(node, "greenlets"))],
        env={**os.environ, **endpoint},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        try:
            assert program.stdout.readline() == "published\n"
            node.signal(signal.SIGSTOP)
            program.stdin.write("go\n")
            program.stdin.flush()
            server.wait_until(lambda server: len(server.triggers) == 1, 10)
            assert float(program.stdout.readline()) < PROMISE
        finally:
            node.signal(signal.SIGCONT)
            program.kill()


def test_forks_while_a_thread_publishes(node: Node, endpoint: dict[str, str]) -> None:
    """No child uses its parent's connection, and each message is there once."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, json.dumps(conf(node, "forked"))],
        env={**os.environ, **endpoint},
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    ids = node.waiting("forked")
    assert len(ids) == len(set(ids)) == 1 + 20 * 5 + int(result.stdout)


def test_a_broker_that_dies_while_threads_publish(
    server: RecordingServer, node: Node, endpoint: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """It has kept what it confirmed, and the rest was recorded; no call takes longer than promised."""
    caplog.set_level(logging.INFO, "brockman")
    ids: list[str] = []
    waits: list[float] = []
    is_over = threading.Event()

    def call(number: int) -> None:
        while not is_over.is_set():
            waits.append(timed(lambda: ids.extend(publish(task, 1, number))))

    with publisher(conf(node, "dying"), **endpoint) as task, ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(call, number) for number in range(4)]
        try:
            assert eventually(lambda: len(ids) > 200)
            node.kill()
            count = len(ids)
            assert eventually(lambda: len(ids) > count + 50)
        finally:
            is_over.set()
        assert [one.result(20) for one in calls] == [None] * 4
        node.start()
        reconnect(task, ids, caplog)
        assert task.client.flush(20)
    assert max(waits) < PROMISE
    assert {*server.ids(), *node.waiting("dying")} == set(ids)
    assert set(server.ids().values()) == {1}
