"""Jobs of RQ: each runs in a process of its own, which ends by `os._exit` and calls no exit hook."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import assert_exact, find_program, free_port, running
from tests.support.redis_server import redis_server
from tests.support.scripts import RECORDING
from tests.support.server import RecordingServer

redis = pytest.importorskip("redis")
rq = pytest.importorskip("rq")

# The number of jobs of each task.
JOBS = {"block": 10, "decorated": 5, "fails": 5}

# The interval never elapses: nothing is sent by itself.
TASKS = (
    RECORDING
    + """
client = FocusLabClient(flush_interval=600)

def block(name):
    with client.flushing(timeout=30):
        record(client, name)

@client.flushing(timeout=30)
def decorated(name):
    record(client, name)

@client.flushing(timeout=30)
def fails(name):
    record(client, name)
    raise ValueError(name)
"""
)

# Imported by `rq worker --config` before it forks: all that the jobs need, or the slow part that is not ours.
SETTINGS = """
import tasks

tasks.record(tasks.client, "import in the worker")
"""
OTHERS = """
import requests
"""


@pytest.fixture
def redis_port(server: RecordingServer, tmp_path: Path) -> Iterator[int]:
    """The port of a Redis for this test."""
    port = free_port()
    with redis_server(tmp_path / "redis", server, port):
        yield port


def enqueue(port: int) -> int:
    """Put the jobs into the default queue; return how many there are."""
    with redis.Redis("127.0.0.1", port) as connection:
        queue = rq.Queue(connection=connection)
        for task, count in JOBS.items():
            for number in range(count):
                queue.enqueue(f"tasks.{task}", f"{task} {number}")
        return len(queue)


@pytest.mark.parametrize("place", ["in the job", "in the worker"])
def test_jobs_lose_nothing(server: RecordingServer, tmp_path: Path, redis_port: int, place: str) -> None:
    """A job delivers what it recorded before it ends, wherever its module was imported, and also if it fails."""
    (tmp_path / "tasks.py").write_text(TASKS)
    is_early = place == "in the worker"
    (tmp_path / "settings.py").write_text(SETTINGS if is_early else OTHERS)
    jobs = enqueue(redis_port)
    assert jobs == sum(JOBS.values())
    url = f"redis://127.0.0.1:{redis_port}"
    command = [find_program("rq"), "worker", "--burst", "--url", url, "--config", "settings"]
    with running(command, tmp_path, server) as worker:
        assert worker.wait(120) == 0
        assert_exact(worker, server, at_least=jobs)
        processes = {trigger["actor_id"] for trigger in server.triggers}
        assert len(processes) == sum(worker.recorded().values()) == jobs + is_early


ENDLESS = """
import time
from brockman.client import FocusLabClient

client = FocusLabClient(before_record=lambda arguments: time.sleep(60))

def endless():
    while True:
        client.record_trigger("1", "viewed", "page")
"""


def test_the_time_limit_of_a_job_is_not_taken_for_a_mistake(
    server: RecordingServer, tmp_path: Path, redis_port: int
) -> None:
    """A limit that strikes in `before_record` ends the job, as it does everywhere else in it."""
    (tmp_path / "tasks.py").write_text(ENDLESS)
    with redis.Redis("127.0.0.1", redis_port) as connection:
        job = rq.Queue(connection=connection).enqueue("tasks.endless", job_timeout=1)
        command = [find_program("rq"), "worker", "--burst", "--url", f"redis://127.0.0.1:{redis_port}"]
        with running(command, tmp_path, server) as worker:
            assert worker.wait(60) == 0, worker.text()
        assert job.get_status() == "failed"
        assert "JobTimeoutException" in job.latest_result().exc_string
