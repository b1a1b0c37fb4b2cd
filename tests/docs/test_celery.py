"""The set-up that docs/celery.rst shows for messages of brockman 0.1."""

from __future__ import annotations

from pathlib import Path

import redis

from tests.celery.conftest import redis_port
from tests.celery.old_messages import OldMessage
from tests.celery.workers import APP, DJANGO, redis_conf, worker
from tests.docs.blocks import only
from tests.support.server import RecordingServer

__all__ = ["redis_port"]


def test_pickles_of_python_2_are_delivered(server: RecordingServer, tmp_path: Path, redis_port: int) -> None:
    """Also with UTF-8 in Python 2's `str`."""
    old = [OldMessage((7, b"viewed", obj)) for obj in (b"page", "Zoë".encode())]
    with redis.Redis(port=redis_port) as look:
        look.lpush("celery", *(message.in_redis for message in old))
    source = DJANGO + only("accept pickles").code + only("pickles of Python 2").code
    options = (tmp_path / "worker", server, redis_conf(redis_port), "-P", "solo")
    with worker(*options, source=source, C_FORCE_ROOT="1") as running:
        server.wait_until(lambda server: len(server.triggers) == 2)
        running.finish()
    assert [(trigger["id"], trigger["object"]) for trigger in server.triggers] == [
        (old[0].id, "page"),
        (old[1].id, "Zoë"),
    ]


def test_a_task_records_in_the_context_of_its_caller(
    server: RecordingServer, tmp_path: Path, redis_port: int
) -> None:
    """The task of docs/celery.rst, called by the module that the worker imports."""
    source = APP + only("celery context").code
    with worker(tmp_path / "worker", server, redis_conf(redis_port), "-P", "solo", source=source):
        server.wait_until(lambda server: len(server.triggers) == 1)
    (trigger,) = server.triggers
    assert (trigger["actor_id"], trigger["variables"]) == ("42", {"number": "2025-031"})
