"""Messages that brockman 0.1 published and that wait in the broker are delivered by the new version."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import celery
import pytest
import redis

from tests.celery.old_messages import NAME, OldMessage, every_kind, objects
from tests.celery.workers import CONFIRMED, DJANGO, WITH_TASK, is_empty, publisher, redis_conf, worker
from tests.support.server import RecordingServer, Reply
from tests.support.waiting import eventually

pytest.importorskip("django")
ACCEPT = {"accept_content": ["json", "pickle"]}


def push(port: int, messages: list[OldMessage]) -> None:
    with redis.Redis(port=port) as look:
        look.lpush("celery", *(message.in_redis for message in messages))


def make_due(port: int) -> None:
    """Take the delay from the messages that wait, as if it were over."""
    with redis.Redis(port=port) as look:
        for text in look.lrange("celery", 0, -1):
            message = json.loads(text)
            message["headers"]["eta"] = None
            look.lrem("celery", 1, text)
            look.lpush("celery", json.dumps(message))


@pytest.mark.parametrize("mode", ["buffered", "confirmed"])
@pytest.mark.parametrize("version", [0, 1])
def test_old_messages_in_redis_are_delivered(
    server: RecordingServer, tmp_path: Path, redis_port: int, mode: str, version: int
) -> None:
    """Pickled and as JSON, positional, by keyword, mixed, retried; the trigger's id is the message's."""
    old = [message for style in (True, False) for message in every_kind(celery=version, is_pickled=style)]
    push(redis_port, [*old, old[0]])
    environment = {"FL_CELERY_MODE": mode, "C_FORCE_ROOT": "1"}
    conf = redis_conf(redis_port) | ACCEPT
    with worker(tmp_path / "worker", server, conf, "-P", "solo", source=DJANGO, **environment) as running:
        server.wait_until(lambda server: len(server.triggers) == len(old) + 1)
        assert eventually(lambda: is_empty(redis_port)), running.text()
        running.finish()
    assert {trigger["id"]: trigger["object"] for trigger in server.triggers} == objects(old)
    assert server.ids()[old[0].id] == 2  # one trigger, since its message came twice
    assert {trigger["actor_id"] for trigger in server.triggers} == {"7"}
    detailed = [trigger for trigger in server.triggers if "variables" in trigger]
    assert len(detailed) == 6
    for trigger in detailed:
        assert trigger["captured_identities"] == {"email": "zoë@example.com", "user_id": 42}
        assert trigger["captured_attributes"] == {"plan": "basic"}
        assert trigger["variables"] == {"tags": ["a", "b"], "title": "Zoë"}


@pytest.mark.parametrize("mode", ["buffered", "confirmed"])
def test_plain_messages_of_a_newer_celery_are_delivered(
    server: RecordingServer, tmp_path: Path, redis_port: int, mode: str
) -> None:
    """Where 0.1 was ported, or a program without brockman publishes: both protocols, also of a retry."""
    conf = redis_conf(redis_port) | {"result_backend": None}
    options: list[dict[str, Any]] = [{}, {"retries": 2, "countdown": 0.1, "expires": 3600}]
    calls: list[Any] = [
        (("7", "viewed", "page"), {}),
        (["7", "viewed"], {"obj": "page", "variables": {"title": "Zoë"}}),
        ((), {"actor_id": 7, "action": "viewed", "obj": "page", "identities": None}),
    ]
    app = celery.Celery("old", set_as_current=False)
    app.conf.update(conf)
    with app:
        results = []
        for app.conf.task_protocol in (1, 2):
            results += [app.send_task(NAME, *call, **option) for call in calls for option in options]
    with worker(tmp_path / "worker", server, conf, "-P", "solo", source=DJANGO, FL_CELERY_MODE=mode) as running:
        server.wait_until(lambda server: len(server.triggers) == len(results))
        assert eventually(lambda: is_empty(redis_port)), running.text()
        running.finish()
    assert server.ids() == {result.id: 1 for result in results}
    assert {(trigger["actor_id"], trigger["object"]) for trigger in server.triggers} == {("7", "page")}


@pytest.mark.parametrize("source", [DJANGO, WITH_TASK], ids=["django", "plain"])
def test_plain_messages_wait_while_the_workers_settings_are_wrong(
    server: RecordingServer, tmp_path: Path, redis_port: int, source: str
) -> None:
    """As those of the new version do: a deployment without a key loses none. They keep their id and time."""
    conf = redis_conf(redis_port) | {"result_backend": None}
    name = NAME if source is DJANGO else "brockman.record_trigger"
    with celery.Celery("old", set_as_current=False) as app:
        app.conf.update(conf)
        stamp = {"at": "2012-09-01T12:30:00Z", "trigger_id": str(uuid.uuid4())}
        first = app.send_task(name, ("7", "viewed", "page"), {"identities": {"email": "a@b.c"}})
        app.send_task(name, ("7", "viewed"), {"obj": "page", **stamp})
    options: Any = (server, conf, "-P", "solo")
    with worker(tmp_path / "wrong", *options, source=source, FL_API_KEY="") as running:
        assert eventually(lambda: running.text().count("Retry in 30") == 2), running.text()
        running.finish()
    assert server.requests == []
    make_due(redis_port)
    with worker(tmp_path / "right", *options, source=source) as running:
        server.wait_until(lambda server: len(server.triggers) == 2)
        running.finish()
    found = {trigger["id"]: trigger for trigger in server.triggers}
    assert found.keys() == {first.id, stamp["trigger_id"]}
    assert found[first.id]["captured_identities"] == {"email": "a@b.c"}
    assert found[stamp["trigger_id"]]["recorded_at"] == "2012-09-01T12:30:00.000000Z"


@pytest.mark.parametrize("name", [NAME, "*"])
def test_a_limit_of_retries_loses_no_trigger(
    server: RecordingServer, tmp_path: Path, redis_port: int, name: str
) -> None:
    """The old task gave up after three retries, and a project's annotations may say so, too."""
    server.respond = lambda request: Reply(503 if len(server.requests) < 4 else 201)
    push(redis_port, [OldMessage((7, b"viewed", b"page"), retries=3, is_pickled=False)])
    conf = redis_conf(redis_port) | {"task_annotations": {name: {"max_retries": 3, "rate_limit": "100/s"}}}
    with worker(tmp_path / "worker", server, conf, "-P", "solo", source=DJANGO, **CONFIRMED) as running:
        server.wait_until(lambda server: len(server.requests) == 5)
        running.finish()
    assert len(server.ids()) == 1
    assert is_empty(redis_port)


def test_messages_under_the_name_in_between_are_delivered(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """The task was named `brockman.django.record_trigger` for a while."""
    conf = redis_conf(redis_port)
    with publisher(conf, **endpoint) as task:
        body = task.client.encode_trigger("7", "viewed", "page")
        task.app.send_task("brockman.django.record_trigger", (), {"trigger": body.decode()}, ignore_result=True)
    with worker(tmp_path / "worker", server, conf, "-P", "solo", source=DJANGO) as running:
        server.wait_until(lambda server: len(server.triggers) == 1)
        running.finish()
    assert server.triggers == [json.loads(body)]
