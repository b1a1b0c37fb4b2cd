"""What a caller sees, and what a message carries, whichever way the task is called."""

from __future__ import annotations

import base64
import json
import logging
import uuid
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import chain, group
from kombu.serialization import registry

from brockman.exceptions import ConfigurationError, InvalidTrigger
from brockman.options.celery import CelerySettings
from tests.celery.test_worker import done, is_empty
from tests.celery.workers import NAME, WITH_TASK, publish, publisher, redis_conf, worker
from tests.conftest import eventually
from tests.servers.running import free_port
from tests.support.server import RecordingServer

MEMORY = {"broker_url": "memory://"}


def messages(port: int, queue: str = "celery") -> list[dict[str, Any]]:
    """Return the messages that wait in a Redis, oldest first; `payload` is what they carry."""
    with redis.Redis(port=port) as look:
        found = [json.loads(text) for text in reversed(look.lrange(queue, 0, -1))]
    for message in found:
        message["payload"] = json.loads(base64.b64decode(message["body"]))[:2]
    return found


def trigger_of(message: dict[str, Any]) -> Any:
    """Return the trigger in a message."""
    return json.loads(message["payload"][1]["trigger"])


def test_the_message_carries_one_text(redis_port: int, endpoint: dict[str, str]) -> None:
    """The JSON of the trigger, made at the call; the message's id is the trigger's; logs do not show the actor."""
    before = datetime.now(timezone.utc)
    with publisher(redis_conf(redis_port), **endpoint) as task:
        result = task.delay(7, "bought", "book", {"email": "a@b.c"}, None, {"price": Decimal("9.5")})
    (message,) = messages(redis_port)
    arguments, keywords = message["payload"]
    assert (arguments, list(keywords), type(keywords["trigger"])) == ([], ["trigger"], str)
    trigger = trigger_of(message)
    assert trigger["id"] == message["headers"]["id"] == result.id
    assert before <= datetime.fromisoformat(trigger.pop("recorded_at").replace("Z", "+00:00"))
    assert trigger == {
        "actor_id": "7",
        "action": "bought",
        "object": "book",
        "captured_identities": {"email": "a@b.c"},
        "variables": {"price": 9.5},
        "id": result.id,
    }
    assert message["headers"]["ignore_result"]
    assert "a@b.c" not in json.dumps(message["headers"])


@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml", "pickle"])
def test_any_serializer_will_do(redis_port: int, endpoint: dict[str, str], serializer: str) -> None:
    """It is told nothing but text."""
    with publisher(redis_conf(redis_port), **endpoint) as task:
        task.apply_async(("7", "viewed", "Zoë 🎈"), serializer=serializer)
    with redis.Redis(port=redis_port) as look:
        message = json.loads(look.lrange("celery", 0, -1)[0])
    content_type, encoding = message["content-type"], message["content-encoding"]
    body = registry.loads(base64.b64decode(message["body"]), content_type, encoding, accept=[content_type])
    assert json.loads(body[1]["trigger"])["object"] == "Zoë 🎈"


def test_a_mistake_raises_where_it_was_made(endpoint: dict[str, str]) -> None:
    """The message starts with the path, as with the client; nothing is published."""
    with publisher(MEMORY | {"broker_url": f"redis://127.0.0.1:{free_port()}"}, **endpoint) as task:
        wrong = task.s("7", "viewed", "page", variables={"price": float("nan")})
        for call in (wrong.delay, lambda: task.delay(*wrong.args, **wrong.kwargs)):
            with pytest.raises(InvalidTrigger, match=r"^variables\['price'\]: nan"):
                call()
        with pytest.raises(TypeError, match=r"record_trigger\(\) missing 1 required positional argument: 'obj'"):
            task.delay("7", "viewed")
        with pytest.raises(TypeError, match="'colour'"):
            task.delay("7", "viewed", "page", colour="red")
        assert task.client.stats().recorded == 0


def test_the_callers_options_hold(redis_port: int, endpoint: dict[str, str]) -> None:
    """Queue, id, countdown, a producer or connection of the caller's."""
    name = str(uuid.uuid4())
    with publisher(redis_conf(redis_port), **endpoint) as task:
        task.apply_async(("7", "viewed"), {"obj": "page"}, task_id=name, countdown=60, queue="slow")
        with task.app.connection_for_write() as connection:
            task.apply_async(("7", "viewed", "page"), connection=connection, retry=True)
            task.apply_async(("7", "viewed", "page"), producer=connection.Producer(), queue="other")
        task.apply_async(("7", "viewed", "page"), task_id="no UUID")
    (slow,) = messages(redis_port, "slow")
    assert trigger_of(slow)["id"] == slow["headers"]["id"] == name
    assert slow["headers"]["eta"] is not None
    assert len(messages(redis_port, "other")) == 1
    assert [message["headers"]["id"] for message in messages(redis_port)][1:] == ["no UUID"]
    assert uuid.UUID(trigger_of(messages(redis_port)[1])["id"])


def test_in_this_process(server: RecordingServer, endpoint: dict[str, str]) -> None:
    """A direct call, `apply`, and eager mode record here, whatever the mode."""
    with publisher(MEMORY, FL_CELERY_MODE="confirmed", **endpoint) as task:
        assert task("7", "viewed", "direct") is True
        assert task.apply(("7", "viewed", "applied")).get() is True
        with pytest.raises(InvalidTrigger):
            task("7", "viewed", "")
        task.app.conf.task_always_eager = True
        assert task.delay("7", "viewed", "eager").get() is True
        assert task.client.flush().delivered == 3
    assert [trigger["object"] for trigger in server.triggers] == ["direct", "applied", "eager"]


def test_a_dropped_trigger_is_not_published(redis_port: int, endpoint: dict[str, str]) -> None:
    """With the client off nothing goes to the broker, except what is to follow."""
    with publisher(redis_conf(redis_port), FL_ENABLED="0", **endpoint) as task:
        result = task.delay("7", "viewed", "page")
        assert result.get(timeout=0) is None
        assert task.client.stats().dropped == {"disabled": 1}
        assert messages(redis_port) == []
        chain(task.si("7", "viewed", "page"), task.si("7", "left", "page")).delay()
    assert [message["payload"] for message in messages(redis_port)] == [[[], {"trigger": ""}]]


def test_wrong_settings_are_named(endpoint: dict[str, str]) -> None:
    """At the call, with what would be right."""
    for name, value in {"MODE": "sure", "FALLBACK": "perhaps", "PUBLISH_TIMEOUT": "0"}.items():
        setting = f"celery_{name.lower()}"
        with pytest.raises(ConfigurationError, match=f"^{setting} is '{value}'; it should be"):
            CelerySettings.read({}, {f"FL_CELERY_{name}": value})
    with (
        publisher(MEMORY, FL_CELERY_FALLBACK="perhaps", **endpoint) as task,
        pytest.raises(ConfigurationError, match="celery_fallback"),
    ):
        task.delay("7", "viewed", "page")


@pytest.mark.parametrize("mode", ["buffered", "confirmed"])
def test_every_way_through_a_worker(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str], mode: str
) -> None:
    """Chains, groups, starmaps, messages that come twice, and messages of a process without brockman."""
    conf = redis_conf(redis_port)
    raw = str(uuid.uuid4())
    with publisher(conf, **endpoint) as task, redis.Redis(port=redis_port) as look:
        (twice,) = publish(task, 1)
        look.lpush("celery", look.lindex("celery", 0))  # as after a visibility timeout
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


@pytest.mark.parametrize(("broker", "pool"), [("filesystem", "solo"), ("memory", "threads")])
def test_a_broker_without_a_server(server: RecordingServer, tmp_path: Path, broker: str, pool: str) -> None:
    """Files, or the memory of the worker itself."""
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


def test_the_log_stays_quiet(redis_port: int, endpoint: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing goes wrong nothing is said."""
    with caplog.at_level(logging.INFO, "brockman"), publisher(redis_conf(redis_port), **endpoint) as task:
        publish(task, 3)
    assert [record for record in caplog.records if record.name == "brockman"] == []
