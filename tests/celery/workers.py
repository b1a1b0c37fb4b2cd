"""A real `celery worker` for the tests, and an app that publishes for it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery

from tests.conftest import eventually
from tests.servers.running import Running, program, running
from tests.support.server import RecordingServer

NAME = "brockman.record_trigger"

# What a worker runs. Of the settings of Celery, all that matters here comes from the test.
APP = """
import json, os, time, types
import celery

# For how many tenths of a second a child that ends waits until its results have been read: with Celery 5.6 and 5.7
# now and then they never are, at a warm shutdown.
import billiard.pool
billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 10

# A child that ends rests for a second when it is done, and the worker for half of one before it sees that all are
# gone; where nothing tells it of a message it sits in one look for two. Here all that is a moment.
import celery.concurrency.prefork, kombu
moment = lambda seconds: time.sleep(min(seconds, 0.1))
billiard.pool.time = celery.concurrency.prefork.time = types.SimpleNamespace(**{**vars(time), "sleep": moment})
drain = kombu.Connection.drain_events
kombu.Connection.drain_events = lambda self, timeout=None: drain(self, timeout=timeout and min(timeout, 0.1))

app = celery.Celery("app")
app.conf.update(worker_hijack_root_logger=False, **json.loads(os.environ["CONF"]))
"""
WITH_TASK = APP + "import brockman.celery\n"

# Nothing that the workers say to each other, and no waiting for it.
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=INFO")


def redis_conf(port: int, **transport_options: Any) -> dict[str, Any]:
    """Return the configuration of an app whose broker and result backend are a Redis."""
    url = f"redis://127.0.0.1:{port}/0"
    return {"broker_url": url, "result_backend": url, "broker_transport_options": transport_options}


def annotated(**attributes: Any) -> dict[str, Any]:
    """Return the configuration that sets attributes of the task."""
    return {"task_annotations": {NAME: attributes}}


class Worker(Running):
    """A worker that runs."""

    @property
    def children(self) -> list[int]:
        """The process ids of its pool."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def finish(self) -> None:
        """Have it end as a deploy does (a warm shutdown), and wait for that."""
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
    """Run a worker for the length of a block; it is ready at its beginning.

    Args:
        folder: Where its module is written.
        server: The endpoint.
        conf: The configuration of the app.
        *options: Of the command line: the pool and so on.
        source: The module with the app.
        **environment: More settings.
    """
    folder.mkdir(exist_ok=True)
    (folder / "app.py").write_text(source)
    command = [program("celery"), "-A", "app", "worker", *QUIET, *options]
    started = Worker(command, folder, server, CONF=json.dumps(conf), **environment)
    try:
        assert eventually(lambda: " ready." in started.text() or started.process.poll() is not None, 60)
        assert started.process.poll() is None, started.text()
        yield started
    finally:
        started.kill()


@contextlib.contextmanager
def redis_server(folder: Path, server: RecordingServer, port: int) -> Iterator[Running]:
    """Run a Redis for the length of a block."""
    folder.mkdir(exist_ok=True)
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with running([program("redis-server"), *options], folder, server, port) as started:
        yield started


@contextlib.contextmanager
def publisher(conf: dict[str, Any], **environment: str) -> Iterator[Any]:
    """Give the task of an app of its own for the length of a block."""
    app = celery.Celery("publisher", set_as_current=False)
    app.conf.update(conf)
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        import brockman.celery  # noqa: F401 - from now on every app has the task

        task = app.tasks[NAME]
        # The first call imports the broker's library and the client's: that is not what the tests measure.
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
    """Call the task for so many triggers, whose objects are numbers from `start` on; return their ids."""
    return [task.delay(f"actor {number}", "viewed", str(number)).id for number in range(start, start + count)]
