"""Calls of the task: arguments, the message, and the result."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
import uuid
from datetime import datetime, timezone
from decimal import Decimal

import pytest
import redis
from celery import chain
from celery.exceptions import Reject
from kombu.serialization import registry

from brockman.exceptions import ConfigurationError, InvalidTrigger
from brockman.options.celery import CelerySettings
from tests.celery.workers import (
    CONFIRMED,
    MEMORY,
    messages,
    publish,
    publisher,
    redis_conf,
    trigger_of,
)
from tests.support.programs import free_port
from tests.support.server import RecordingServer, Reply

# A web process that calls the task, and what of the worker's side it has loaded then.
CALL = """
import sys
import brockman.celery

def loaded(*packages):
    return [name for name in sys.modules if name.startswith(packages)]

assert loaded("celery.worker", "celery.concurrency") == []
import celery
task = celery.Celery("app", broker="memory://").tasks["brockman.record_trigger"]
task.delay("7", "viewed", "published")
task("7", "viewed", "recorded")
assert task.client.flush().delivered == 1
assert loaded("brockman.celery.worker", "brockman.celery.confirm") == []
"""


# A task whose client prints.
KEYLESS = """
import celery
from brockman.celery.task import RecordTask, make_task
from brockman.client import FocusLabClient
from brockman.transport.console import ConsoleTransport

class Printing(RecordTask):
    def make_client(self):
        return FocusLabClient(transport=ConsoleTransport())

make_task(Printing, "shop.record_trigger")
task = celery.Celery("app", broker="memory://").tasks["shop.record_trigger"]
task.delay("7", "viewed", "published")
task("7", "viewed", "recorded")
task.client.close()
"""


def test_a_task_whose_client_has_a_transport_needs_no_key() -> None:
    """Neither the call nor the record asks for one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FL_")}
    program = [sys.executable, "-c", KEYLESS]
    ended = subprocess.run(program, env=environment, check=True, timeout=60, capture_output=True, text=True)
    assert [json.loads(line)["object"] for line in ended.stdout.splitlines()] == ["recorded"]


def test_a_call_imports_nothing_of_the_worker(server: RecordingServer, endpoint: dict[str, str]) -> None:
    """Neither of brockman's nor, until an app is made, of Celery's."""
    subprocess.run([sys.executable, "-c", CALL], env={**os.environ, **endpoint}, check=True, timeout=60)
    assert [trigger["object"] for trigger in server.triggers] == ["recorded"]


def test_the_message_carries_one_text(redis_port: int, endpoint: dict[str, str]) -> None:
    """The trigger's JSON, made at the call; the message's id is the trigger's; logs do not show the actor."""
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
def test_every_serializer_works(redis_port: int, endpoint: dict[str, str], serializer: str) -> None:
    """It gets nothing but text."""
    with publisher(redis_conf(redis_port), **endpoint) as task:
        task.apply_async(("7", "viewed", "Zoë 🎈"), serializer=serializer)
    with redis.Redis(port=redis_port) as look:
        message = json.loads(look.lrange("celery", 0, -1)[0])
    content_type, encoding = message["content-type"], message["content-encoding"]
    body = registry.loads(base64.b64decode(message["body"]), content_type, encoding, accept=[content_type])
    assert json.loads(body[1]["trigger"])["object"] == "Zoë 🎈"


def test_a_mistake_raises_where_it_was_made(endpoint: dict[str, str]) -> None:
    """The exception starts with the path, as the client's does; nothing is published."""
    with publisher(MEMORY | {"broker_url": f"redis://127.0.0.1:{free_port()}"}, **endpoint) as task:
        wrong = task.s("7", "viewed", "page", variables={"price": float("nan")})
        for call in (wrong.delay, lambda: task.delay(*wrong.args, **wrong.kwargs)):
            with pytest.raises(InvalidTrigger, match=r"^variables\['price'\]: nan"):
                call()
        with pytest.raises(InvalidTrigger, match=r"^obj: "):
            task.delay("7", "viewed")
        with pytest.raises(TypeError, match="'colour'"):
            task.delay("7", "viewed", "page", colour="red")
        assert task.client.stats().recorded == 0


def test_odd_arguments(redis_port: int, endpoint: dict[str, str]) -> None:
    """Iterators are accepted; the keywords of messages are not."""
    with publisher(redis_conf(redis_port), **endpoint) as task:
        task.apply_async(part for part in ("7", "viewed", "page"))
        task.apply_async(None, {"actor_id": "7", "action": "viewed", "obj": "page"})
        for wrong in ({"trigger": "x"}, {"faults": 3}, {"trigger": None}):
            with pytest.raises(TypeError, match="unexpected keyword"):
                task.delay("7", "viewed", "page", **wrong)
        for missing in ((None, "viewed", "page"), ()):
            with pytest.raises(InvalidTrigger):
                task.delay(*missing)
        with pytest.raises(TypeError):
            task.delay(*range(7))
    assert len(messages(redis_port)) == 2


def test_the_callers_options_hold(redis_port: int, endpoint: dict[str, str]) -> None:
    """Queue, id, countdown, the caller's producer or connection."""
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


def test_calls_without_a_broker(server: RecordingServer, endpoint: dict[str, str]) -> None:
    """A direct call, `apply` and eager mode record in this process, in both modes."""
    with publisher(MEMORY, FL_CELERY_MODE="confirmed", **endpoint) as task:
        assert task("7", "viewed", "direct") is True
        assert task.apply(("7", "viewed", "applied")).get() is True
        with pytest.raises(InvalidTrigger):
            task("7", "viewed", "")
        task.app.conf.task_always_eager = True
        assert task.delay("7", "viewed", "eager").get() is True
        assert task.client.flush().delivered == 3
    assert [trigger["object"] for trigger in server.triggers] == ["direct", "applied", "eager"]


def test_an_eager_app_raises_mistakes(endpoint: dict[str, str]) -> None:
    """With `task_eager_propagates`, too."""
    with publisher(MEMORY | {"task_always_eager": True, "task_eager_propagates": True}, **endpoint) as task:
        with pytest.raises(InvalidTrigger):
            task.delay("7", "viewed", "")
        assert task.delay("7", "viewed", "page").get() is True


def test_a_dropped_trigger_is_not_published(redis_port: int, endpoint: dict[str, str]) -> None:
    """With the client off, no message is published unless other tasks are to follow."""
    with publisher(redis_conf(redis_port), FL_ENABLED="0", **endpoint) as task:
        result = task.delay("7", "viewed", "page")
        assert result.get(timeout=0) is None
        assert task.client.stats().dropped == {"disabled": 1}
        assert messages(redis_port) == []
        chain(task.si("7", "viewed", "page"), task.si("7", "left", "page")).delay()
    assert [message["payload"] for message in messages(redis_port)] == [[[], {"trigger": ""}]]


def test_wrong_settings_raise(endpoint: dict[str, str]) -> None:
    """At the call, with the values that are allowed."""
    for name, value in {"MODE": "sure", "FALLBACK": "perhaps", "PUBLISH_TIMEOUT": "0"}.items():
        setting = f"celery_{name.lower()}"
        with pytest.raises(ConfigurationError, match=f"^{setting} is '{value}'; it should be"):
            CelerySettings.read({}, {f"FL_CELERY_{name}": value})
    with (
        publisher(MEMORY, FL_CELERY_FALLBACK="perhaps", **endpoint) as task,
        pytest.raises(ConfigurationError, match="celery_fallback"),
    ):
        task.delay("7", "viewed", "page")


def test_nothing_is_logged_without_a_problem(
    redis_port: int, endpoint: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A call writes no line."""
    with caplog.at_level(logging.INFO, "brockman"), publisher(redis_conf(redis_port), **endpoint) as task:
        publish(task, 3)
    assert [record for record in caplog.records if record.name == "brockman"] == []


def test_a_retry_that_cannot_be_published_is_requeued(server: RecordingServer, endpoint: dict[str, str]) -> None:
    """Celery would reject the message without requeueing it, and the trigger would be lost."""
    server.respond = lambda request: Reply(503)
    conf = {"broker_url": f"redis://127.0.0.1:{free_port()}"}
    with publisher(conf, **endpoint, **CONFIRMED) as task:
        assert task.acks_late
        assert task.reject_on_worker_lost
        assert not task.acks_on_timeout
        trigger = task.client.encode_trigger("7", "viewed", "page").decode()
        task.push_request(id="7", called_directly=False, args=[], kwargs={"trigger": trigger}, delivery_info={})
        try:
            with pytest.raises(Reject) as raised:
                task.run(trigger=trigger)
        finally:
            task.pop_request()
    assert raised.value.requeue
    assert len(server.requests) == 1
