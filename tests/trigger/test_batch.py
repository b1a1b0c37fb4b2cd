"""Batches: the request body, its size and its halves."""

from __future__ import annotations

import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from brockman.trigger.batch import count_fitting, encode_batch, encoded_size, halve

BODIES = st.lists(
    st.dictionaries(st.text(max_size=3), st.text(max_size=30), max_size=3).map(lambda d: json.dumps(d).encode()),
    min_size=1,
    max_size=12,
)
SIZES = st.lists(st.integers(1, 400).map(lambda size: b"x" * size), min_size=1, max_size=40)


def test_one_trigger_is_a_bare_object():
    """The published API: one trigger is an object, not an array of one."""
    assert encode_batch([b'{"a":1}']) == b'{"a":1}'


def test_several_triggers_are_an_array_of_the_same_bytes():
    """Several triggers are a JSON array, in the order of recording, each as it was encoded."""
    assert encode_batch([b'{"a":1}', b'{"b":2}', b'{"c":3}']) == b'[{"a":1},{"b":2},{"c":3}]'


@settings(deadline=None, database=None)
@given(BODIES)
def test_a_request_holds_the_recorded_triggers(bodies):
    """A request body is JSON that holds each trigger once, in order, and has the calculated size."""
    body = encode_batch(bodies)
    parsed = json.loads(body)
    assert (parsed if len(bodies) > 1 else [parsed]) == [json.loads(one) for one in bodies]
    assert encoded_size(bodies) == len(body)


@settings(deadline=None, database=None, max_examples=300)
@given(SIZES, st.integers(0, 5000))
@example([b"xx", b"x"], 6)
@example([b"xx", b"x"], 5)
@example([b"xx"], 1)
def test_a_request_holds_as_many_triggers_as_fit(bodies, max_bytes):
    """At least one: a trigger larger than the limit does not block the others."""
    fitting = count_fitting(bodies, max_bytes)
    assert 1 <= fitting <= len(bodies)
    assert fitting == 1 or len(encode_batch(bodies[:fitting])) <= max_bytes
    assert fitting == len(bodies) or len(encode_batch(bodies[: fitting + 1])) > max_bytes


@settings(deadline=None, database=None)
@given(SIZES)
def test_the_limit_is_exact(bodies):
    """A body of exactly the limit is sent whole; with one byte less the last trigger waits."""
    size = len(encode_batch(bodies))
    assert count_fitting(bodies, size) == len(bodies)
    assert count_fitting(bodies, size - 1) == max(1, len(bodies) - 1)


@settings(deadline=None, database=None)
@given(st.lists(st.binary(max_size=3), min_size=2, max_size=50))
def test_halves_lose_nothing_and_keep_the_order(bodies):
    """Two halves, neither empty, as even as can be, the older first; halving ends at single triggers."""
    older, newer = halve(bodies)
    assert [*older, *newer] == bodies
    assert 0 <= len(older) - len(newer) <= 1
    assert newer
