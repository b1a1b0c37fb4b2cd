"""Every kind of message, and a worker that can deliver none, in both modes."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import chain, group

from tests.celery.workers import (
    NAME,
    OWN,
    WITH_TASK,
    done,
    is_empty,
    publish,
    publisher,
    redis_conf,
    timed,
    worker,
)
from tests.support.programs import free_port
from tests.support.server import RecordingServer, Reply, silence
from tests.support.waiting import eventually


@pytest.mark.parametrize("mode", ["buffered", "confirmed"])
def test_every_way_to_call_the_task(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str], mode: str
) -> None:
    """Chains, groups, starmaps, redelivered messages, and messages published by name without brockman."""
    conf = redis_conf(redis_port)
    raw = str(uuid.uuid4())
    with publisher(conf, **endpoint) as task, redis.Redis(port=redis_port) as look:
        (twice,) = publish(task, 1)
        look.lpush("celery", look.lindex("celery", 0))  # redelivered, as after a visibility timeout
        for _ in range(2):
            task.app.send_task(NAME, ("7", "viewed", "raw"), task_id=raw, ignore_result=True)
        chain(
            task.si("7", "viewed", "first"), task.app.signature("who", immutable=True), task.s("viewed", "last")
        ).delay()
        group(task.s("7", "viewed", f"group {number}") for number in range(5)).delay()
        task.starmap([("7", "viewed", "star 0"), ("7", "viewed", "star 1")]).delay()
        source = WITH_TASK + "@app.task(name='who')\ndef who(): return 'actor'\n"
        with worker(
            tmp_path / "worker", server, conf, "-P", "solo", source=source, FL_CELERY_MODE=mode
        ) as running:
            assert eventually(lambda: done(running) == 13 and is_empty(redis_port)), running.text()
            running.finish()
    received = [trigger["object"] for trigger in server.triggers]
    stars, groups = ["star 0", "star 1"], [f"group {number}" for number in range(5)]
    assert sorted(received) == sorted(["0", "0", "raw", "raw", "first", "last", *groups, *stars])
    assert server.ids()[twice] == server.ids()[raw] == 2
    assert len({trigger["recorded_at"] for trigger in server.triggers if trigger["id"] == twice}) == 1


@contextlib.contextmanager
def _configured(app: Any, **changes: Any) -> Iterator[None]:
    before = {name: app.conf[name] for name in changes}
    app.conf.update(changes)
    yield
    app.conf.update(before)


CONFIGURATIONS: list[dict[str, Any]] = [
    {"task_protocol": 1},
    {"task_compression": "gzip"},
    {"task_serializer": "pickle"},
    {"task_serializer": "yaml"},
    {"task_serializer": "msgpack"},
    {"task_create_missing_queues": False},
    {"result_extended": True},
    {"task_always_eager": True, "task_eager_propagates": True},
]


def test_every_configuration(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """Protocols, serializers, compression, late acknowledgement, a broken result backend, a worker with beat."""
    conf = redis_conf(redis_port)
    conf |= {
        "result_backend": f"redis://127.0.0.1:{free_port()}",
        "accept_content": ["json", "pickle", "yaml", "msgpack"],
    }
    ids = []
    with publisher(conf, **endpoint) as task:
        for changes in CONFIGURATIONS:
            with _configured(task.app, **changes):
                ids += publish(task, 1, len(ids))
        conf |= {"task_acks_late": True, "task_track_started": True, "worker_proc_alive_timeout": 30}
        options = ("-P", "prefork", "-c", "1", "-B")
        with worker(tmp_path / "worker", server, conf, *options, C_FORCE_ROOT="1") as running:
            server.wait_until(lambda server: len(server.triggers) >= len(CONFIGURATIONS))
            assert eventually(lambda: is_empty(redis_port)), running.text()
            running.finish()
    assert server.ids() == dict.fromkeys(ids, 1)


@pytest.mark.parametrize(("broker", "pool"), [("filesystem", "solo"), ("memory", "threads")])
def test_a_broker_without_a_server(server: RecordingServer, tmp_path: Path, broker: str, pool: str) -> None:
    """Files, or the worker's own memory."""
    folder = str(tmp_path / "messages")
    Path(folder).mkdir()
    folders = {"data_folder_in": folder, "data_folder_out": folder, "control_folder": str(tmp_path / "control")}
    options = {"polling_interval": 0.05, **(folders if broker == "filesystem" else {})}
    conf = {"broker_url": f"{broker}://", "broker_transport_options": options}
    source = (
        WITH_TASK
        + """
@celery.signals.worker_ready.connect(weak=False)
def publish(**_):
    for number in range(20):
        app.tasks["brockman.record_trigger"].delay("7", "viewed", str(number))
"""
    )
    with worker(tmp_path / "worker", server, conf, "-P", pool, source=source) as running:
        assert eventually(lambda: done(running) == 20, 30), running.text()
        running.finish()
    assert sorted(int(trigger["object"]) for trigger in server.triggers) == list(range(20))


INVALID: list[dict[str, Any]] = [
    {"kwargs": {"trigger": "not json"}},
    {"kwargs": {"trigger": 5}},
    {"kwargs": {"trigger": ["x"]}},
    {"kwargs": {"trigger": "{}"}},
    {"kwargs": {"trigger": '{"id": "1"}, {"id": "2"}'}},
    {"kwargs": {"trigger": '{"id": NaN}'}},
    {"kwargs": {"trigger": "[" * 100_000}},
    {"kwargs": {"trigger": "x" * 10_000_000}},
    {"kwargs": {"colour": "red"}},
    {"args": list(range(9))},
    {"args": ["7", "viewed", ""]},
    {"args": ["7", "viewed", "page", {"a": {"b": 1}}]},
]


@pytest.mark.parametrize("mode", ["buffered", "confirmed"])
def test_messages_without_a_valid_trigger(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str], mode: str
) -> None:
    """They are counted and logged, and affect no other message."""
    conf = redis_conf(redis_port)
    with publisher(conf, **endpoint) as task:
        names = []
        for message in INVALID:
            task.app.send_task("own", **message, ignore_result=True)
            names.append(str(uuid.uuid4()))
            task.app.send_task("own", ("7", "viewed", "page"), task_id=names[-1], ignore_result=True)
    source = OWN
    with worker(tmp_path / "worker", server, conf, "-P", "solo", source=source, FL_CELERY_MODE=mode) as running:
        assert eventually(lambda: is_empty(redis_port) and done(running) == len(names)), running.text()
        running.finish()
    notes = [json.loads(line) for line in running.truth.read_text().splitlines()]
    count = len(INVALID)
    assert [line["rejected"] for line in notes if "rejected" in line] == [count]
    assert len([line for line in notes if "error" in line]) == count
    assert server.ids() == dict.fromkeys(names, 1)
    assert running.text().count("a message without a valid trigger") == 1  # in a minute


@pytest.mark.parametrize("mode", ["buffered", "confirmed"])
def test_a_worker_without_a_key_requeues_every_message(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str], mode: str
) -> None:
    """It logs what to set; the messages stay in the broker."""
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


@pytest.mark.parametrize("mode", ["buffered", "confirmed"])
def test_an_endpoint_that_never_answers_does_not_block_a_warm_shutdown(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str], mode: str
) -> None:
    """The worker exits within its time limits, and logs what it drops."""
    conf = redis_conf(redis_port)
    server.respond = lambda request: Reply(act=silence)
    with publisher(conf, **endpoint) as task:
        publish(task, 4)
    settings = {
        "FL_CELERY_MODE": mode,
        "FL_SHUTDOWN_TIMEOUT": "0.5",
        "FL_READ_TIMEOUT": "0.5",
        "FL_CONNECT_TIMEOUT": "0.5",
    }
    with worker(tmp_path / "worker", server, conf, "-P", "prefork", "-c", "2", **settings) as running:
        server.wait_until(lambda server: len(server.requests) >= 1)
        assert timed(running.finish) < 15
    if mode == "confirmed":
        assert not is_empty(redis_port)
    else:
        assert "shutdown" in running.text()
