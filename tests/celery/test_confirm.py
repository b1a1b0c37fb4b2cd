"""Workers in confirmed mode on a real Redis, whatever the endpoint answers and whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import redis

from tests.celery.workers import (
    CONFIRMED,
    OWN,
    annotated,
    done,
    is_empty,
    publish,
    publisher,
    redis_conf,
    worker,
)
from tests.support.server import RecordingServer, Reply, Request, reset, silence
from tests.support.waiting import eventually


def object_of(request: Request) -> str:
    """Return the object of the trigger in a request for one."""
    return str(request.triggers[0]["object"])


def test_nothing_is_lost_by_kill_9(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """Pool processes are killed under load, then the worker; all triggers arrive, duplicates have the same id.

    The worker is killed while its processes wait for an answer and it receives no message: kombu takes a message
    off its Redis list before it stores it as unacknowledged, and a `kill -9` between the two loses it.
    """
    conf = redis_conf(redis_port, visibility_timeout=1, unacked_restore_interval=0.2)
    pool = ("-P", "prefork", "-c", "2")
    answering = threading.Event()
    answering.set()

    arrived = Counter[str]()

    def slowly(request: Request) -> Reply:
        time.sleep(0.005)
        if len(request.body) == int(request.headers["content-length"]):  # else the sender was killed
            arrived.update(trigger["id"] for trigger in request.triggers)
        answering.wait(20)
        return Reply()

    server.respond = slowly
    with publisher(conf, **endpoint) as task:
        ids = publish(task, 200)
    with (
        worker(tmp_path / "first", server, conf, *pool, **CONFIRMED) as first,
        redis.Redis(port=redis_port) as look,
    ):
        for count in (30, 60):
            server.wait_until(lambda server, count=count: len(server.requests) >= count)
            os.kill(first.children[-1], signal.SIGKILL)
        server.wait_until(lambda server: len(server.requests) >= 100)
        answering.clear()
        assert eventually(lambda: look.hlen("unacked") == 2 * 4)  # as many as a worker of two prefetches
        first.kill()
        answering.set()
    assert len(arrived) < 200
    with worker(tmp_path / "second", server, conf, *pool, **CONFIRMED) as second:
        server.wait_until(lambda server: len(arrived) >= 200, 60)
        assert eventually(lambda: is_empty(redis_port))
        second.finish()
    assert arrived.keys() == set(ids)
    assert sum(arrived.values()) <= 200 + 20  # sent, or prefetched, when the three were killed


def test_failures_that_may_pass_are_retried_and_others_rejected(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """503 and no answer: without limit; 500: three times; 400: never. All is counted."""
    conf = redis_conf(redis_port)

    def respond(request: Request) -> Reply:
        thing = object_of(request)
        if thing == "invalid":
            return Reply(400, b"no such thing")
        if thing == "crash":
            return Reply(500, b"oops")
        tried = server.ids()[request.triggers[0]["id"]]
        return (Reply(503, headers={"Retry-After": "1"}), Reply(act=reset), Reply(503), Reply())[tried]

    server.respond = respond
    with publisher(conf, **endpoint) as task:
        own = [
            task.app.send_task("own", ("7", "viewed", thing), ignore_result=True).id
            for thing in ("invalid", *map(str, range(10)), "crash")
        ]
    with worker(tmp_path / "worker", server, conf, "-P", "solo", source=OWN, **CONFIRMED) as running:
        assert eventually(lambda: is_empty(redis_port))
        running.finish()
    notes = [json.loads(line) for line in running.truth.read_text().splitlines()]
    assert notes[-1] == {"delivered": 10, "rejected": 2, "recorded": 12}
    assert sorted(line["error"] for line in notes[:-1]) == [
        "the server answered 400: no such thing",
        "the server answered 500: oops",
    ]
    times = server.ids()
    assert set(times) == set(own)
    assert times[own[0]] == 1
    assert times[own[-1]] == 3
    assert {times[name] for name in own[1:-1]} == {4}
    assert running.text().count("a trigger is rejected: the server answered 400: no such thing") == 1
    assert running.text().count("is unavailable") == 1


def test_a_wrong_key_rejects_nothing(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """401: the messages stay in the broker, and one error says what to change."""
    conf = redis_conf(redis_port)
    server.respond = lambda request: Reply(401, b"who are you?")
    with publisher(conf, **endpoint) as task:
        publish(task, 5)
    with worker(tmp_path / "worker", server, conf, "-P", "solo", **CONFIRMED) as running:
        server.wait_until(lambda server: len(server.requests) == 5)
        assert eventually(lambda: running.text().count("Retry in 30") == 5), running.text()
        running.finish()
        assert not is_empty(redis_port)
    assert running.text().count("check api_key (FL_API_KEY)") == 1


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_concurrent_tasks_are_sent_in_batches(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str], pool: str
) -> None:
    """There are fewer requests than triggers; a rejected batch is sent one by one, and one trigger is rejected."""
    # Otherwise greenlets that finish at the same time find no connection to acknowledge over.
    conf = redis_conf(redis_port, max_connections=40)
    conf["worker_prefetch_multiplier"] = 0  # otherwise Celery's loop for gevent sometimes stalls for 2 s
    sending = threading.Semaphore()

    def respond(request: Request) -> Reply:
        assert sending.acquire(blocking=False)  # one request at a time
        time.sleep(0.02)
        sending.release()
        is_invalid = any(trigger["object"] == "150" for trigger in request.triggers)
        return Reply(400, b"no such thing") if is_invalid else Reply()

    server.respond = respond
    with publisher(conf, **endpoint) as task:
        ids = publish(task, 200)
    with worker(tmp_path / "worker", server, conf, "-P", pool, "-c", "20", **CONFIRMED) as running:
        assert eventually(lambda: done(running) == 200, 20), running.text()
        running.finish()
    accepted = [request for request in server.requests if "150" not in {t["object"] for t in request.triggers}]
    arrived = [trigger["id"] for request in accepted for trigger in request.triggers]
    assert sorted(arrived) == sorted(set(ids) - {ids[150]})
    assert len(server.requests) < 70
    assert running.text().count("a trigger is rejected") == 1
    assert running.text().count("succeeded in") - running.text().count(": True") == 1


# Eight threads start their first task together: each looks up the client before any of them has made a sender.
FIRST_TASKS = """
import contextlib, os, threading
from concurrent.futures import ThreadPoolExecutor
import celery
from brockman.celery.task import RecordTask, make_task

barrier = threading.Barrier(8)

class Meeting(RecordTask):
    abstract = True

    @property
    def client(self):
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(2)
        return super().client

make_task(Meeting, "meeting")
meeting = celery.Celery("app", broker="memory://").tasks["meeting"]
with ThreadPoolExecutor(8) as threads:
    senders = list(threads.map(lambda _: meeting._executor.get().confirming.get(), range(8)))
barrier.abort()
assert len(set(senders)) == 1, senders
assert meeting._executor.get().confirming.get() is senders[0]
pid = os.fork()
if pid == 0:
    os._exit(meeting._executor.get().confirming.get() is senders[0])
assert os.waitpid(pid, 0)[1] == 0
"""


def test_threads_of_a_process_share_one_sender(endpoint: dict[str, str]) -> None:
    """Also if their first tasks start together; a forked child has its own."""
    subprocess.run([sys.executable, "-c", FIRST_TASKS], env={**os.environ, **endpoint}, check=True, timeout=60)


def test_a_soft_time_limit_loses_nothing(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """It interrupts an attempt: the trigger is requeued, and no lock stays held."""
    conf = redis_conf(redis_port) | annotated(soft_time_limit=1)
    server.respond = lambda request: Reply(act=silence) if len(server.requests) < 2 else Reply()
    with publisher(conf, **endpoint) as task:
        ids = publish(task, 20)
    with worker(tmp_path / "worker", server, conf, "-P", "prefork", "-c", "2", **CONFIRMED) as running:
        server.wait_until(lambda server: len(server.ids()) == 20 and len(server.triggers) == 22)
        assert eventually(lambda: is_empty(redis_port))
        running.finish()
    assert set(server.ids()) == set(ids)
    assert "SoftTimeLimitExceeded" in running.text()


def test_a_hard_time_limit_loses_nothing(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """It kills the pool process during an attempt: the message is delivered again."""
    conf = redis_conf(redis_port) | annotated(time_limit=1)
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
