"""A real `celery worker` for the tests, an app that publishes for it, and a look into the broker."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import celery
import pytest
import redis

from tests.support.programs import Program, find_program
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

NAME = "brockman.record_trigger"
# Seconds that a call may take when the broker is unreachable, with the default settings: 2, and on a busy machine
# some more. A connection of Celery itself takes 4.
PROMISE = 3.5
NEVER = "600"  # seconds: what is sent earlier is sent because a batch is full or the process exits
MEMORY = {"broker_url": "memory://"}
CONFIRMED = {"FL_CELERY_MODE": "confirmed", "FL_BACKOFF_BASE": "0.05", "FL_BACKOFF_CAP": "0.2"}

# The module of a worker. Its Celery settings come from the test.
APP = """
import json, os, time, types
import celery

# How long, in tenths of a second, a pool process that exits waits until its results are read: with Celery 5.6 and
# 5.7 they sometimes never are at a warm shutdown.
import billiard.pool
billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 10

# A pool process sleeps for a second before it exits, the worker for half of one until it notices, and a broker
# without notifications is polled every two. All this is shortened.
import celery.concurrency.prefork, kombu
moment = lambda seconds: time.sleep(min(seconds, 0.1))
billiard.pool.time = celery.concurrency.prefork.time = types.SimpleNamespace(**{**vars(time), "sleep": moment})
drain = kombu.Connection.drain_events
kombu.Connection.drain_events = lambda self, timeout=None: drain(self, timeout=timeout and min(timeout, 0.1))

app = celery.Celery("app")
app.conf.update(worker_hijack_root_logger=False, **json.loads(os.environ["CONF"]))
"""
WITH_TASK = APP + "import brockman.celery\n"
# Of a Django project whose settings come from the environment.
DJANGO = (
    """
import django, django.conf
django.conf.settings.configure(INSTALLED_APPS=["brockman.django"], USE_TZ=True)
django.setup()
"""
    + APP
    + "app.autodiscover_tasks(['brockman.django'], force=True)\n"
)

# A task with a name and a client of its own, whose counts are written when the worker exits (solo pool).
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
def note_counts(**_):
    stats = app.tasks["own"].client.stats()
    note({"delivered": stats.delivered, "rejected": stats.rejected, "recorded": stats.recorded})
"""
)

# Publishes in a thread and in twenty forked processes, and prints how often the thread did.
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

thread = threading.Thread(target=work)
thread.start()
for number in range(20):
    pid = os.fork()
    if pid == 0:
        child(number)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
is_over.set()
thread.join()
print(count)
"""

# No messages between workers, and no waiting for them.
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=INFO")


def redis_conf(port: int, **transport_options: Any) -> dict[str, Any]:
    """Return the configuration of an app whose broker and result backend are a Redis."""
    url = f"redis://127.0.0.1:{port}/0"
    return {"broker_url": url, "result_backend": url, "broker_transport_options": transport_options}


def annotated(**attributes: Any) -> dict[str, Any]:
    """Return the configuration that sets attributes of the task."""
    return {"task_annotations": {NAME: attributes}}


class Worker(Program):
    """A running worker."""

    @property
    def children(self) -> list[int]:
        """The process ids of its pool."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def finish(self) -> None:
        """Shut it down warmly, as a deployment does, and wait for it."""
        assert self.stop(signal.SIGTERM, 60) == 0, self.text()


@contextlib.contextmanager
def worker(
    folder: Path,
    server: RecordingServer,
    conf: dict[str, Any],
    *options: str,
    source: str = WITH_TASK,
    **environment: str,
) -> Iterator[Worker]:
    """Run a worker, ready for messages, for the length of a block.

    Args:
        folder: The folder of its module.
        server: The endpoint.
        conf: The app's configuration.
        *options: Of the command line.
        source: Its module.
        **environment: More environment variables.
    """
    folder.mkdir(exist_ok=True)
    (folder / "app.py").write_text(source)
    command = [find_program("celery"), "-A", "app", "worker", *QUIET, *options]
    started = Worker(command, folder, server, CONF=json.dumps(conf), **environment)
    try:
        assert eventually(lambda: " ready." in started.text() or started.process.poll() is not None, 60)
        assert started.process.poll() is None, started.text()
        yield started
    finally:
        started.kill()


@contextlib.contextmanager
def publisher(conf: dict[str, Any], **environment: str) -> Iterator[Any]:
    """Yield the task of a new app; close the client at the end."""
    app = celery.Celery("publisher", set_as_current=False)
    app.conf.update(conf)
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        import brockman.celery  # noqa: F401 - from now on every app has the task

        task = app.tasks[NAME]
        # Imports the libraries of broker and client, which calls that are timed must not wait for.
        assert app.connection_for_write().transport
        assert task.client
        try:
            yield task
        finally:
            task.client.close(20)
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        app.close()


def publish(task: Any, count: int, start: int = 0) -> list[str]:
    """Call the task `count` times, with numbers from `start` on as objects; return the ids."""
    return [task.delay(f"actor {number}", "viewed", str(number)).id for number in range(start, start + count)]


def reconnect(task: Any, ids: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """Call the task until the broker is used again; add the ids. With pauses, for each call is a trigger."""
    pause = threading.Event()

    def is_connected() -> bool:
        ids.extend(publish(task, 1, 1000))
        return "reached again" in caplog.text or pause.wait(0.05)

    assert eventually(is_connected, 60)


def timed(call: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    started = time.monotonic()
    call()
    return time.monotonic() - started


def done(running: Worker) -> int:
    """Return the number of executed tasks in the log."""
    return running.text().count(" succeeded in ")


def is_empty(port: int) -> bool:
    """Return whether a Redis has no message, neither waiting nor unacknowledged."""
    with redis.Redis(port=port) as look:
        return look.llen("celery") == 0 and look.hlen("unacked") == 0


def messages(port: int, queue: str = "celery") -> list[dict[str, Any]]:
    """Return the messages that wait in a Redis, oldest first, with their decoded body as `payload`."""
    with redis.Redis(port=port) as look:
        found = [json.loads(text) for text in reversed(look.lrange(queue, 0, -1))]
    for message in found:
        message["payload"] = json.loads(base64.b64decode(message["body"]))[:2]
    return found


def trigger_of(message: dict[str, Any]) -> Any:
    """Return the trigger in a message."""
    return json.loads(message["payload"][1]["trigger"])
