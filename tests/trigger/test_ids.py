"""The id and the time of a trigger, and the two clocks."""

from __future__ import annotations

import json
import os
import threading
import uuid
from datetime import datetime, timedelta, timezone
from itertools import islice

import pytest
from freezegun import freeze_time
from hypothesis import example, given, settings
from hypothesis import strategies as st

import brockman.trigger.encode
from brockman.process import clock
from brockman.trigger.encode import encode_trigger
from brockman.trigger.ids import make_ids

ENCODERS = [
    pytest.param(
        True, id="orjson", marks=pytest.mark.skipif(not brockman.trigger.encode.orjson, reason="no orjson")
    ),
    pytest.param(False, id="json"),
]


def recorded_at(moment: datetime, *, fast: bool) -> str:
    """Return the time in the JSON of a trigger."""
    with pytest.MonkeyPatch.context() as patch:
        if not fast:
            patch.setattr(brockman.trigger.encode, "orjson", None)
        body = encode_trigger("7", "viewed", "page", None, None, None, "an id", moment, 32 * 1024)
    return json.loads(body)["recorded_at"]


@settings(deadline=None, database=None)
@given(st.binary(min_size=10, max_size=10), st.integers(1, 5000))
@example(b"\0" * 10, 4097)
@example(b"\xff" * 10, 4097)
def test_every_id_is_a_uuid(drawn, count):
    """Valid, of version 8, in the canonical form, whatever random bytes it is made of."""
    ids = list(islice(make_ids(lambda size: drawn[:size]), count))
    for text in (ids[0], ids[-1]):
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert parsed.version == 8
        assert parsed.variant == uuid.RFC_4122
    assert len(set(ids)) == count


def test_the_ids_of_one_client_count_up():
    """Ids sort in the order of recording, also over a carry: good for a database index."""
    ids = list(islice(make_ids(os.urandom), 3 * 4096))
    assert ids == sorted(ids)
    first = uuid.UUID(ids[0]).int
    assert [uuid.UUID(text).int - first for text in ids] == list(range(3 * 4096))


def test_two_clients_never_share_an_id():
    """All random bits are in the ids: 74 beside the version and the variant."""
    with_bit = {next(make_ids(lambda size, bit=bit: (1 << bit).to_bytes(size, "big"))) for bit in range(80)}
    assert len(with_bit) == 80 - 6 + 1  # the six bits of version and variant are set whatever is drawn


def test_no_two_threads_get_the_same_id():
    """One client used from many threads at once never makes an id twice."""
    next_id = make_ids(os.urandom).__next__
    start = threading.Barrier(8)
    made: list[list[str]] = []

    def make() -> None:
        start.wait()
        made.append([next_id() for _ in range(5000)])

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({text for ids in made for text in ids}) == 8 * 5000


MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(timezone.utc))


@pytest.mark.parametrize("fast", ENCODERS)
@settings(deadline=None, database=None)
@given(MOMENTS)
@example(datetime(2026, 11, 23, 17, 22, 32, 0, timezone.utc))
@example(datetime(2026, 11, 23, 17, 22, 32, 1, timezone.utc))
@example(datetime(2026, 11, 23, 17, 22, 32, 999_999, timezone.utc))
@example(datetime(1970, 1, 1, tzinfo=timezone.utc))
def test_the_time_is_rfc_3339_in_utc_with_microseconds(fast, moment):
    """Always six digits and a Z, also on the full second, so that the texts sort as the times do."""
    text = recorded_at(moment, fast=fast)
    assert text == moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"
    assert datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z") == moment


@pytest.mark.parametrize("fast", ENCODERS)
def test_a_frozen_time_is_recorded(fast):
    """A test that freezes time finds the frozen time in its triggers."""
    with freeze_time("2012-01-14 03:21:34", auto_tick_seconds=0):
        assert recorded_at(datetime.now(timezone.utc), fast=fast) == "2012-01-14T03:21:34.000000Z"
    with freeze_time("2012-01-14 03:21:34.000007"):
        assert recorded_at(datetime.now(timezone.utc), fast=fast) == "2012-01-14T03:21:34.000007Z"


def test_the_monotonic_clock_is_not_frozen():
    """Deadlines pass also in a test that freezes time."""
    with freeze_time("2012-01-14") as frozen:
        before = clock.monotonic()
        frozen.tick(timedelta(days=1))
        assert any(clock.monotonic() > before for _ in range(1_000_000))
        assert clock.monotonic() - before < 3600


def test_the_wall_clock_is_the_frozen_one():
    """Dates are compared with the time that a test has set."""
    with freeze_time("2012-01-14"):
        assert clock.wall() == datetime(2012, 1, 14, tzinfo=timezone.utc).timestamp()


def test_the_monotonic_clock_never_goes_back():
    """1000 readings are in order."""
    readings = [clock.monotonic() for _ in range(1000)]
    assert readings == sorted(readings)
