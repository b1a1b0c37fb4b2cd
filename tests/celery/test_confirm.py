"""Workers in confirmed mode, on a real Redis: whatever is killed, and whatever the endpoint answers."""

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
from celery.exceptions import Reject

from tests.celery.test_worker import done, is_empty
from tests.celery.workers import APP, annotated, publish, publisher, redis_conf, worker
from tests.conftest import eventually
from tests.servers.running import free_port
from tests.support.server import RecordingServer, Reply, Request, reset, silence

CONFIRMED = {"FL_CELERY_MODE": "confirmed", "FL_BACKOFF_BASE": "0.05", "FL_BACKOFF_CAP": "0.2"}

# A task of another name, whose client is made by the app; the solo pool has its counts at the end.
OWN = (
    APP
    + """
from brockman.celery.task import RecordTask, make_task
from brockman.client import FocusLabClient

class OwnTask(RecordTask):
    def make_client(self):
        return FocusLabClient(max_attempts=3, on_error=lambda error, bodies: note({"error": str(error)}))

def note(what):
    with open(os.environ["TRUTH"], "a") as truth:
        print(json.dumps(what), file=truth)

own = make_task(OwnTask, "own")

@celery.signals.worker_shutdown.connect(weak=False)
def tell(**_):
    stats = app.tasks["own"].client.stats()
    note({"delivered": stats.delivered, "rejected": stats.rejected, "recorded": stats.recorded})
"""
)


def object_of(request: Request) -> str:
    """Return the object of the trigger in a request for one."""
    return str(request.triggers[0]["object"])


def test_nothing_is_lost_by_kill_9(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """Children are killed in mid-burst, then the whole worker; all arrives, and what comes twice has the same id.

    The worker is killed while its children wait for an answer and no message is on the way to it: kombu takes a
    message out of Redis before it notes that it has it, and what a `kill -9` finds between the two is gone.
    """
    conf = redis_conf(redis_port, visibility_timeout=1, unacked_restore_interval=0.2)
    pool = ("-P", "prefork", "-c", "2")
    answering = threading.Event()
    answering.set()

    arrived = Counter[str]()

    def slowly(request: Request) -> Reply:
        time.sleep(0.005)
        if len(request.body) == int(request.headers["content-length"]):  # else its sender was killed
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
        assert eventually(lambda: look.hlen("unacked") == 2 * 4)  # as many as a worker of two takes at a time
        first.kill()
        answering.set()
    assert len(arrived) < 200
    with worker(tmp_path / "second", server, conf, *pool, **CONFIRMED) as second:
        server.wait_until(lambda server: len(arrived) >= 200, 60)
        assert eventually(lambda: is_empty(redis_port))
        second.finish()
    assert arrived.keys() == set(ids)
    assert sum(arrived.values()) <= 200 + 20  # what was being sent, or prefetched, at the three deaths


def test_what_may_pass_is_retried_and_the_rest_given_up(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """503 and no answer: for as long as it takes; 401: held; 500: three times; 400: at once. All is counted."""
    conf = redis_conf(redis_port)

    def respond(request: Request) -> Reply:
        thing = object_of(request)
        if thing == "poison":
            return Reply(400, b"no such thing")
        if thing == "crash":
            return Reply(500, b"oops")
        tried = server.ids()[request.triggers[0]["id"]]
        return (Reply(503, headers={"Retry-After": "1"}), Reply(act=reset), Reply(503), Reply())[tried]

    server.respond = respond
    with publisher(conf, **endpoint) as task:
        own = [
            task.app.send_task("own", ("7", "viewed", thing), ignore_result=True).id
            for thing in ("poison", *map(str, range(10)), "crash")
        ]
    with worker(tmp_path / "worker", server, conf, "-P", "solo", source=OWN, **CONFIRMED) as running:
        assert eventually(lambda: is_empty(redis_port))
        running.finish()
    told = [json.loads(line) for line in running.truth.read_text().splitlines()]
    assert told[-1] == {"delivered": 10, "rejected": 2, "recorded": 12}
    assert sorted(line["error"] for line in told[:-1]) == [
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


def test_a_wrong_key_holds_everything(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """401: nothing is given up, the messages stay with the broker, and one error says what to change."""
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


@pytest.mark.parametrize("mode", ["buffered", "confirmed"])
def test_a_worker_without_a_key_gives_everything_back(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str], mode: str
) -> None:
    """It cannot send, and says what to set; the messages stay with the broker."""
    conf = redis_conf(redis_port)
    with publisher(conf, **endpoint) as task:
        publish(task, 5)
    environment = {"FL_API_KEY": "", "FL_CELERY_MODE": mode}
    with worker(tmp_path / "worker", server, conf, "-P", "solo", **environment) as running:
        assert eventually(lambda: running.text().count("Retry in 30") == 5), running.text()
        running.finish()
        assert not is_empty(redis_port)
    assert running.text().count("api_key is missing") == 1
    assert server.requests == []


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_tasks_that_run_at_once_go_together(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str], pool: str
) -> None:
    """Fewer requests than triggers; a refused array is sent one by one, and only the poison is given up."""
    # Else greenlets that are done at the same time find no connection to acknowledge over.
    conf = redis_conf(redis_port, max_connections=40)
    conf["worker_prefetch_multiplier"] = 0  # else Celery's loop for gevent stands still for 2 s now and then
    posting = threading.Semaphore()

    def respond(request: Request) -> Reply:
        assert posting.acquire(blocking=False)  # one request at a time
        time.sleep(0.02)
        posting.release()
        poisoned = any(trigger["object"] == "150" for trigger in request.triggers)
        return Reply(400, b"no such thing") if poisoned else Reply()

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


def test_a_soft_time_limit_loses_nothing(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """It strikes in the middle of an attempt: the trigger comes again, and no lock is left behind."""
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


# Eight threads start their first task together: each looks up the client before any has made what sends.
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
    senders = list(threads.map(lambda _: meeting._executor.confirming, range(8)))
barrier.abort()
assert len(set(senders)) == 1, senders
assert meeting._executor.confirming is senders[0]
pid = os.fork()
if pid == 0:
    os._exit(meeting._executor.confirming is senders[0])
assert os.waitpid(pid, 0)[1] == 0
"""


def test_threads_that_start_together_send_together(endpoint: dict[str, str]) -> None:
    """A process sends through one object, whichever of its threads makes it; a forked child has its own."""
    subprocess.run([sys.executable, "-c", FIRST_TASKS], env={**os.environ, **endpoint}, check=True, timeout=60)


def test_a_retry_that_cannot_be_published_goes_back(endpoint: dict[str, str]) -> None:
    """Celery would reject the message for good, and the trigger would be lost."""
    conf = {"broker_url": f"redis://127.0.0.1:{free_port()}"}
    with publisher(conf, **endpoint, **CONFIRMED) as task:
        assert task.acks_late
        assert task.reject_on_worker_lost
        assert not task.acks_on_timeout
        task.push_request(id="7", called_directly=False, args=[], kwargs={"trigger": "{}"}, delivery_info={})
        try:
            with pytest.raises(Reject) as raised:
                task._requeue(b"{}", 1.0)
        finally:
            task.pop_request()
    assert raised.value.requeue
