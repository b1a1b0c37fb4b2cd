"""A Celery worker with a spool, killed with -9: every trigger that it took is delivered, once by its id."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.spool.test_servers import empty_spool, works_and_fails
from tests.support.client import KEY
from tests.support.programs import free_port
from tests.support.redis_server import redis_server
from tests.support.server import RecordingServer, Reply
from tests.support.waiting import eventually

if find_spec("celery") is None or find_spec("redis") is None:
    pytest.skip("Celery or redis is not installed", allow_module_level=True)


from tests.celery.workers import done, is_empty, publish, publisher, redis_conf, worker

POOL = ("-P", "prefork", "-c", "2")


@pytest.fixture
def settings(server: RecordingServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a client for the recording server, with a spool."""
    waits = {"FL_FLUSH_INTERVAL": "0.05", "FL_BACKOFF_BASE": "0.01", "FL_BACKOFF_CAP": "0.05"}
    return {"FL_API_KEY": KEY, "FL_ENDPOINT": server.endpoint, "FL_SPOOL_DIR": str(tmp_path / "spool"), **waits}


def files_of(pid: int) -> list[str]:
    return [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd") if os.path.lexists(entry.path)]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_main_process_that_is_killed(server: RecordingServer, tmp_path: Path, settings: dict[str, str]) -> None:
    """The worker's main process is killed while the endpoint is away and its children live; the next one delivers.

    No message is on the way to it then: kombu takes a message from Redis and notes in a second step that it did.
    A child that was forked in the middle of it all keeps no file of the spool.
    """
    port = free_port()
    conf = redis_conf(port)
    server.respond = lambda request: Reply(503)
    with redis_server(tmp_path / "redis", server, port), publisher(conf, **settings) as task:
        ids = publish(task, 100)
        with worker(tmp_path / "first", server, conf, *POOL, **settings) as first:
            assert eventually(lambda: done(first) == 100)
            before = set(first.children)
            os.kill(min(before), signal.SIGKILL)
            assert eventually(lambda: len(set(first.children) - before) == 1 and len(first.children) == 2)
            assert eventually(
                lambda: not any("/spool" in path for pid in first.children for path in files_of(pid))
            )
            ids += publish(task, 100, 100)
            assert eventually(lambda: done(first) == 200 and is_empty(port))
            os.kill(first.process.pid, signal.SIGKILL)
            first.wait()
            endpoint = works_and_fails(server)
            with worker(tmp_path / "second", server, conf, *POOL, **settings) as second:
                ids += publish(task, 1, 200)
                assert eventually(lambda: endpoint.ids() == dict.fromkeys(ids, 1), 40), second.text()
                second.finish()
    assert os.listdir(tmp_path / "spool") == []


def test_killed_in_mid_burst(server: RecordingServer, tmp_path: Path, settings: dict[str, str]) -> None:
    """At any moment, main process and children at once: all that a worker says it has done arrives.

    The broker delivers the rest again, Redis after an hour.
    """
    port, moment = free_port(), random.Random()
    conf = redis_conf(port)
    endpoint = works_and_fails(server)
    finished: set[str] = set()
    with redis_server(tmp_path / "redis", server, port), publisher(conf, **settings) as task:
        for life in range(3):
            publish(task, 400, 400 * life)
            with worker(tmp_path / str(life), server, conf, *POOL, **settings) as running:
                more = moment.randrange(1, 300)
                assert eventually(lambda: done(running) >= more), running.text()  # noqa: B023
                running.kill()
            finished.update(re.findall(r"\[([-0-9a-f]{36})\] succeeded in ", running.text()))
    assert len(finished) >= 3
    empty_spool(tmp_path, server, killed=3 * 3)  # the main process and two children, three times
    assert finished <= endpoint.ids().keys()
