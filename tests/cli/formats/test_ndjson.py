"""Lines of JSON with times, ids and names of other programs."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from brockman.cli.formats import read_lines
from brockman.cli.source import Arguments, BadLine
from brockman.exceptions import ConfigurationError

TRIGGER = {"actor_id": 7, "action": "viewed", "object": "page"}
AT = datetime(2025, 10, 10, 11, 55, 36, tzinfo=timezone.utc)


def read(value: dict[str, Any], mapping: dict[str, str] | None = None) -> Arguments | BadLine:
    ((_, reading),) = read_lines([(1, json.dumps(value))], "auto", mapping or {})
    return reading


def reason(value: dict[str, Any], mapping: dict[str, str] | None = None) -> str:
    reading = read(value, mapping)
    assert isinstance(reading, BadLine), reading
    return reading.reason


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2025-10-10T11:55:36Z", AT),
        ("2025-10-10t11:55:36z", AT),
        ("2025-10-10T13:55:36+02:00", AT),
        ("2025-10-10 13:55:36+02", AT),
        ("2025-10-10 11:55:36 UTC", AT),
        ("20251010T115536Z", AT),
        ("2025-10-10T11:55Z", AT.replace(second=0)),
        ("2025-10-10T11:55:36.123456789Z", AT.replace(microsecond=123456)),
        ("2025-10-10T11:55:36,5Z", AT.replace(microsecond=500_000)),
        ("10/Oct/2025:13:55:36 +0200", AT),
        (1760097336, AT),
        ("1760097336", AT),
        (1760097336.5, AT.replace(microsecond=500_000)),
        ("1760097336.123", AT.replace(microsecond=123_000)),
        (1760097336123, AT.replace(microsecond=123_000)),
        ("1760097336123", AT.replace(microsecond=123_000)),
        (1760097336123.5, AT.replace(microsecond=123_500)),
        (1760097336123456, AT.replace(microsecond=123_456)),
        (1760097336123456789, AT.replace(microsecond=123_456)),
        (0, datetime(1970, 1, 1, tzinfo=timezone.utc)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=timezone.utc)),
        (None, None),
        ("", None),
    ],
)
def test_the_time_of_a_line_is_that_of_its_trigger(value: object, expected: datetime | None) -> None:
    """ISO 8601, Unix time in seconds to nanoseconds, and as in logs; the zone stays."""
    for name in ("recorded_at", "timestamp", "time"):
        reading = read({**TRIGGER, name: value})
        assert isinstance(reading, Arguments), reading
        assert reading.at == expected
        assert reading.variables is None
    if isinstance(value, str) and "+02" in value:
        assert reading.at is not None
        assert reading.at.utcoffset() == timedelta(hours=2)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2025-10-10T11:55:36", "has no time zone; it should end with one: +02:00, or Z for UTC"),
        ("2025-10-10", "has no time zone"),
        ("20251010115536", "is not a time"),
        ("20251010", "has no time zone"),
        ("yesterday", "is not a time"),
        ("2025-02-30T00:00:00Z", "is not a time"),
        ("2025-10-10T11:55:36+99:00", "is not a time"),
        (True, "is not a time"),
        ([1760097336], "is not a time"),
        ({"$date": 1}, "is not a time"),
        (10**30, "is not a time"),
        ("9" * 5000, "is not a time"),
        (1e400, "is not a time"),
        ("0001-01-01T00:00:00+14:00", "is not a time"),  # in UTC it would be before the first year
        ("9999-12-31T23:59:59-12:00", "is not a time"),
        (45978.41, "is not a time"),  # the days of a spreadsheet
        ("45978", "is not a time"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_time_that_is_none_is_a_bad_line(value: object, expected: str) -> None:
    """Its reason says what would be right."""
    assert expected in reason({**TRIGGER, "timestamp": value})


def test_recorded_at_and_id_win_over_other_names() -> None:
    """They are this client's own; two of the others that differ are a bad line."""
    reading = read(
        {**TRIGGER, "recorded_at": 1760097336, "timestamp": 5, "id": "a", "uuid": "b", "messageId": "c"}
    )
    assert isinstance(reading, Arguments)
    assert (reading.at, reading.trigger_id) == (AT, "a")
    reading = read(
        {**TRIGGER, "time": 1760097336, "timestamp": "2025-10-10T11:55:36Z", "uuid": 17, "message_id": "17"}
    )
    assert isinstance(reading, Arguments)
    assert (reading.at, reading.trigger_id) == (AT, "17")
    assert reason({**TRIGGER, "time": 1, "timestamp": 2}).startswith("timestamp and time differ")
    assert reason({**TRIGGER, "uuid": "a", "messageId": "b"}).startswith("messageId and uuid differ")


@pytest.mark.parametrize("value", [True, 1.5, [1], {"x": 1}])
def test_an_id_of_another_type_is_a_bad_line(value: object) -> None:
    assert "is not an id; it should be a UUID or another text" in reason({**TRIGGER, "id": value})


def test_a_mapping_reads_the_lines_of_other_trackers() -> None:
    """A name may be that of a nested field, or of a whole object."""
    value = {
        "userId": 7,
        "event": "viewed",
        "type": "track",
        "sentAt": "2025-10-10T11:55:36Z",
        "timestamp": 5,
        "messageId": "ajs-next-123",
        "context": {"ip": "203.0.113.7", "page": {"path": "/blog"}},
        "properties": {"title": "Lamps"},
    }
    mapping = {
        "actor_id": "userId",
        "action": "event",
        "object": "context.page.path",
        "time": "sentAt",
        "id": "messageId",
        "identities.ip": "context.ip",
        "variables": "properties",
        "variables.kind": "type",
        "attributes.plan": "context.traits.plan",
    }
    variables = {"title": "Lamps", "kind": "track"}
    expected = Arguments(7, "viewed", "/blog", {"ip": "203.0.113.7"}, None, variables, AT, "ajs-next-123")
    assert read(value, mapping) == expected
    assert read({**TRIGGER, "created": "2025-10-10T11:55:36Z"}, {"time": "created"}) == Arguments(
        7, "viewed", "page", None, None, None, AT
    )


def test_objects_within_a_mapped_object_become_flat() -> None:
    """Nor does a hostile one cost more than its length."""
    mapping = {"actor_id": "u", "action": "e", "object": "e", "variables": "p"}
    value = {"u": "7", "e": "paid", "p": {"$set": {"plan": "pro", "of": {"x": [1]}}, "none": {}, "total": 1}}
    reading = read(value, mapping)
    assert isinstance(reading, Arguments)
    assert reading.variables == {"$set.plan": "pro", "$set.of.x": [1], "total": 1}
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"a": deep, "b": 1}
    assert isinstance(read({**value, "p": deep}, mapping), Arguments)
    wide = {"k" * 100_000: dict.fromkeys(map(str, range(10_000)), 1)}
    assert reason({**value, "p": wide}, mapping) == "the names of objects within objects are too long"


def test_a_mapped_field_that_a_line_needs_and_has_not_is_a_bad_line() -> None:
    assert reason(TRIGGER, {"time": "craeted"}) == "there is no 'craeted', which --map has for time"
    assert reason(TRIGGER, {"actor_id": "user.id"}) == "there is no 'user.id', which --map has for actor_id"
    assert "soon" in reason({**TRIGGER, "created": "soon"}, {"time": "created"})
    assert reason({**TRIGGER, "variables": [1], "x": 1}, {"variables.x": "x"}).startswith("variables is '[1]'; it")


@pytest.mark.parametrize("field", ["colour", "time.x", "variables.", "identity.x", ""])
def test_a_mapping_of_an_unknown_field_is_wrong_usage(field: str) -> None:
    with pytest.raises(ConfigurationError, match="--map has "):
        read(TRIGGER, {field: "x"})


def test_byte_order_marks_and_nuls_before_a_line_are_left_out() -> None:
    line = json.dumps(TRIGGER)
    readings = list(read_lines([(1, "\0" * 3_000_000 + line), (2, "\0\0"), (3, "\ufeff" + line)], "auto"))
    assert [(number, reading[:3]) for number, reading in readings] == [(n, (7, "viewed", "page")) for n in (1, 3)]


@pytest.mark.parametrize(
    "wrapped",
    [
        json.dumps({"log": json.dumps(TRIGGER) + "\n", "stream": "stdout", "time": "2025-10-10T11:55:36Z"}),
        json.dumps({"MESSAGE": json.dumps(TRIGGER), "PRIORITY": "6"}),
        "2025-10-10T11:55:36.123456789Z stdout F " + json.dumps(TRIGGER),
        "<14>Oct 10 13:55:36 web1 shop[9]: " + json.dumps(TRIGGER),
    ],
)
def test_triggers_that_a_container_or_journald_wrapped_are_read(wrapped: str) -> None:
    ((_, reading),) = read_lines([(1, wrapped)], "auto")
    assert reading[:3] == (7, "viewed", "page")
