"""Batches: the request body, its size, its halves, and the rejections in a 207."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brockman.trigger.batch import count_fitting, encode_batch, encoded_size, halve, parse_verdicts

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


def test_the_rejections_of_a_mixed_response():
    """Each rejected trigger gets the server's message; those not listed were accepted."""
    answer = b'{"rejected": [{"index": 3, "error": "no such action"}, {"index": 0, "error": "too old"}]}'
    assert parse_verdicts(answer, 4) == {3: "no such action", 0: "too old"}
    assert parse_verdicts(b'{"rejected": []}', 4) == {}


def test_unknown_fields_are_ignored():
    """The API may add fields later."""
    answer = b'{"accepted": 1, "rejected": [{"index": 1, "error": "e", "code": 7}], "took": 0.1}'
    assert parse_verdicts(answer, 2) == {1: "e"}


def test_a_rejection_without_a_message_is_a_rejection():
    """The message is empty then."""
    assert parse_verdicts(b'{"rejected": [{"index": 1}]}', 2) == {1: ""}


def test_a_message_that_is_no_string_is_shown_as_it_is():
    """Structured messages are converted to text."""
    answer = b'{"rejected": [{"index": 0, "error": {"action": ["unknown"]}}, {"index": 1, "error": 7}]}'
    assert parse_verdicts(answer, 2) == {0: "{'action': ['unknown']}", 1: "7"}


@pytest.mark.parametrize("index", ["-1", "2", "1000000", "1" + "0" * 400], ids=lambda index: index[:8])
def test_an_index_out_of_range_is_ignored(index):
    """A server that counts wrong does not make the client's counts wrong."""
    answer = b'{"rejected": [{"index": %s, "error": "e"}, {"index": 1, "error": "f"}]}' % index.encode()
    assert parse_verdicts(answer, 2) == {1: "f"}


def test_an_index_named_twice_counts_once():
    """The first message is kept."""
    answer = b'{"rejected": [{"index": 1, "error": "e"}, {"index": 1, "error": "f"}]}'
    assert parse_verdicts(answer, 2) == {1: "e"}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b" ",
        b"null",
        b"true",
        b"7",
        b'"rejected"',
        b"[]",
        b'[{"index": 1, "error": "e"}]',
        b"{}",
        b'{"Rejected": []}',
        b'{"accepted": 2}',
        b'{"rejected": null}',
        b'{"rejected": true}',
        b'{"rejected": 1}',
        b'{"rejected": "none"}',
        b'{"rejected": {"index": 1, "error": "e"}}',
        b'{"rejected": [1]}',
        b'{"rejected": ["1"]}',
        b'{"rejected": [null]}',
        b'{"rejected": [[1, "e"]]}',
        b'{"rejected": [{}]}',
        b'{"rejected": [{"error": "e"}]}',
        b'{"rejected": [{"index": 1, "error": "e"}, {"error": "f"}]}',
        b'{"rejected": [{"index": 1, "error": "e"}',
        b'{"rejected": [{"index": 1, "error": "e"}]} trailing',
        b'{"rejected": [{"index": ' + b"1" * 5000 + b"}]}",
        b'{"rejected": ' + b"[" * 200_000,
        b'{"rejected": [{"index": 1, "error": "\xff"}]}',
        b"\x00\x01\x02",
        b"<html></html>",
    ],
    ids=lambda answer: ascii(answer[:50])[2:-1],
)
def test_an_unreadable_body_gives_none(answer):
    """A body that does not follow the API settles nothing."""
    assert parse_verdicts(answer, 2) is None


@pytest.mark.parametrize("rejected", [b'""', b"{}"])
def test_an_empty_value_of_another_type_gives_none(rejected):
    """Only an empty list means that none was rejected."""
    assert parse_verdicts(b'{"rejected": %s}' % rejected, 2) is None


@pytest.mark.parametrize("index", [b"null", b"true", b'"1"', b"1.0", b"1.5", b"1e0", b"[1]", b"{}"])
def test_an_index_that_is_no_integer_gives_none(index):
    """It is unknown which trigger was rejected, so none counts as accepted."""
    assert parse_verdicts(b'{"rejected": [{"index": %s, "error": "e"}]}' % index, 2) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["rejected", "index", "error", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None, database=None, max_examples=300)
@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40), st.integers(1, 5))
def test_no_body_raises_an_error(answer, count):
    """For any body the result is None, or messages for triggers that were sent."""
    verdicts = parse_verdicts(answer, count)
    if verdicts is not None:
        assert set(verdicts) <= set(range(count))
        assert all(type(words) is str for words in verdicts.values())
