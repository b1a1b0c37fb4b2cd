"""A trigger with a time and an id of its own: `at` and `trigger_id`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pandas
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brockman.client import FocusLabClient
from brockman.exceptions import InvalidTrigger
from brockman.transport.memory import MemoryTransport
from tests.support.server import RecordingServer

UTC = timezone.utc
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)
ID = "0190163d-8694-739b-aea5-966c26f8ad91"


class NoZone(tzinfo):
    """Counts as no zone: it knows no offset."""

    def utcoffset(self, moment: datetime | None) -> None:
        return None


class Broken(tzinfo):
    """A zone whose data cannot be read."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        raise KeyError("Mars/Olympus")


def encoded(client: FocusLabClient, **stamp: Any) -> dict[str, Any]:
    body = client.encode_trigger(7, "viewed", "page", **stamp)
    assert body is not None
    content: dict[str, Any] = json.loads(body)
    return content


@pytest.fixture
def client() -> Any:
    with FocusLabClient(transport=MemoryTransport(), shutdown_timeout=0) as client:
        yield client


def recorded(client: FocusLabClient, **stamp: Any) -> None:
    assert client.record_trigger(7, "viewed", "page", **stamp) is True
    client.flush()


def sent(client: FocusLabClient, **stamp: Any) -> None:
    client.send_trigger(7, "viewed", "page", **stamp)


def passed_on(client: FocusLabClient, **stamp: Any) -> None:
    client.record_encoded(client.encode_trigger(7, "viewed", "page", **stamp))
    client.flush()


def changed_by_a_hook(client: FocusLabClient, **stamp: Any) -> None:
    options = {"endpoint": client.options.endpoint, "api_key": "k", "before_record": lambda trigger: trigger}
    with FocusLabClient(**options) as hooked:
        hooked.record_trigger(7, "viewed", "page", **stamp)


@pytest.mark.parametrize("record", [recorded, sent, passed_on, changed_by_a_hook])
def test_time_and_id_arrive_as_they_are_given(
    record: Callable[..., None], server: RecordingServer, make_client: Callable[..., FocusLabClient]
) -> None:
    """By each way of recording, and in UTC."""
    record(make_client(), at=MOMENT.astimezone(ZoneInfo("Asia/Tokyo")), trigger_id=uuid.UUID(ID))
    (trigger,) = server.triggers
    assert trigger["recorded_at"] == "2026-01-02T03:04:05.000678Z"
    assert trigger["id"] == ID


@settings(deadline=None, database=None)
@given(st.datetimes(datetime(1970, 1, 2), datetime(2026, 1, 1)), st.timezones())
@example(datetime(1970, 1, 1), UTC)
@example(datetime(2025, 10, 26, 2, 30, fold=1), ZoneInfo("Europe/Berlin"))
@example(datetime(2025, 3, 30, 2, 30), ZoneInfo("Europe/Berlin"))  # a time that no clock there has shown
@example(datetime(2012, 1, 1), timezone(timedelta(hours=23, minutes=59, microseconds=1)))
def test_every_time_zone_is_taken_into_account(moment: datetime, zone: tzinfo) -> None:
    """Whatever the zone, the trigger's time is the same moment, to the microsecond."""
    at = moment.replace(tzinfo=zone)
    with FocusLabClient(transport=MemoryTransport()) as client:
        text = encoded(client, at=at)["recorded_at"]
    assert datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z") == at.astimezone(UTC)


def test_times_of_pandas_are_taken(client: FocusLabClient) -> None:
    """Nanoseconds are cut off."""
    at = pandas.Timestamp("2026-01-02T03:04:05.000678901Z")
    assert encoded(client, at=at)["recorded_at"] == "2026-01-02T03:04:05.000678Z"


@pytest.mark.parametrize("zone", [None, NoZone()], ids=["naive", "without an offset"])
def test_a_time_without_a_zone_says_how_to_give_it_one(client: FocusLabClient, zone: tzinfo | None) -> None:
    """Nobody can know which moment it is."""
    with pytest.raises(InvalidTrigger, match=r"^at: 2026-01-02T03:04:05.000678 has no time zone; give it one"):
        client.record_trigger(7, "viewed", "page", at=MOMENT.replace(tzinfo=zone))


@pytest.mark.parametrize(
    "at",
    [
        datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
        datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        timedelta(days=1, minutes=10),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
    ],
    ids=str,
)
def test_a_time_that_cannot_be_right_is_a_mistake(client: FocusLabClient, at: datetime | timedelta) -> None:
    """Seconds taken for milliseconds, or a clock that was never set."""
    at = datetime.now(UTC) + at if isinstance(at, timedelta) else at
    with pytest.raises(InvalidTrigger, match=r"^at: \S+ should be a time from 1970 to a day after now$"):
        client.record_trigger(7, "viewed", "page", at=at)


def test_a_clock_that_is_hours_ahead_is_believed(client: FocusLabClient) -> None:
    """Triggers of another machine may be a few hours in the future."""
    assert client.record_trigger(7, "viewed", "page", at=datetime.now(UTC) + timedelta(hours=23))


@pytest.mark.parametrize(
    "at",
    [date(2026, 1, 2), "2026-01-02T03:04:05Z", 1_767_322_800, 1.5, pandas.NaT, False, FocusLabClient],
    ids=str,
)
def test_what_is_no_datetime_is_a_mistake(client: FocusLabClient, at: Any) -> None:
    """Text and numbers have to be parsed by the caller, who knows what they mean."""
    with pytest.raises(InvalidTrigger, match=r"^at: .* should be a datetime with a time zone$"):
        client.record_trigger(7, "viewed", "page", at=at)


def test_a_zone_that_raises_is_a_mistake(client: FocusLabClient) -> None:
    """The error names the field, and nothing of the exception but its class."""
    with pytest.raises(InvalidTrigger, match=r"^at: reading it raised KeyError$"):
        client.record_trigger(7, "viewed", "page", at=MOMENT.replace(tzinfo=Broken()))


@pytest.mark.parametrize(
    "text", [ID, ID.upper(), f"{{{ID}}}", f"urn:uuid:{ID}", ID.replace("-", ""), uuid.UUID(ID)]
)
def test_an_id_is_sent_in_its_usual_form(client: FocusLabClient, text: Any) -> None:
    """So that equal ids are equal for the server."""
    assert encoded(client, trigger_id=text)["id"] == ID


@pytest.mark.parametrize(
    "value", ["", "42", ID[:-1], ID + "0", 42, uuid.UUID(ID).bytes, [ID], FocusLabClient], ids=str
)
def test_what_is_no_uuid_is_a_mistake(client: FocusLabClient, value: Any) -> None:
    """The server would refuse it."""
    with pytest.raises(InvalidTrigger, match=r"^trigger_id: .* should be a UUID, or the text of one$"):
        client.record_trigger(7, "viewed", "page", trigger_id=value)


def test_a_mistake_in_them_is_counted_like_any_other() -> None:
    """With `on_invalid="drop"` nothing is raised."""
    with FocusLabClient(transport=MemoryTransport(), on_invalid="drop") as client:
        assert client.record_trigger(7, "viewed", "page", at=datetime(2026, 1, 1)) is False
        assert client.encode_trigger(7, "viewed", "page", trigger_id="7") is None
        assert client.stats().dropped == {"invalid": 2}


def test_a_time_on_the_full_second_has_a_fraction_too(client: FocusLabClient) -> None:
    """As every other, so that the texts sort as the times do."""
    assert encoded(client, at=MOMENT.replace(microsecond=0))["recorded_at"] == "2026-01-02T03:04:05.000000Z"
