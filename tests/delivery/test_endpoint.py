"""The limits of an endpoint: they grow back by probing, on a clock that is passed in."""

from __future__ import annotations

import pytest

from brockman.delivery.endpoint import EndpointLimits


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=[0.0, -5.0, 1e9], ids="clock starts at {:g}".format)
def clock(request):
    return Clock(request.param)


@pytest.fixture
def limits(clock):
    return EndpointLimits(1000, clock)


def test_no_limit_is_known_at_first(limits):
    """Arrays of the full size are tried, and none is known to work."""
    assert limits.singles_only is False
    assert limits.max_bytes == 1000
    assert limits.arrays_work is False


def test_an_array_is_tried_again_after_a_minute_and_then_ever_later(limits, clock):
    """A server that accepts no arrays gets one once an hour in the end; one that had a bad minute, soon."""
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60]:
        limits.remember_singles_only()
        clock.now += 60 * minutes - 0.5
        assert limits.singles_only is True
        clock.now += 0.5
        assert limits.singles_only is False


def test_arrays_are_tried_again_within_seconds_where_they_worked_before(limits, clock):
    """The pause doubles up to five minutes while they are refused, and is a second again after one that passes."""
    limits.remember_array()
    for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]:
        limits.remember_singles_only()
        clock.now += pause - 0.5
        assert limits.singles_only is True
        clock.now += 0.5
        assert limits.singles_only is False
    limits.remember_array()
    limits.remember_singles_only()
    clock.now += 1
    assert limits.singles_only is False


def test_long_arrays_are_tried_again_after_five_minutes(limits, clock):
    """They are worth a try once any array has passed, and not for a while after one was refused."""
    assert limits.takes_long is False
    limits.remember_array()
    assert limits.takes_long is True
    limits.remember_short_arrays()
    clock.now += 299
    assert limits.takes_long is False
    clock.now += 1
    assert limits.takes_long is True


def test_a_smaller_limit_grows_back_within_seconds_of_success(limits, clock):
    """Half of what was refused; a second later twice as much is tried, and doubled at each success."""
    limits.size.refused(900)
    limits.size.refused(450)
    assert limits.max_bytes == 225
    clock.now += 1
    for size in [453, 909, 1000]:
        assert limits.max_bytes == size
        limits.size.passed(size)
    assert limits.max_bytes == 1000


def test_only_a_request_as_large_as_a_probe_raises_the_limit(limits, clock):
    """Small requests that pass say nothing about larger ones."""
    limits.size.refused(800)
    clock.now += 1
    limits.size.passed(300)
    limits.size.refused(401)
    assert limits.max_bytes == 400


def test_a_limit_that_stays_costs_a_probe_in_five_minutes(limits, clock):
    """Each refused probe doubles the time until the next one."""
    limits.size.refused(1000)
    for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]:
        assert limits.max_bytes == 500
        clock.now += pause
        assert limits.max_bytes == 1000
        limits.size.refused(1000)


def test_the_limit_never_exceeds_the_option(limits):
    """`max_batch_bytes` stays the upper bound, however large a body that passed."""
    limits.size.passed(1_000_000)
    assert limits.max_bytes == 1000


def test_the_limits_are_independent(limits):
    """A limit in bytes changes nothing about arrays, nor the other way round."""
    limits.size.refused(500)
    assert limits.singles_only is False
    limits.remember_singles_only()
    assert limits.max_bytes == 250
    assert limits.arrays_work is False
