"""Workers in buffered mode, on a real Redis: however one ends, each trigger arrives once."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import celery
import pytest
import redis

from brockman.options import Options
from tests.celery.workers import (
    APP,
    NEVER,
    WITH_TASK,
    annotated,
    done,
    is_empty,
    publish,
    publisher,
    redis_conf,
    worker,
)
from tests.support.client import KEY
from tests.support.programs import assert_exact
from tests.support.scripts import RECORDING
from tests.support.server import RecordingServer, Reply
from tests.support.waiting import eventually

POOLS = {
    "prefork": ("-P", "prefork", "-c", "2"),
    "threads": ("-P", "threads", "-c", "4"),
    "solo": ("-P", "solo"),
    "gevent": ("-P", "gevent", "-c", "20"),
}


# A user's task with a client of its own: brockman.celery is not imported.
PLAIN = (
    APP
    + RECORDING
    + """
client = FocusLabClient()

@app.task(name="plain", ignore_result=True)
def plain(name, seconds):
    import time
    record(client, name)
    time.sleep(seconds)
"""
)


# Two log lines for each task cost more than the task.
SPARING = """
import logging
for name in ("celery.worker.strategy", "celery.app.trace"):
    logging.getLogger(name).setLevel(logging.WARNING)
"""


@pytest.mark.parametrize("pool", POOLS)
def test_a_warm_shutdown_delivers_everything(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str], pool: str
) -> None:
    """TERM under load: what was received is delivered, and the next worker does the rest."""
    conf = redis_conf(redis_port)
    with publisher(conf, **endpoint) as task:
        ids = publish(task, 200)
    with worker(tmp_path / "first", server, conf, *POOLS[pool], FL_FLUSH_INTERVAL=NEVER) as first:
        assert eventually(lambda: done(first) >= 40)
        first.finish()
    assert len(server.ids()) == done(first)
    with worker(tmp_path / "second", server, conf, *POOLS[pool], FL_FLUSH_INTERVAL=NEVER) as second:
        assert eventually(lambda: is_empty(redis_port))
        second.finish()
    assert server.ids() == dict.fromkeys(ids, 1), second.text()
    with redis.Redis(port=redis_port) as look:
        assert not [key for key in look.scan_iter() if key.startswith(b"celery-task-meta")]


def test_a_cold_shutdown_delivers_the_buffer(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """QUIT kills the pool at once, but the buffer is delivered."""
    conf = redis_conf(redis_port)
    with publisher(conf, **endpoint) as task:
        ids = publish(task, 50)
    with worker(tmp_path / "worker", server, conf, *POOLS["prefork"], FL_FLUSH_INTERVAL=NEVER) as running:
        assert eventually(lambda: done(running) == 50)
        running.stop(signal.SIGQUIT, 60)
    assert server.ids() == dict.fromkeys(ids, 1), running.text()


def test_recycled_pool_processes_lose_nothing(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """`--max-tasks-per-child`: the main process buffers the triggers, and sends them in one request."""
    conf = redis_conf(redis_port)
    with publisher(conf, **endpoint) as task:
        ids = publish(task, 40)
    options = ("-P", "prefork", "-c", "2", "--max-tasks-per-child", "10")
    with worker(tmp_path / "worker", server, conf, *options, FL_FLUSH_INTERVAL=NEVER) as running:
        assert eventually(lambda: done(running) == 40)
        running.finish()
    assert server.ids() == dict.fromkeys(ids, 1), running.text()
    assert len(server.requests) == 1


def test_a_client_in_a_task_of_the_user(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """Recycled pool processes deliver what their tasks recorded, without brockman.celery."""
    conf = redis_conf(redis_port)
    options = ("-P", "prefork", "-c", "2", "--max-tasks-per-child", "10")
    source = PLAIN + "import sys; assert 'brockman.celery' not in sys.modules\n"
    with worker(tmp_path / "worker", server, conf, *options, source=source, FL_FLUSH_INTERVAL=NEVER) as running:
        with publisher(conf, **endpoint) as task:
            for number in range(45):
                task.app.send_task("plain", (f"plain {number}", 0), ignore_result=True)
        assert eventually(lambda: done(running) == 45)
        running.finish()
        assert_exact(running, server, at_least=45)


def test_a_pool_that_shrinks_delivers_everything(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """`--autoscale`: pool processes that are stopped deliver what they recorded."""
    conf = redis_conf(redis_port)
    settings = {"FL_FLUSH_INTERVAL": NEVER, "AUTOSCALE_KEEPALIVE": "0.5"}
    with worker(tmp_path / "worker", server, conf, "--autoscale=4,1", source=PLAIN, **settings) as running:
        with publisher(conf, **endpoint) as task:
            for number in range(150):
                task.app.send_task("plain", (f"scaled {number}", 0.02), ignore_result=True)
        assert eventually(lambda: len(running.children) == 4)
        assert eventually(lambda: done(running) == 150)
        assert eventually(lambda: len(running.children) == 1)
        assert len(server.requests) >= 3  # from the stopped ones
        running.finish()
        assert_exact(running, server, at_least=150)


def test_two_thousand_calls_take_a_request_for_each_full_batch_and_second(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """With the default settings, in the main process's batches."""
    conf = redis_conf(redis_port)
    source = WITH_TASK + SPARING
    with worker(tmp_path / "worker", server, conf, "-P", "prefork", "-c", "2", source=source) as running:
        with publisher(conf, **endpoint) as task:
            ids = publish(task, 2_000)
        assert eventually(lambda: is_empty(redis_port), 60)
        running.finish()
    assert server.ids() == Counter(ids), running.text()
    seconds = server.requests[-1].at - server.requests[0].at
    options = Options(api_key=KEY)
    assert len(server.requests) <= 2_000 / options.max_batch_size + seconds / options.flush_interval + 2


def test_a_full_buffer_loses_nothing(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """While the endpoint is unavailable, a worker with a full buffer waits, then requeues messages."""
    # The time limit ends the wait for room.
    conf = redis_conf(redis_port) | annotated(soft_time_limit=1, requeue_delay=(0.2, 0.5))
    with publisher(conf, **endpoint) as task:
        ids = publish(task, 32)
    server.respond = lambda request: Reply(503)
    settings = {"FL_MAX_QUEUE_SIZE": "5", "FL_MAX_BATCH_SIZE": "5", "FL_BACKOFF_CAP": "1"}
    with worker(tmp_path / "worker", server, conf, *POOLS["prefork"], **settings) as running:
        assert eventually(lambda: running.text().count("Retry in") >= 2)
        server.respond = lambda request: Reply()
        assert eventually(lambda: is_empty(redis_port) and done(running) == 32, 30)
        running.finish()
    assert set(server.ids()) == set(ids), running.text()
    assert "overflow" not in running.text()
    assert running.text().count("the buffer is full") <= 2  # once in each pool process


LIMITED = (
    APP
    + """
from brockman.client import FocusLabClient

client = FocusLabClient(before_record=lambda arguments: time.sleep(60))

@app.task(soft_time_limit=1)
def limited():
    try:
        while True:
            client.record_trigger("1", "viewed", "page")
    except celery.exceptions.SoftTimeLimitExceeded:
        with open(os.environ["TRUTH"], "a") as truth:
            print("the limit", file=truth)
"""
)


def test_the_soft_time_limit_of_a_task_is_not_taken_for_a_mistake(server, tmp_path, redis_port):
    """A limit that strikes in `before_record` reaches the user's task."""
    conf = redis_conf(redis_port)
    with worker(tmp_path / "worker", server, conf, "--concurrency=1", source=LIMITED) as running:
        app = celery.Celery("publisher", set_as_current=False)
        app.conf.update(conf)
        app.send_task("app.limited")
        app.close()
        assert eventually(lambda: "the limit" in running.recorded(), 30), running.text()
        running.finish()
