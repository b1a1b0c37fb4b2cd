"""Triggers of a transaction: recorded when it commits, and not at all when it is rolled back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import unittest
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from django.core import mail
from django.db import connection, connections, transaction
from django.test import TestCase
from django.test.utils import override_settings

from brockman.django.client import DjangoFocusLabClient
from brockman.exceptions import BufferFull, InvalidTrigger
from brockman.testing import capture
from tests.support.server import RecordingServer

client = DjangoFocusLabClient()


class Rollback(Exception):
    pass


@contextlib.contextmanager
def rolled_back(using: str | None = None) -> Iterator[None]:
    """A transaction that is rolled back at its end."""
    with contextlib.suppress(Rollback), transaction.atomic(using=using):
        yield
        raise Rollback


def sent(project: RecordingServer) -> list[str]:
    """Return the actors of the delivered triggers."""
    assert client.flush()
    return [trigger["actor_id"] for trigger in project.triggers]


def record(actor: int, using: str | None = None) -> None:
    assert client.record_trigger_on_commit(actor, "ordered", "book", using=using)


def test_a_commit_records(project):
    """Nothing is recorded before."""
    with transaction.atomic():
        record(1)
        assert client.stats().recorded == 0
    assert client.stats().recorded == 1
    assert sent(project) == ["1"]


def test_a_rollback_records_nothing(project):
    """The trigger is not counted as dropped either."""
    with rolled_back():
        record(1)
    record(2)
    assert sent(project) == ["2"]
    assert client.stats().dropped == {}


def test_a_nested_rollback_affects_only_its_own_triggers(project):
    """As with savepoints."""
    with transaction.atomic():
        record(1)
        with rolled_back():
            record(2)
        with transaction.atomic():
            record(3)
    assert sent(project) == ["1", "3"]


def test_without_a_transaction_it_is_recorded_at_once(project):
    """So the caller need not know."""
    assert connection.get_autocommit()
    record(1)
    assert client.stats().recorded == 1
    assert sent(project) == ["1"]


def test_it_follows_the_given_database(project):
    """`using=` names the database of the transaction."""
    with transaction.atomic(using="other"):
        record(1, using="other")
        record(2)  # the default database is in no transaction
        assert client.stats().recorded == 1
        with rolled_back():
            record(3, using="other")
    assert sent(project) == ["2", "1", "3"]
    assert set(connections) == {"default", "other"}


def test_values_and_timestamp_are_those_of_the_call(project):
    """Later changes of the arguments have no effect."""
    variables = {"total": 3}
    with transaction.atomic():
        client.record_trigger_on_commit(1, "ordered", "book", variables=variables)
        variables["total"] = 4
        called = datetime.now(timezone.utc)
    assert client.flush()
    (trigger,) = project.triggers
    assert trigger["variables"] == {"total": 3}
    assert datetime.fromisoformat(trigger["recorded_at"].replace("Z", "+00:00")) < called


def test_a_mistake_raises_at_the_call(project):
    """Not at the commit."""
    with override_settings(DEBUG=True), transaction.atomic(), pytest.raises(InvalidTrigger, match="action"):
        client.record_trigger_on_commit(1, "", "book")
    with transaction.atomic():
        assert not client.record_trigger_on_commit(1, "", "book")
    assert client.stats().dropped == {"invalid": 1}


def test_a_full_buffer_blocks_no_other_callback(project):
    """`BufferFull` keeps none of the project's own callbacks from running."""
    full = DjangoFocusLabClient(overflow="raise", max_queue_bytes=1)
    done = []
    with transaction.atomic():
        assert full.record_trigger_on_commit(1, "ordered", "book")
        transaction.on_commit(lambda: done.append(True))
    assert done == [True]
    assert full.stats().dropped == {"overflow": 1}
    with pytest.raises(BufferFull):
        full.record_trigger(1, "ordered", "book")


class Shop(TestCase):
    """A project's own test, whose transaction never commits."""

    __test__ = False  # not for pytest
    databases = ("default",)

    def test_order(self) -> None:
        """Record on commit."""
        with capture() as outbox, self.captureOnCommitCallbacks(execute=True):
            record(1)
            assert list(outbox) == []
        outbox.assert_recorded(actor_id=1, times=1)


def test_djangos_test_case_can_execute_it(project):
    """`captureOnCommitCallbacks(execute=True)` records what the test's own transaction never commits."""
    result = unittest.TestResult()
    try:
        unittest.TestSuite([Shop("test_order")]).run(result)
    finally:
        del mail.outbox  # set by the test case
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])
    assert project.requests == []


def test_on_commit_connects_to_no_database(project: RecordingServer) -> None:
    """Outside a transaction, a page without database queries neither waits for the database nor needs it."""
    seen: list[Any] = []

    def work() -> None:  # a thread has connections of its own, at first none
        record(1)
        seen.append(connections["default"].connection)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]
    assert client.stats().recorded == 1
    assert client.flush()


def test_on_commit_in_an_event_loop_records_at_once(project: RecordingServer) -> None:
    """Django's own `on_commit` would raise there."""

    async def view() -> bool:
        return client.record_trigger_on_commit(1, "ordered", "book")

    assert asyncio.run(view())
    assert client.flush().pending == 0


def test_on_commit_without_autocommit_records_at_once(project: RecordingServer) -> None:
    """Without `atomic`, Django runs no callbacks: it is recorded at once."""
    transaction.set_autocommit(False)
    try:
        assert client.record_trigger_on_commit(1, "ordered", "book")
        assert client.stats().recorded == 1
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)


def test_an_unknown_database_makes_no_page_fail(project: RecordingServer) -> None:
    """It is counted as invalid; with `DEBUG` it raises."""
    assert not client.record_trigger_on_commit(1, "ordered", "book", using="typo")
    assert client.stats().dropped == {"invalid": 1}
    with (
        override_settings(DEBUG=True),
        pytest.raises(InvalidTrigger, match="one of default, other"),
    ):
        client.record_trigger_on_commit(1, "ordered", "book", using="typo")
