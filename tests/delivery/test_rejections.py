"""The rejections in a 207: no body of a server makes the counts wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brockman.delivery.policy import parse_rejections


def test_the_rejections_of_a_mixed_response():
    """Each rejected trigger gets the server's message; those not listed were accepted."""
    answer = b'{"rejected": [{"index": 3, "error": "no such action"}, {"index": 0, "error": "too old"}]}'
    assert parse_rejections(answer, 4) == {3: "no such action", 0: "too old"}
    assert parse_rejections(b'{"rejected": []}', 4) == {}


def test_unknown_fields_are_ignored():
    """The API may add fields later."""
    answer = b'{"accepted": 1, "rejected": [{"index": 1, "error": "e", "code": 7}], "took": 0.1}'
    assert parse_rejections(answer, 2) == {1: "e"}


def test_a_rejection_without_a_message_is_a_rejection():
    """The message is empty then."""
    assert parse_rejections(b'{"rejected": [{"index": 1}]}', 2) == {1: ""}


def test_a_message_that_is_no_string_is_shown_as_it_is():
    """Structured messages are converted to text."""
    answer = b'{"rejected": [{"index": 0, "error": {"action": ["unknown"]}}, {"index": 1, "error": 7}]}'
    assert parse_rejections(answer, 2) == {0: "{'action': ['unknown']}", 1: "7"}


@pytest.mark.parametrize("index", ["-1", "2", "1000000", "1" + "0" * 400], ids=lambda index: index[:8])
def test_an_index_out_of_range_is_ignored(index):
    """A server that counts wrong does not make the client's counts wrong."""
    answer = b'{"rejected": [{"index": %s, "error": "e"}, {"index": 1, "error": "f"}]}' % index.encode()
    assert parse_rejections(answer, 2) == {1: "f"}


def test_an_index_named_twice_counts_once():
    """The first message is kept."""
    answer = b'{"rejected": [{"index": 1, "error": "e"}, {"index": 1, "error": "f"}]}'
    assert parse_rejections(answer, 2) == {1: "e"}


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
    assert parse_rejections(answer, 2) is None


@pytest.mark.parametrize("rejected", [b'""', b"{}"])
def test_an_empty_value_of_another_type_gives_none(rejected):
    """Only an empty list means that none was rejected."""
    assert parse_rejections(b'{"rejected": %s}' % rejected, 2) is None


@pytest.mark.parametrize("index", [b"null", b"true", b'"1"', b"1.0", b"1.5", b"1e0", b"[1]", b"{}"])
def test_an_index_that_is_no_integer_gives_none(index):
    """It is unknown which trigger was rejected, so none counts as accepted."""
    assert parse_rejections(b'{"rejected": [{"index": %s, "error": "e"}]}' % index, 2) is None


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
    errors = parse_rejections(answer, count)
    if errors is not None:
        assert set(errors) <= set(range(count))
        assert all(type(words) is str for words in errors.values())
