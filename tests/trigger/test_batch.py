"""Batches: the request body, its size, its halves, and the verdicts of a 207."""

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


def test_one_trigger_is_the_bare_object():
    """The published API: one trigger is an object, not an array of one."""
    assert encode_batch([b'{"a":1}']) == b'{"a":1}'


def test_several_triggers_are_an_array_of_the_same_bytes():
    """Several triggers are a JSON array, in the order of recording, each as it was encoded."""
    assert encode_batch([b'{"a":1}', b'{"b":2}', b'{"c":3}']) == b'[{"a":1},{"b":2},{"c":3}]'


@settings(deadline=None, database=None)
@given(BODIES)
def test_what_goes_out_is_what_was_recorded(bodies):
    """A request body is JSON that holds each trigger once, in order, and takes as many bytes as was reckoned."""
    body = encode_batch(bodies)
    parsed = json.loads(body)
    assert (parsed if len(bodies) > 1 else [parsed]) == [json.loads(one) for one in bodies]
    assert encoded_size(bodies) == len(body)


@settings(deadline=None, database=None, max_examples=300)
@given(SIZES, st.integers(0, 5000))
@example([b"xx", b"x"], 6)
@example([b"xx", b"x"], 5)
@example([b"xx"], 1)
def test_a_request_is_as_full_as_its_limit_allows(bodies, max_bytes):
    """As many triggers as fit, not one more, but always one: a trigger larger than the limit is not stuck."""
    fitting = count_fitting(bodies, max_bytes)
    assert 1 <= fitting <= len(bodies)
    assert fitting == 1 or len(encode_batch(bodies[:fitting])) <= max_bytes
    assert fitting == len(bodies) or len(encode_batch(bodies[: fitting + 1])) > max_bytes


@settings(deadline=None, database=None)
@given(SIZES)
def test_a_limit_is_kept_to_the_byte(bodies):
    """A body of exactly the limit goes out whole; with one byte less the last trigger waits."""
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


def test_the_verdicts_of_a_mixed_answer():
    """Each rejected trigger gets the server's own words; those not named were accepted."""
    answer = b'{"rejected": [{"index": 3, "error": "no such action"}, {"index": 0, "error": "too old"}]}'
    assert parse_verdicts(answer, 4) == {3: "no such action", 0: "too old"}
    assert parse_verdicts(b'{"rejected": []}', 4) == {}


def test_more_than_was_asked_is_passed_over():
    """Fields that the API may add later do not disturb."""
    answer = b'{"accepted": 1, "rejected": [{"index": 1, "error": "e", "code": 7}], "took": 0.1}'
    assert parse_verdicts(answer, 2) == {1: "e"}


def test_a_verdict_without_words_is_a_verdict():
    """A server that does not say why has still rejected."""
    assert parse_verdicts(b'{"rejected": [{"index": 1}]}', 2) == {1: ""}


def test_words_that_are_no_text_are_shown_as_they_are():
    """Structured words are not lost, and harm nothing."""
    answer = b'{"rejected": [{"index": 0, "error": {"action": ["unknown"]}}, {"index": 1, "error": 7}]}'
    assert parse_verdicts(answer, 2) == {0: "{'action': ['unknown']}", 1: "7"}


@pytest.mark.parametrize("index", ["-1", "2", "1000000", "1" + "0" * 400], ids=lambda index: index[:8])
def test_an_index_that_was_not_sent_is_passed_over(index):
    """A server that counts wrong does not make the client count wrong."""
    answer = b'{"rejected": [{"index": %s, "error": "e"}, {"index": 1, "error": "f"}]}' % index.encode()
    assert parse_verdicts(answer, 2) == {1: "f"}


def test_an_index_named_twice_counts_once():
    """The first words stand."""
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
def test_an_answer_that_cannot_be_read_gives_no_verdict(answer):
    """What is not as the API says is no verdict on anything: nothing is settled by it."""
    assert parse_verdicts(answer, 2) is None


@pytest.mark.parametrize("rejected", [b'""', b"{}"])
def test_an_empty_list_of_another_kind_gives_no_verdict(rejected):
    """Only a list can say that none was rejected."""
    assert parse_verdicts(b'{"rejected": %s}' % rejected, 2) is None


@pytest.mark.parametrize("index", [b"null", b"true", b'"1"', b"1.0", b"1.5", b"1e0", b"[1]", b"{}"])
def test_an_index_that_is_no_whole_number_gives_no_verdict(index):
    """The server has rejected something, and did not say what: none of the triggers counts as accepted."""
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
def test_no_answer_is_an_error(answer, count):
    """Whatever a server says, the verdicts are none, or words for triggers that were sent."""
    verdicts = parse_verdicts(answer, count)
    if verdicts is not None:
        assert set(verdicts) <= set(range(count))
        assert all(type(words) is str for words in verdicts.values())
