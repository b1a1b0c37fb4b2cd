"""Timestamps are RFC 3339, to the microsecond."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brockman.collector.timestamps import format_timestamp, parse_timestamp


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01T00:00:00.5Z", 0.5),
        ("1970-01-01T00:00:00.000001Z", 0.000001),
        ("1970-01-01t00:00:01z", 1.0),
        ("1970-01-01 00:00:01+00:00", 1.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1969-12-31T23:30:00.25-00:30", 0.25),
        ("1970-01-01T00:00:00.1234567899Z", 0.123456),
        ("1969-12-31T23:59:59Z", -1.0),
        ("2016-12-31T23:59:60Z", 1483228800.0),
        ("0001-01-01T00:00:00Z", -62135596800.0),
        ("9999-12-31T23:59:59Z", 253402300799.0),
    ],
)
def test_rfc_3339_is_parsed_to_the_microsecond(text: str, seconds: float) -> None:
    assert parse_timestamp(text) == round(seconds * 1e6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00.12345٣Z",
        "2026-01-01T00:00:00.+1234Z",
        "2026-01-01T24:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-W01-1T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+0100",
        " 2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z\n",
        "٢٠٢٦-01-01T00:00:00Z",
    ],
)
def test_other_formats_are_rejected(text: str) -> None:
    assert parse_timestamp(text) is None


@settings(max_examples=60, deadline=None)
@given(st.datetimes())
def test_a_formatted_timestamp_parses_to_the_same(moment: datetime) -> None:
    text = moment.isoformat(timespec="microseconds") + "Z"
    micros = parse_timestamp(text)

    assert micros is not None
    assert format_timestamp(micros) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00.000000Z"),
        ("9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59.999999Z"),
        ("9999-12-31T23:59:60Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_a_moment_beyond_the_years_of_the_calendar_is_shown_as_its_end(text: str, shown: str) -> None:
    """A trigger may have it, and people are listed all the same."""
    micros = parse_timestamp(text)
    assert micros is not None
    assert format_timestamp(micros) == shown
