"""The id and the time of a trigger, and the two clocks."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import count, islice

import pytest
from freezegun import freeze_time
from hypothesis import example, given, settings
from hypothesis import strategies as st

import brockman.trigger.encode
from brockman.process import clock
from brockman.process.clock import REAL_NS
from brockman.process.threads import serialize_calls
from brockman.trigger.encode import encode_trigger
from brockman.trigger.ids import make_ids
from tests.support.programs import ran_python

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
@given(st.binary(min_size=8, max_size=8), st.integers(1, 5000))
@example(b"\0" * 8, 4097)
@example(b"\xff" * 8, 4097)
def test_every_id_is_a_uuid(drawn, number):
    """Valid, of version 7, in the canonical form, whatever random bytes it is made of."""
    ids = list(islice(make_ids(lambda size: drawn[:size], *REAL_NS), number))
    for text in (ids[0], ids[-1]):
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert parsed.version == 7
        assert parsed.variant == uuid.RFC_4122
    assert len(set(ids)) == number


def test_an_id_holds_the_time_of_the_call():
    """Its first 48 bits are Unix time in milliseconds, so they sort by time: good for a database index."""
    ids = make_ids(os.urandom, *REAL_NS)
    for _ in range(1000):
        before = time.time_ns() // 1_000_000
        made = uuid.UUID(next(ids)).int >> 80
        assert before <= made <= time.time_ns() // 1_000_000


def test_two_clients_never_share_an_id():
    """All random bits are in the ids: 62 beside the time, the version and the variant."""

    def first(drawn: int) -> str:
        return next(make_ids(lambda size: drawn.to_bytes(size, "big"), lambda: 0, lambda: 1))

    assert len({first(1 << bit) for bit in range(64)}) == 62 + 1  # the variant's bits are set whatever is drawn


def draw_from_threads(next_id: Callable[[], str], number: int) -> list[str]:
    """Return what eight threads draw at once, each `number` ids."""
    start = threading.Barrier(8)
    made: list[list[str]] = []

    def make() -> None:
        start.wait()
        made.append([next_id() for _ in range(number)])

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [text for ids in made for text in ids]


def test_no_two_threads_get_the_same_id():
    """One client used from many threads at once never makes an id twice."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        ids = draw_from_threads(serialize_calls(make_ids(os.urandom, *REAL_NS).__next__), 5000)
    finally:
        sys.setswitchinterval(before)
    assert len(set(ids)) == len(ids) == 8 * 5000


@pytest.mark.parametrize("step", [0, 1, -1, -(10**14)], ids=["stands", "is slow", "goes back", "shows 1940"])
def test_ids_are_unique_whatever_the_clock_shows(step):
    """As in a test that freezes or moves the time, and between two ticks of a coarse clock."""
    shown = count(10**18, step)
    ids = list(islice(make_ids(os.urandom, lambda: next(shown), REAL_NS[1]), 20_000))
    assert len(set(ids)) == 20_000
    assert all(str(uuid.UUID(text)) == text for text in ids[::100])


def test_a_signal_handler_never_repeats_an_id():
    """Nor does a finalizer: both may run whenever Python code does, and take ids of the same client."""
    next_id = make_ids(os.urandom, *REAL_NS).__next__
    made: list[str] = []

    class Final:
        def __del__(self) -> None:
            made.append(next_id())

    def handle(*_: object) -> None:
        made.append(next_id())
        one = Final()
        one.itself = one

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    try:
        drawn = [next_id() for _ in range(300_000)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    assert len(made) > 2
    assert len(set(drawn) | set(made)) == len(drawn) + len(made)


COPIES = """
import os
from brockman.process.clock import REAL_NS
from brockman.trigger.ids import make_ids

next_id = make_ids(os.urandom, *REAL_NS).__next__
next_id()
child = os.fork()  # without the client's hooks: both go on with the same state
ids = [next_id() for _ in range(500_000)]
if child:
    os.wait()
print(*ids, flush=True)
"""


def test_two_copies_of_one_process_make_different_ids():
    """Copies of one memory image, as of a snapshot that is restored twice, repeat no id of each other."""
    copies = ran_python(COPIES).out.split()
    assert len(set(copies)) == len(copies) == 1_000_000


def test_two_copies_that_take_turns_make_different_ids():
    """The first ids too, in the same millisecond and with the same counter."""
    for _ in range(1000):
        drawn = os.urandom(16)
        one, two = (make_ids(lambda size, drawn=drawn: drawn[:size], *REAL_NS) for _ in range(2))
        ids = [text for pair in islice(zip(one, two, strict=False), 10) for text in pair]
        assert len(set(ids)) == 20


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
