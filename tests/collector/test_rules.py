"""The rules for triggers, without a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brockman.collector import strict_json
from brockman.collector.errors import Refusal
from brockman.collector.ingest import MAX_VERDICTS, read_triggers, verdicts
from brockman.collector.timestamps import format_instant, parse_instant
from brockman.collector.validation import MAX_ERROR_CHARS, InvalidTrigger, make_row
from tests.collector.running import trigger

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
texts = st.text(alphabet='a"\\\n\x00€😀\u2028', max_size=8) | st.just("x" * 300)
numbers = st.sampled_from([0, -1, 2**63, 2**64, 2**70, 10**400, 0.5, 1e308, 5e-324])
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(texts, children, max_size=3),
    max_leaves=6,
)
NAMES = ["actor_id", "action", "object", "id", "recorded_at", "captured_identities", "variables"]
near_triggers = st.dictionaries(st.sampled_from(NAMES), json_values).map(
    lambda change: {**trigger(), **change}
) | st.dictionaries(st.sampled_from(NAMES), json_values)


def refuse_id() -> str:
    raise AssertionError("an id was given")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"actor_id": None}, "actor_id: null; give a string that is not empty"),
        ({"actor_id": 7}, "actor_id: a number; give a string that is not empty"),
        ({"action": " \t"}, "action: empty; give a string that is not empty"),
        ({"object": ["x"]}, "object: a list; give a string that is not empty"),
        ({"object": True}, "object: a boolean; give a string that is not empty"),
        ({"variables": []}, "variables: a list; give an object"),
        ({"variables": 0}, "variables: a number; give an object"),
        ({"captured_identities": ""}, "captured_identities: a string; give an object"),
        ({"captured_attributes": False}, "captured_attributes: a boolean; give an object"),
        ({"variables": {"a": {}}}, "variables['a']: an object; give a string, number, boolean or list of these"),
        ({"variables": {"a": None}}, "variables['a']: null; give a string, number, boolean or list of these"),
        ({"variables": {"a": [[]]}}, "variables['a'][0]: a list; give a string, number or boolean"),
        (
            {"variables": {'"\\\n': None}},
            "variables['???']: null; give a string, number, boolean or list of these",
        ),
        ({"id": "x"}, "id: 'x'; give a UUID, the same on every attempt"),
        ({"id": 7}, "id: a number; give a UUID, the same on every attempt"),
        ({"id": "1_" + "0" * 31}, "id: '1_00000000000000000…'; give a UUID, the same on every attempt"),
        ({"recorded_at": 7}, "recorded_at: a number; give RFC 3339, as 2026-11-23T17:22:32Z"),
        ({"recorded_at": "now"}, "recorded_at: 'now'; give RFC 3339, as 2026-11-23T17:22:32Z"),
    ],
)
def test_a_refusal_says_where_what_and_what_would_be_right(change: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidTrigger) as caught:
        make_row(trigger(**change), 0, refuse_id)

    assert str(caught.value) == text


@few
@given(near_triggers)
def test_any_object_is_stored_or_refused_in_few_words(candidate: dict[str, Any]) -> None:
    try:
        row = make_row(candidate, 1_790_000_000_000_000, lambda: "11111111-1111-8111-8111-111111111111")
    except InvalidTrigger as error:
        text = str(error)
        assert 0 < len(text) <= MAX_ERROR_CHARS
        assert len(json.dumps(text, ensure_ascii=False)) == len(text) + 2
    else:
        assert json.loads(row[-1]) == candidate


@few
@given(st.binary() | st.lists(near_triggers | json_values, max_size=8).map(lambda v: json.dumps(v).encode()))
def test_no_body_makes_a_fault(body: bytes) -> None:
    try:
        intake = read_triggers(body, 0)
    except Refusal as refusal:
        status = refusal.status
    else:
        parsed = json.loads(body)
        assert len(intake.rows) + len(intake.errors) == (len(parsed) if isinstance(parsed, list) else 1)
        status = 400
    assert status == 400


@few
@given(st.lists(st.text(alphabet="a€😀", max_size=MAX_ERROR_CHARS), min_size=1, max_size=MAX_VERDICTS))
def test_verdicts_fit_into_60_kib_whatever_they_say(texts: list[str]) -> None:
    entries = verdicts(list(enumerate(texts, start=10_000 - len(texts))))

    answer = strict_json.dump({"accepted": 10_000 - len(texts), "rejected": entries})
    assert len(answer.encode()) <= 60 * 1024
    assert len(entries) == len(texts)
    assert all(text.startswith(str(entry["error"])) for entry, text in zip(entries, texts, strict=True))


def test_few_verdicts_are_not_shortened() -> None:
    text = "x" * MAX_ERROR_CHARS

    assert all(entry["error"] == text for entry in verdicts([(index, text) for index in range(450)]))


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
def test_instants_are_read_to_the_microsecond(text: str, seconds: float) -> None:
    assert parse_instant(text) == round(seconds * 1e6)


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
def test_other_forms_of_time_are_not_read(text: str) -> None:
    assert parse_instant(text) is None


@few
@given(st.datetimes())
def test_instants_survive_the_way_there_and_back(moment: Any) -> None:
    text = moment.isoformat(timespec="microseconds") + "Z"
    micros = parse_instant(text)

    assert micros is not None
    assert format_instant(micros) == text


PARSERS: list[tuple[Callable[[bytes], Any], Callable[[Any], str]]] = [
    (strict_json.parse_with_json, strict_json.dump_with_json)
]
if find_spec("orjson") is not None:
    PARSERS.append((strict_json.parse_with_orjson, strict_json.dump_with_orjson))


@pytest.mark.parametrize(("parse", "dump"), PARSERS)
class TestStrictJson:
    """With orjson or without it, the same bodies are taken."""

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"NaN",
            b"[Infinity]",
            b"1e400",
            b"-1e400",
            b"9" * 400,
            b"9" * 5000,
            b'"\\ud800"',
            b'"\\udc00\\ud800"',
            b'{"\\ud800": 1}',
            b'"\xed\xa0\x80"',
            b"\xff",
            b"\xef\xbb\xbf1",
            "1".encode("utf-16"),
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"[" * 100_000 + b"]" * 100_000,
            b"1 2",
            b"01",
            b"'a'",
            b'"\t"',
        ],
        ids=lambda body: repr(body[:16]),
    )
    def test_is_refused(self, parse: Callable[[bytes], Any], dump: Callable[[Any], str], body: bytes) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - each parser has words of its own
            parse(body)

    @pytest.mark.parametrize(
        ("body", "value"),
        [
            (b'{"a": 1, "a": 2}', {"a": 2}),
            (b'"\\ud83d\\ude00"', "😀"),
            (b'"\\u0000"', "\x00"),
            (b"18446744073709551615", 2**64 - 1),
            (b"-9223372036854775808", -(2**63)),
            (b"18446744073709551616", 18446744073709551616.0),
            (b"-9223372036854775809", -9223372036854775809.0),
            (b"1" + b"0" * 300, 1e300),
            (b"[1.5, true, null]", [1.5, True, None]),
        ],
    )
    def test_is_taken(
        self, parse: Callable[[bytes], Any], dump: Callable[[Any], str], body: bytes, value: object
    ) -> None:
        parsed = parse(body)

        assert parsed == value
        assert type(parsed) is type(value)

    def test_text_comes_back(self, parse: Callable[[bytes], Any], dump: Callable[[Any], str]) -> None:
        value = {"a": ["é", 1, 2.5, True, None, "\x00"]}

        assert parse(dump(value).encode()) == value

    def test_what_is_too_deep_to_write_is_a_value_error(
        self, parse: Callable[[bytes], Any], dump: Callable[[Any], str]
    ) -> None:
        nested: list[Any] = []
        for _ in range(100_000):
            nested = [nested]

        with pytest.raises(ValueError, match="nested too deeply"):
            dump(nested)
