"""Triggers that belong to a transaction: recorded when it commits, and not at all when it is rolled back."""

from __future__ import annotations

import contextlib
import unittest
from collections.abc import Iterator
from datetime import datetime, timezone

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
    """A transaction that fails at its end."""
    with contextlib.suppress(Rollback), transaction.atomic(using=using):
        yield
        raise Rollback


def sent(project: RecordingServer) -> list[str]:
    """Return what was delivered: the actors."""
    assert client.flush()
    return [trigger["actor_id"] for trigger in project.triggers]


def record(actor: int, using: str | None = None) -> None:
    assert client.record_trigger_on_commit(actor, "ordered", "book", using=using)


def test_it_is_recorded_when_the_transaction_commits(project):
    """And not before."""
    with transaction.atomic():
        record(1)
        assert client.stats().recorded == 0
    assert client.stats().recorded == 1
    assert sent(project) == ["1"]


def test_it_is_never_recorded_when_the_transaction_is_rolled_back(project):
    """The order that failed was never ordered; nothing is counted as lost."""
    with rolled_back():
        record(1)
    record(2)
    assert sent(project) == ["2"]
    assert client.stats().dropped == {}


def test_a_nested_block_that_is_rolled_back_takes_only_its_own(project):
    """As savepoints do."""
    with transaction.atomic():
        record(1)
        with rolled_back():
            record(2)
        with transaction.atomic():
            record(3)
    assert sent(project) == ["1", "3"]


def test_outside_a_transaction_it_is_recorded_at_once(project):
    """So the call may stand in code that does not know."""
    assert connection.get_autocommit()
    record(1)
    assert client.stats().recorded == 1
    assert sent(project) == ["1"]


def test_it_follows_the_database_it_is_told(project):
    """`using=` names the one whose commit counts."""
    with transaction.atomic(using="other"):
        record(1, using="other")
        record(2)  # the default database is in no transaction
        assert client.stats().recorded == 1
        with rolled_back():
            record(3, using="other")
    assert sent(project) == ["2", "1", "3"]
    assert set(connections) == {"default", "other"}


def test_it_is_what_it_was_at_the_call(project):
    """What changes between the call and the commit changes nothing, and its time is that of the call."""
    variables = {"total": 3}
    with transaction.atomic():
        client.record_trigger_on_commit(1, "ordered", "book", variables=variables)
        variables["total"] = 4
        called = datetime.now(timezone.utc)
    assert client.flush()
    (trigger,) = project.triggers
    assert trigger["variables"] == {"total": 3}
    assert datetime.fromisoformat(trigger["recorded_at"].replace("Z", "+00:00")) < called


def test_a_mistake_is_told_at_the_call(project):
    """Where it was made, and not at the commit."""
    with override_settings(DEBUG=True), transaction.atomic(), pytest.raises(InvalidTrigger, match="action"):
        client.record_trigger_on_commit(1, "", "book")
    with transaction.atomic():
        assert not client.record_trigger_on_commit(1, "", "book")
    assert client.stats().dropped == {"invalid": 1}


def test_a_full_buffer_stops_no_other_callback(project):
    """What the project wants done after the commit is done."""
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
        """Run below."""
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
        del mail.outbox  # which the test case has made
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])
    assert project.requests == []
