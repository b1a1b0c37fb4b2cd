"""The Celery task of a Django project: the project's settings, transactions, test runs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test.utils import override_settings

import brockman
from brockman.exceptions import ConfigurationError, InvalidTrigger
from brockman.testing import capture
from tests.django.test_on_commit import rolled_back

celery = pytest.importorskip("celery")
NAME = "brockman.django.celery.tasks.record_trigger"


@pytest.fixture
def task(project) -> Iterator[Any]:
    """The task in an app with an in-memory broker."""
    import brockman.django.tasks  # noqa: F401 - as autodiscovery does

    app = celery.Celery("shop", broker="memory://", set_as_current=False)
    yield app.tasks[NAME]
    app.close()


def messages(task: Any, name: str = "celery") -> list[dict[str, Any]]:
    """Take all messages from a queue, and return their triggers."""
    found = []
    with task.app.connection_for_read() as connection, connection.SimpleQueue(name) as queue:
        while queue.qsize():
            message = queue.get(timeout=10)
            message.ack()
            _, keywords, _ = message.payload
            found.append(json.loads(keywords["trigger"]))
    return found


def test_a_call_converts_and_validates(task, project) -> None:
    """Model instances become keys; a mistake raises where `DEBUG` is on, and is counted elsewhere."""
    task.delay(User(pk=7), "viewed", "page", variables={"user": User(pk=7)})
    (trigger,) = messages(task)
    assert (trigger["actor_id"], trigger["variables"]) == ("7", {"user": 7})
    with override_settings(DEBUG=True), pytest.raises(InvalidTrigger, match="action"):
        task.delay(7, "", "page")
    task.delay(7, "", "page")  # in production it fails no request
    assert messages(task) == []
    assert task.client.stats().dropped == {"invalid": 1}


@pytest.mark.parametrize("route", [NAME, "brockman.django.celery.tasks.*", "brockman.*"])
def test_the_routes_of_0_1_match(task, route: str) -> None:
    """The task has the name that it had: by name and by pattern, also for `delay_on_commit`."""
    task.app.conf.task_routes = {route: {"queue": "tracking"}}
    assert task.name == "brockman.django.celery.tasks.record_trigger"
    task.delay(7, "viewed", "page")
    task.delay_on_commit(8, "ordered", "book")
    assert messages(task) == []
    assert [trigger["actor_id"] for trigger in messages(task, "tracking")] == ["7", "8"]


def test_its_settings_are_the_projects(task) -> None:
    """As `FL_CELERY_MODE`; a wrong one raises where `DEBUG` is on."""
    assert not task.is_confirmed
    with override_settings(FL_CELERY_MODE="confirmed"):
        assert task.is_confirmed
    with override_settings(FL_CELERY_MODE="both"):  # in production it fails no request
        task.delay(1, "viewed", "page")
        with override_settings(DEBUG=True), pytest.raises(ConfigurationError, match="celery_mode is 'both'"):
            task.delay(1, "viewed", "page")
    assert len(messages(task)) == 1


def test_delay_on_commit_publishes_when_the_transaction_commits(task) -> None:
    """With the values, the context and the timestamp of the call."""
    variables = {"total": 3}
    with transaction.atomic():
        with brockman.context(actor_id=1):
            task.delay_on_commit(action="ordered", obj="book", variables=variables)
        variables["total"] = 4
        called = datetime.now(timezone.utc)
        assert messages(task) == []
        with rolled_back():
            task.delay_on_commit(2, "ordered", "book")
    (trigger,) = messages(task)
    assert (trigger["actor_id"], trigger["variables"]) == ("1", {"total": 3})
    assert datetime.fromisoformat(trigger["recorded_at"].replace("Z", "+00:00")) < called
    with rolled_back():
        task.delay_on_commit(3, "ordered", "book")
    task.delay_on_commit(4, "ordered", "book")
    with transaction.atomic(using="other"):
        task.delay_on_commit(5, "ordered", "book", using="other")
        assert [trigger["actor_id"] for trigger in messages(task)] == ["4"]
    assert [trigger["actor_id"] for trigger in messages(task)] == ["5"]


def test_delay_on_commit_takes_the_callers_time_and_id(task) -> None:
    """And publishes them when the transaction commits."""
    at, own = datetime(2012, 9, 1, tzinfo=timezone.utc), uuid.uuid4()
    with transaction.atomic():
        task.delay_on_commit(1, "ordered", "book", at=at, trigger_id=own)
    (trigger,) = messages(task)
    assert (trigger["id"], trigger["recorded_at"]) == (str(own), "2012-09-01T00:00:00.000000Z")
    with override_settings(DEBUG=True), pytest.raises(InvalidTrigger, match=r"at: .* has no time zone"):
        task.delay_on_commit(1, "ordered", "book", at=datetime(2012, 9, 1))


def test_delay_on_commit_raises_a_mistake_at_the_call(task) -> None:
    with override_settings(DEBUG=True), transaction.atomic(), pytest.raises(InvalidTrigger, match="obj"):
        task.delay_on_commit(1, "ordered", "")


def test_a_test_run_publishes_nothing(task, project, test_run) -> None:
    """A real worker would send it; `capture` has it instead."""
    for eager in (False, True):
        task.app.conf.task_always_eager = eager
        with capture() as outbox:
            task.delay(7, "viewed", "page")
            task.delay_on_commit(8, "ordered", "book")
            assert [trigger.actor_id for trigger in outbox] == ["7", "8"]
        task.delay(7, "viewed", "page")
    task.app.conf.task_always_eager = False
    assert project.requests == []
    assert messages(task) == []


def test_an_unreachable_broker_fails_no_request(project) -> None:
    """The web process's client delivers the trigger; on commit also with the fallback off."""
    import brockman.django.tasks  # noqa: F401

    app = celery.Celery("unreachable", broker="redis://127.0.0.1:1/0", set_as_current=False)
    task = app.tasks[NAME]
    task.delay(7, "viewed", "page")
    with override_settings(FL_CELERY_FALLBACK=False):
        with transaction.atomic():
            task.delay_on_commit(8, "ordered", "book")
        with pytest.raises(celery.exceptions.OperationalError):
            task.delay(9, "viewed", "page")
    assert task.client.flush()
    assert [trigger["actor_id"] for trigger in project.triggers] == ["7", "8"]
    app.close()
