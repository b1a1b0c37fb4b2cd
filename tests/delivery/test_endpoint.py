"""The limits of an endpoint: remembered for an hour, by a clock that is passed in."""

from __future__ import annotations

import pytest

from brockman.delivery.endpoint import FORGET_AFTER, EndpointLimits


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


def test_an_array_is_tried_again_after_an_hour(limits, clock):
    """A server that accepts no arrays gets single objects for an hour, to the second."""
    limits.remember_singles_only()
    assert limits.singles_only is True
    clock.now += 3599
    assert limits.singles_only is True
    clock.now += 1
    assert limits.singles_only is False


def test_the_hour_starts_again_when_arrays_are_rejected_again(limits, clock):
    """The hour is counted from the last rejection."""
    limits.remember_singles_only()
    clock.now += FORGET_AFTER - 1
    limits.remember_singles_only()
    clock.now += FORGET_AFTER - 1
    assert limits.singles_only is True
    clock.now += 1
    assert limits.singles_only is False


def test_a_smaller_limit_is_remembered_for_an_hour(limits, clock):
    """The limit is half the size of the body that was too large, for an hour."""
    limits.remember_size(900)
    assert limits.max_bytes == 450
    clock.now += 3599
    assert limits.max_bytes == 450
    clock.now += 1
    assert limits.max_bytes == 1000


def test_the_limit_only_falls(limits):
    """The rejection of a larger body that is noted later does not raise the limit."""
    limits.remember_size(200)
    limits.remember_size(900)
    assert limits.max_bytes == 100


def test_the_limit_never_exceeds_the_option(limits):
    """`max_batch_bytes` stays the upper bound, however large the body that was rejected."""
    limits.remember_size(1_000_000)
    assert limits.max_bytes == 1000


def test_an_expired_limit_does_not_return(limits, clock):
    """After an hour a new limit starts from the option, not from the old limit."""
    limits.remember_size(20)
    clock.now += FORGET_AFTER
    limits.remember_size(900)
    assert limits.max_bytes == 450


def test_the_limits_are_independent(limits):
    """A limit in bytes changes nothing about arrays, nor the other way round."""
    limits.remember_size(500)
    assert limits.singles_only is False
    limits.remember_singles_only()
    assert limits.max_bytes == 250
    assert limits.arrays_work is False
