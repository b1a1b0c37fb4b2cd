"""`at` and `trigger_id`: the caller's own time and id, through every kind of call and message."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from celery import chain, group

from brockman.exceptions import InvalidTrigger
from tests.celery.workers import (
    MEMORY,
    NAME,
    OWN,
    done,
    is_empty,
    messages,
    publisher,
    redis_conf,
    trigger_of,
    worker,
)
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

AT = datetime(2012, 9, 1, 14, 30, tzinfo=timezone(timedelta(hours=2)))
SENT = "2012-09-01T12:30:00.000000Z"
ID = uuid.UUID("0192F0E7-3A5B-7ABC-8DEF-0123456789AB")
CALL = ("7", "viewed", "page")


def stamp_of(trigger: dict[str, Any]) -> tuple[str, str]:
    return trigger["id"], trigger["recorded_at"]


def test_a_call_carries_them_to_the_broker(redis_port: int, endpoint: dict[str, str]) -> None:
    """`delay`, `apply_async` and signatures; the result's id is the trigger's, or the `task_id` that was given."""
    with publisher(redis_conf(redis_port), **endpoint) as task:
        results = [
            task.delay(*CALL, at=AT, trigger_id=ID),
            task.delay(*CALL, at=AT, trigger_id=str(ID).upper()),
            task.apply_async(CALL, {"at": AT, "trigger_id": ID}),
            task.apply_async(
                kwargs={"actor_id": 7, "action": "viewed", "obj": "page", "at": AT, "trigger_id": ID}
            ),
            task.s(*CALL, at=AT, trigger_id=ID).delay(),
            task.s("viewed", "page", at=AT).delay("7", trigger_id=ID),
            task.apply_async(CALL, {"at": AT, "trigger_id": ID}, task_id="own"),
            task.apply_async(CALL, {"at": AT, "trigger_id": ID}, task_id=str(uuid.uuid4())),
        ]
        newest = task.delay(*CALL, at=None, trigger_id=None)
    *stamped, plain = messages(redis_port)
    assert {stamp_of(trigger_of(message)) for message in stamped} == {(str(ID), SENT)}
    assert [message["headers"]["id"] for message in stamped] == [result.id for result in results]
    assert {result.id for result in results[:-2]} == {str(ID)}
    assert results[-2].id == "own"
    assert trigger_of(plain)["id"] == newest.id != str(ID)
    assert trigger_of(plain)["recorded_at"] > SENT


def test_calls_without_a_broker_keep_them(server: RecordingServer, endpoint: dict[str, str]) -> None:
    """A direct call, `apply`, eager mode, and the fallback."""
    with publisher(MEMORY, **endpoint) as task:
        assert task(*CALL, at=AT, trigger_id=ID)
        assert task.apply(CALL, {"at": AT, "trigger_id": ID}).get()
        assert task.apply(CALL, {"at": AT}, task_id=str(ID)).get()
        task.app.conf.task_always_eager = True
        assert task.delay(*CALL, at=AT, trigger_id=ID).get()
        assert task.s(*CALL, at=AT, trigger_id=ID).delay().get()
        assert task.client.flush()
    with publisher({"broker_url": "redis://127.0.0.1:1/0"}, **endpoint) as task:
        assert task.delay(*CALL, at=AT, trigger_id=ID).id == str(ID)
        assert task.client.flush()
    assert [stamp_of(trigger) for trigger in server.triggers] == [(str(ID), SENT)] * 6


@pytest.mark.parametrize(
    "wrong",
    [
        {"at": AT.replace(tzinfo=None)},
        {"at": "2012-09-01T12:30:00Z"},  # text is for messages
        {"at": AT.replace(year=1969)},
        {"at": AT.replace(year=2999)},
        {"trigger_id": "7"},
        {"trigger_id": 7},
    ],
    ids=str,
)
def test_a_mistake_raises_at_the_call(endpoint: dict[str, str], wrong: dict[str, Any]) -> None:
    """In every kind of call; nothing is published or recorded."""
    with publisher(MEMORY, **endpoint) as task:
        for call in (task.delay, task, lambda *args, **kwargs: task.apply(args, kwargs, throw=True)):
            with pytest.raises(InvalidTrigger, match=f"^{next(iter(wrong))}: "):
                call(*CALL, **wrong)
        with pytest.raises(TypeError):
            task.delay(*CALL, None, None, None, AT)
        assert task.client.stats().recorded == 0


TEXTS = {
    "2012-09-01T12:30:00Z": SENT,
    "2012-09-01t14:30:00.5+02:00": "2012-09-01T12:30:00.500000Z",
    "2012-09-01 12:30:00.123456789z": "2012-09-01T12:30:00.123456Z",
    "2012-09-01T07:00:00.000001-05:30": "2012-09-01T12:30:00.000001Z",
}


@pytest.mark.parametrize("mode", ["buffered", "confirmed"])
def test_messages_published_by_name_may_have_text(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str], mode: str
) -> None:
    """By a program without brockman; the trigger's id is `trigger_id`, or else the message's. Signatures, too."""
    conf = redis_conf(redis_port) | {"accept_content": ["json", "pickle", "yaml"], "result_backend": None}
    expected = {}
    with publisher(conf, **endpoint) as task:

        def send(at: Any, sent: str, trigger_id: Any = None, **options: Any) -> None:
            message, own = str(uuid.uuid4()), trigger_id and str(trigger_id)
            kwargs = {"obj": "page", "at": at, "trigger_id": trigger_id}
            task.app.send_task(NAME, ("7", "viewed"), kwargs, task_id=message, ignore_result=True, **options)
            expected[own or message] = sent

        for text, sent in TEXTS.items():
            send(text, sent, str(uuid.uuid4()))
        send(AT, SENT, uuid.uuid4())
        send("2012-09-01T12:30:00Z", SENT)
        for serializer in ("pickle", "yaml"):
            send(AT, SENT, str(uuid.uuid4()), serializer=serializer)
        steps = [uuid.uuid4() for _ in range(4)]
        first, second, *others = [task.si(*CALL, at=AT, trigger_id=step) for step in steps]
        chain(first, second, group(others)).delay()
        as_text = task.si(*CALL, at="2012-09-01T12:30:00Z", trigger_id=str(uuid.uuid4()))
        chain(task.si(*CALL, at=AT, trigger_id=uuid.uuid4()), as_text).delay()
    count = len(expected) + 6
    options = ("-P", "solo")
    with worker(tmp_path / "worker", server, conf, *options, FL_CELERY_MODE=mode, C_FORCE_ROOT="1") as running:
        assert eventually(lambda: len(server.triggers) == count and is_empty(redis_port)), running.text()
        running.finish()
    found = {trigger["id"]: trigger["recorded_at"] for trigger in server.triggers}
    assert found.items() >= expected.items()
    assert found.keys() >= {*map(str, steps), as_text.kwargs["trigger_id"]}
    assert {found[id] for id in found.keys() - expected.keys()} == {SENT}


WRONG = [
    {"at": "2012-09-01T12:30:00"},
    {"at": "yesterday"},
    {"at": "2012-02-30T12:30:00Z"},
    {"at": "1969-12-31T23:59:59Z"},
    {"at": 1346502600},
    {"trigger_id": "7"},
    {"at": AT.replace(tzinfo=None)},
]


def test_a_message_with_a_wrong_time_or_id_is_rejected(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str]
) -> None:
    """It is counted, and affects no other message."""
    conf = redis_conf(redis_port) | {"result_backend": None}
    with publisher(conf, **endpoint) as task:
        for kwargs in [*WRONG, {}]:
            task.app.send_task("own", CALL, kwargs, ignore_result=True)
    with worker(tmp_path / "worker", server, conf, "-P", "solo", source=OWN) as running:
        assert eventually(lambda: is_empty(redis_port) and done(running) == 1), running.text()
        running.finish()
    notes = [json.loads(line) for line in running.truth.read_text().splitlines()]
    assert [line["rejected"] for line in notes if "rejected" in line] == [len(WRONG)]
    errors = [line["error"].partition(":")[0] for line in notes if "error" in line]
    assert errors == [next(iter(kwargs)) for kwargs in WRONG]
    assert len(server.triggers) == 1
