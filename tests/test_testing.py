"""`brockman.testing`: what the tests of a program can rely on."""

from __future__ import annotations

import datetime
import enum
import threading
import uuid
from decimal import Decimal

import pytest

from brockman.client import FocusLabClient
from brockman.exceptions import InvalidTrigger, ResourceNotFound
from brockman.groups import Member
from brockman.testing import Outbox, capture
from tests.support.client import KEY, law_holds, record

pytest_plugins = ["pytester"]


def test_nothing_is_sent_and_everything_can_be_read(server, make_client):
    """A trigger is in the outbox when `record_trigger` returns, with its arguments, and never at the server."""
    client = make_client(flush_interval=600)
    with capture() as outbox:
        assert client.record_trigger(7, "viewed", "page", {"email": "a@b.c"}, {"plan": "pro"}, {"n": 1})
        assert len(outbox) == 1
        trigger = outbox[0]
        assert (trigger.actor_id, trigger.action, trigger.obj) == ("7", "viewed", "page")
        assert trigger.identities == {"email": "a@b.c"}
        assert trigger.attributes == {"plan": "pro"}
        assert trigger.variables == {"n": 1}
        assert trigger.id
        assert trigger.recorded_at.endswith("Z")
        client.send_trigger(8, "sent", "page")
        assert [found.actor_id for found in outbox] == ["7", "8"]
        assert client.stats().delivered == 1
        assert law_holds(client, 1)  # `send_trigger` goes around the counts
    assert server.requests == []


def test_before_and_after_the_block_triggers_are_sent(server, make_client):
    """Triggers recorded before and after the block are delivered, those of the block are not."""
    client = make_client(flush_interval=600)
    record(client, 3)
    with capture() as outbox:
        assert len(server.triggers) == 3
        record(client, 3, start=10)
    record(client, 3, start=20)
    assert client.flush().delivered == 3
    assert [trigger["variables"]["n"] for trigger in server.triggers] == [0, 1, 2, 20, 21, 22]
    assert [trigger.variables["n"] for trigger in outbox] == [10, 11, 12]


def test_clients_made_inside_the_block_are_captured_too(server):
    """As views do."""
    with capture() as outbox:
        FocusLabClient(KEY, endpoint=server.endpoint).record_trigger(1, "viewed", "page")
        with capture() as inner:
            FocusLabClient(KEY, endpoint=server.endpoint).record_trigger(2, "viewed", "page")
        FocusLabClient(KEY, endpoint=server.endpoint).record_trigger(3, "viewed", "page")
    assert [trigger.actor_id for trigger in outbox] == ["1", "3"]
    assert [trigger.actor_id for trigger in inner] == ["2"]
    assert server.requests == []


def test_threads_are_captured_without_a_thread_of_ours(make_client):
    """Each of many threads finds its triggers; no worker runs."""
    client = make_client()
    with capture() as outbox:
        threads = [threading.Thread(target=record, args=(client, 50, 100 * number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not any(thread.name == "brockman-worker" for thread in threading.enumerate())
    assert len({trigger.variables["n"] for trigger in outbox}) == 400


def test_mistakes_are_told_as_they_would_be(make_client):
    """An invalid trigger raises in `record_trigger`."""
    client = make_client()
    with capture() as outbox, pytest.raises(InvalidTrigger, match=r"variables\['n'\]"):
        client.record_trigger(1, "viewed", "page", variables={"n": float("nan")})
    assert list(outbox) == []


def outbox_of_three() -> Outbox:
    with capture() as outbox, FocusLabClient(KEY) as client:
        for number in range(3):
            client.record_trigger(number, "viewed", "page", variables={"n": number, "even": number % 2 == 0})
    return outbox


def test_triggers_are_found_by_some_of_their_fields():
    """Other fields may be anything; an int finds its text."""
    outbox = outbox_of_three()
    assert [trigger.actor_id for trigger in outbox.find(actor_id=1)] == ["1"]
    assert len(outbox.find(action="viewed", obj="page")) == 3
    assert [trigger.actor_id for trigger in outbox.find(variables={"even": True})] == ["0", "2"]
    assert outbox.find(variables={"odd": True}) == []
    with pytest.raises(TypeError, match="a trigger has no object"):
        outbox.find(object="page")
    outbox.clear()
    assert len(outbox) == 0


def test_what_is_expected_is_compared_as_it_is_sent():
    """Otherwise `times=0` would always pass."""
    moment, key = datetime.date(2026, 11, 25), uuid.uuid4()
    with capture() as outbox, FocusLabClient(KEY) as client:
        client.record_trigger(
            key, Verb.BUY, "book", variables={"price": Decimal("1.5"), "at": moment, "tags": ("a",)}
        )
    for expected in (
        {"actor_id": key},
        {"action": Verb.BUY},
        {"variables": {"price": Decimal("1.5")}},
        {"variables": {"at": moment, "tags": ("a",), "gone": None}},
        {"variables": None},
    ):
        assert len(outbox.find(**expected)) == 1, expected
    assert outbox.find(variables={"price": Decimal("1.6")}) == []
    with pytest.raises(InvalidTrigger):
        outbox.find(action="")


class Verb(enum.Enum):
    BUY = "bought"


def test_an_assertion_tells_what_was_recorded_instead():
    """The output of a failing test shows why it fails."""
    outbox = outbox_of_three()
    assert len(outbox.assert_recorded(action="viewed")) == 3
    assert outbox.assert_recorded(action="bought", times=0) == []
    with pytest.raises(AssertionError, match=r"(?s)action='bought' should be .* once.*variables=\{'n': 0, 'even'"):
        outbox.assert_recorded(action="bought")
    with pytest.raises(AssertionError, match="2 times, not 3 times"):
        outbox.assert_recorded(action="viewed", times=2)


def test_the_fixture_is_there_by_itself(pytester: pytest.Pytester) -> None:
    """A project with brockman installed uses `focuslab_outbox`, and sends nothing."""
    pytester.makepyfile(
        """
        from brockman.client import FocusLabClient

        client = FocusLabClient("key", endpoint="http://127.0.0.1:9/")

        def test_view(focuslab_outbox):
            client.record_trigger(7, "viewed", "page")
            focuslab_outbox.assert_recorded(actor_id=7, times=1)
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_groups_are_those_of_the_test() -> None:
    """Nothing leaves the process: members are returned as they were set, an unknown group is an error."""
    client = FocusLabClient(KEY)
    moment = datetime.datetime(2026, 11, 23, tzinfo=datetime.timezone.utc)
    member = Member(("7",), 1, {"email": ("ada@example.com",)}, {"plan": "pro"}, moment, None, 3)
    with capture() as outbox:
        outbox.groups["hot leads / ü"] = [member]
        assert list(client.download_group("hot leads / ü")) == [member]
        with pytest.raises(ResourceNotFound, match=r"no group 'others': set outbox.groups"):
            next(client.download_group("others"))
        assert client.save_group("others", where={"attributes.plan": "pro"}).where == {"attributes.plan": "pro"}
        assert list(client.download_group("others")) == []
        assert [group.name for group in client.groups()] == ["hot leads / ü", "others"]
        assert len(outbox) == 0
    client.close()
