"""What a client learns of its endpoint, and that it forgets after an hour. The clock is passed in."""

from __future__ import annotations

import pytest

from brockman.delivery.endpoint import FORGET_AFTER, Lessons


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=[0.0, -5.0, 1e9], ids="clock starts at {:g}".format)
def clock(request):
    return Clock(request.param)


@pytest.fixture
def lessons(clock):
    return Lessons(1000, clock)


def test_a_new_client_knows_nothing(lessons):
    """At first arrays of the full size are tried, and none is known to work."""
    assert lessons.singles_only is False
    assert lessons.max_bytes == 1000
    assert lessons.arrays_work is False


def test_an_array_is_tried_again_after_an_hour(lessons, clock):
    """A server that knows no arrays gets single objects for an hour, to the second."""
    lessons.learn_singles()
    assert lessons.singles_only is True
    clock.now += 3599
    assert lessons.singles_only is True
    clock.now += 1
    assert lessons.singles_only is False


def test_the_hour_begins_anew_when_arrays_are_refused_again(lessons, clock):
    """Each refusal counts from its own time."""
    lessons.learn_singles()
    clock.now += FORGET_AFTER - 1
    lessons.learn_singles()
    clock.now += FORGET_AFTER - 1
    assert lessons.singles_only is True
    clock.now += 1
    assert lessons.singles_only is False


def test_a_smaller_limit_is_remembered_for_an_hour(lessons, clock):
    """A body that was too large halves the limit, for an hour."""
    lessons.learn_limit(900)
    assert lessons.max_bytes == 450
    clock.now += 3599
    assert lessons.max_bytes == 450
    clock.now += 1
    assert lessons.max_bytes == 1000


def test_the_limit_only_falls(lessons):
    """A lesson of a larger body that is told late does not raise the limit again."""
    lessons.learn_limit(200)
    lessons.learn_limit(900)
    assert lessons.max_bytes == 100


def test_the_limit_never_exceeds_the_option(lessons):
    """`max_batch_bytes` stays the most, however large the body that was refused."""
    lessons.learn_limit(1_000_000)
    assert lessons.max_bytes == 1000


def test_a_forgotten_limit_does_not_come_back(lessons, clock):
    """After an hour the next lesson starts from the option, not from the old limit."""
    lessons.learn_limit(20)
    clock.now += FORGET_AFTER
    lessons.learn_limit(900)
    assert lessons.max_bytes == 450


def test_the_lessons_are_independent(lessons):
    """A limit says nothing about arrays, nor the other way round."""
    lessons.learn_limit(500)
    assert lessons.singles_only is False
    lessons.learn_singles()
    assert lessons.max_bytes == 250
    assert lessons.arrays_work is False
