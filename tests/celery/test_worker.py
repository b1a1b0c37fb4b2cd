"""Workers in buffered mode, on a real Redis: whatever way one ends, each trigger arrives once."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest
import redis

from tests.celery.workers import APP, WITH_TASK, Worker, annotated, publish, publisher, redis_conf, worker
from tests.conftest import eventually
from tests.servers.running import RECORDING, assert_exact
from tests.support.server import RecordingServer, Reply

NEVER = "600"  # seconds: what leaves does so because a batch is full or the process ends
POOLS = {
    "prefork": ("-P", "prefork", "-c", "2"),
    "threads": ("-P", "threads", "-c", "4"),
    "solo": ("-P", "solo"),
    "gevent": ("-P", "gevent", "-c", "20"),
}

# A task of the user's own, with a client of their own: brockman.celery is not imported.
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

# Two lines on the log for each task cost more than the task.
SPARING = """
import logging
for name in ("celery.worker.strategy", "celery.app.trace"):
    logging.getLogger(name).setLevel(logging.WARNING)
"""


def done(running: Worker) -> int:
    """Return how many tasks are done, by the log."""
    return running.text().count(" succeeded in ")


def is_empty(port: int) -> bool:
    """Return whether the broker holds no message, neither waiting nor unacknowledged."""
    with redis.Redis(port=port) as look:
        return look.llen("celery") == 0 and look.hlen("unacked") == 0


@pytest.mark.parametrize("pool", POOLS)
def test_a_warm_shutdown_delivers_everything(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str], pool: str
) -> None:
    """TERM in mid-burst: what was begun is delivered, and the next worker does the rest."""
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


def test_a_cold_shutdown_delivers_what_was_taken(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """QUIT ends the pool at once; what is in the buffer is delivered all the same."""
    conf = redis_conf(redis_port)
    with publisher(conf, **endpoint) as task:
        ids = publish(task, 50)
    with worker(tmp_path / "worker", server, conf, *POOLS["prefork"], FL_FLUSH_INTERVAL=NEVER) as running:
        assert eventually(lambda: done(running) == 50)
        running.stop(signal.SIGQUIT, 60)
    assert server.ids() == dict.fromkeys(ids, 1), running.text()


def test_children_that_are_recycled_deliver_everything(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """`--max-tasks-per-child`: the worker's own process takes the triggers, and one request has them all."""
    conf = redis_conf(redis_port)
    with publisher(conf, **endpoint) as task:
        ids = publish(task, 40)
    options = ("-P", "prefork", "-c", "2", "--max-tasks-per-child", "10")
    with worker(tmp_path / "worker", server, conf, *options, FL_FLUSH_INTERVAL=NEVER) as running:
        assert eventually(lambda: done(running) == 40)
        running.finish()
    assert server.ids() == dict.fromkeys(ids, 1), running.text()
    assert len(server.requests) == 1


def test_a_plain_client_in_the_users_own_tasks(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """It needs nothing of brockman.celery: children that are recycled deliver what their tasks recorded."""
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
    """`--autoscale`: children that are no longer needed are ended with what they hold."""
    conf = redis_conf(redis_port)
    settings = {"FL_FLUSH_INTERVAL": NEVER, "AUTOSCALE_KEEPALIVE": "0.5"}
    with worker(tmp_path / "worker", server, conf, "--autoscale=4,1", source=PLAIN, **settings) as running:
        with publisher(conf, **endpoint) as task:
            for number in range(150):
                task.app.send_task("plain", (f"scaled {number}", 0.02), ignore_result=True)
        assert eventually(lambda: len(running.children) == 4)
        assert eventually(lambda: done(running) == 150)
        assert eventually(lambda: len(running.children) == 1)
        assert len(server.requests) >= 3  # of those who went
        running.finish()
        assert_exact(running, server, at_least=150)


def test_ten_thousand_calls_are_a_hundred_requests_at_most(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """Under default settings the process of a worker batches what its tasks bring."""
    conf = redis_conf(redis_port)
    source = WITH_TASK + SPARING
    with worker(tmp_path / "worker", server, conf, "-P", "prefork", "-c", "2", source=source) as running:
        with publisher(conf, **endpoint) as task:
            ids = publish(task, 10_000)
        assert eventually(lambda: is_empty(redis_port), 60)
        running.finish()
    assert server.ids() == Counter(ids), running.text()
    assert len(server.requests) <= 100


def test_a_full_buffer_loses_nothing(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """A worker whose buffer is full, since the endpoint is away, waits, then gives messages back to the broker."""
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
    assert running.text().count("the buffer is full") <= 2  # once in each child
