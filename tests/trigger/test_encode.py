"""A trigger's JSON: byte for byte, within its size, and of the moment of the call."""

from __future__ import annotations

import enum
import json
import math
import sys
import threading
import types
import uuid
from datetime import date, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from brockman.exceptions import InvalidTrigger
from tests.support.programs import ran_python
from tests.trigger.values import (
    FIELDS,
    ID,
    MAPPINGS,
    UUID,
    WIRE_NAMES,
    Access,
    Color,
    Size,
    Word,
    encode,
    encode_with,
    error_for,
)


def test_a_whole_trigger_byte_for_byte():
    """The field names, their order and the texts are those of the published API."""
    body = encode(
        actor_id=42,
        obj="blog post",
        identities={"email": "ada@example.com"},
        attributes={"plan": "pro", "paid": True},
        variables={"tags": ["a", "b"], "price": 9.5, "title": "Gr\u00fc\u00dfe \U0001f600", "quote": '"\\\n'},
    )
    assert (
        body
        == (
            '{"actor_id":"42","action":"viewed","object":"blog post",'
            '"captured_identities":{"email":"ada@example.com"},"captured_attributes":{"plan":"pro","paid":true},'
            '"variables":{"tags":["a","b"],"price":9.5,"title":"Gr\u00fc\u00dfe \U0001f600","quote":"\\"\\\\\\n"},'
            f'"id":"{ID}","recorded_at":"2026-11-23T17:22:32.123456Z"}}'
        ).encode()
    )


@pytest.mark.parametrize("empty", [None, {}, {"email": None}, types.MappingProxyType({})], ids=repr)
def test_what_is_empty_is_left_out(empty):
    """A field is left out for None, for an empty mapping, and for one with nothing but None in it."""
    body = encode(identities=empty, attributes=empty, variables=empty)
    assert list(json.loads(body)) == ["actor_id", "action", "object", "id", "recorded_at"]


def test_a_key_whose_value_is_none_is_left_out():
    """`{"email": user.email}` of a user without one is everyday code; the other keys stay."""
    body = encode(identities={"email": None, "phone": "1"}, variables={"a": 0, "b": None, "c": ""})
    assert json.loads(body)["captured_identities"] == {"phone": "1"}
    assert json.loads(body)["variables"] == {"a": 0, "c": ""}


def test_false_values_other_than_none_are_kept():
    """Zero, False, an empty text and an empty list are values."""
    values = {"zero": 0, "no": False, "text": "", "list": [], "half": 0.0}
    for field, name in WIRE_NAMES.items():
        assert json.loads(encode(**{field: values}))[name] == values


def test_equal_triggers_differ_by_their_id_only():
    """The id and the time are those that were passed in."""
    body = json.loads(encode())
    assert (body["id"], body["recorded_at"]) == (ID, "2026-11-23T17:22:32.123456Z")


def test_the_size_limit_is_exact():
    """`max_trigger_bytes` is the length of the JSON in UTF-8: that length is valid, one byte more is not."""
    for text in ("x" * 100, "\u00e9" * 100, "\U0001f600" * 100, '"' * 100):
        size = len(encode(variables={"x": text}))
        assert len(encode(size, variables={"x": text})) == size
        assert error_for(max_bytes=size - 1, variables={"x": text}) == (
            f"the trigger is {size} bytes long; it should be at most {size - 1}"
        )


def test_later_changes_of_the_callers_values_change_nothing():
    """The trigger is bytes when the call returns, and the caller's own values are as they were."""
    tags, variables = ["a", UUID], {"title": "old", "nothing": None}
    variables["tags"] = tags
    body = encode(variables=variables)
    assert variables == {"title": "old", "nothing": None, "tags": ["a", UUID]}
    tags.append("b")
    variables["title"] = "new"
    assert type(body) is bytes
    assert json.loads(body)["variables"] == {"title": "old", "tags": ["a", str(UUID)]}


def test_a_mapping_that_another_thread_changes_is_encoded():
    """A dict that grows and shrinks during the call gives the JSON of one moment, never an error."""
    plain: dict[str, Any] = {"always": 1}
    fitted: dict[str, Any] = {"always": 1, "id": UUID}
    done, changes = threading.Event(), 0

    def change() -> None:
        nonlocal changes
        while not done.is_set():
            for number in range(50):
                plain[f"key {number}"] = fitted[f"key {number}"] = number
            for number in range(50):
                del plain[f"key {number}"], fitted[f"key {number}"]
            changes += 1

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=change)
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for _ in range(500):
            for fast in (True, False):
                for shared in (plain, fitted):
                    variables = json.loads(encode_with(fast, variables=shared))["variables"]
                    assert variables.pop("always") == 1
                    assert variables.pop("id", None) == (None if shared is plain else str(UUID))
                    assert all(key == f"key {number}" for key, number in variables.items())
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert changes > 0


@pytest.mark.parametrize("encoder", ["orjson", "json"])
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a process is read from /proc")
def test_an_encoded_trigger_takes_little_more_memory_than_its_size(encoder):
    """20 000 triggers hold their bytes, not the buffers they were written into."""
    script = """
import os, sys
from datetime import datetime, timezone
import brockman.trigger.encode
from brockman.trigger.encode import encode_trigger
if "json" in sys.argv:
    brockman.trigger.encode.orjson = None
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
def make():
    return encode_trigger(
        "7", "viewed", "page", None, None, {"title": "x" * 100}, "id" * 18, datetime.now(timezone.utc), 9999
    )
kept = [make() for _ in range(1000)]
before = resident()
kept += [make() for _ in range(20_000)]
print((resident() - before) / 20_000, len(kept[0]))
"""
    ended = ran_python(script, encoder)
    assert ended.status == 0, ended.err
    each, size = map(float, ended.out.split())
    assert size - 50 < each < size + 200


def wire_text(text: str) -> str:
    return "".join("\ufffd" if 0xD800 <= ord(character) <= 0xDFFF else character for character in text)


def wire_scalar(value: Any) -> Any:
    """Return the JSON value expected for a plain value; raise InvalidTrigger if it is invalid."""
    while isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return wire_text(value)
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Decimal) and value.is_finite():
        return float(value) if Decimal(repr(float(value))) == value else str(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    raise InvalidTrigger


def wire_value(value: Any) -> Any:
    if isinstance(value, Color):
        value = value.value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [wire_scalar(item) for item in value]
    return wire_scalar(value)


def wire_mapping(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidTrigger
    return {wire_text(key): wire_value(item) for key, item in value.items() if item is not None}


def wire_required(value: Any, *kinds: type) -> str:
    while isinstance(value, enum.Enum):
        value = value.value
    if not isinstance(value, kinds) or isinstance(value, bool) or (isinstance(value, str) and not value.strip()):
        raise InvalidTrigger
    return wire_text(str(value))


def expected_wire(arguments: dict[str, Any]) -> dict[str, Any]:
    mappings = {name: wire_mapping(arguments[field]) for field, name in WIRE_NAMES.items()}
    return {
        "actor_id": wire_required(arguments["actor_id"], str, int, uuid.UUID),
        "action": wire_required(arguments["action"], str),
        "object": wire_required(arguments["obj"], str),
        **{name: mapping for name, mapping in mappings.items() if mapping},
        "id": ID,
        "recorded_at": "2026-11-23T17:22:32.123456Z",
    }


def strict_parse(body: bytes) -> Any:
    """Parse JSON that has no NaN, no duplicate keys and no bytes that are not UTF-8."""

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    text = body.decode("utf-8", "strict")
    return json.loads(text, parse_constant=no_constant, object_pairs_hook=no_duplicates)


TEXTS = st.text(st.characters(), max_size=8) | st.text("\ud800\udbff\udc00\udfff a", max_size=3)
FITTING = st.one_of(
    TEXTS,
    st.booleans(),
    st.integers(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(timezone.utc)),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.sampled_from([Color.RED, Color.LISTED, Size.LARGE, Word.HELLO, Access.WRITE]),
)
ODD = st.one_of(
    st.none(),
    st.floats(),
    st.binary(max_size=3),
    st.decimals(),
    st.complex_numbers(),
    st.timedeltas(),
    st.times(),
    st.sampled_from([Color.NOTHING, Color.STRANGE, object(), int, len]),
)
VALUES = st.recursive(
    FITTING | ODD,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(TEXTS, inner, max_size=3),
        st.sets(st.integers() | TEXTS, max_size=3),
        st.frozensets(st.integers() | st.floats(), max_size=3),
    ),
    max_leaves=6,
)
GOOD_VALUES = FITTING | st.lists(FITTING, max_size=4) | st.none()
ANY_MAPPING = st.none() | st.dictionaries(TEXTS, VALUES, max_size=4) | VALUES
GOOD_MAPPING = st.none() | st.dictionaries(TEXTS, GOOD_VALUES, max_size=4)
ANYTHING = st.fixed_dictionaries(
    {
        "actor_id": st.just("7") | VALUES,
        "action": st.just("viewed") | VALUES,
        "obj": st.just("page") | VALUES,
        **dict.fromkeys(MAPPINGS, ANY_MAPPING),
    }
)
GOOD = st.fixed_dictionaries(
    {
        "actor_id": st.integers() | st.uuids() | TEXTS,
        "action": TEXTS,
        "obj": TEXTS,
        **dict.fromkeys(MAPPINGS, GOOD_MAPPING),
    }
)


@settings(
    deadline=None,
    database=None,
    max_examples=400,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(GOOD | ANYTHING)
@example(dict(zip(FIELDS, [7, "a", "o", dict.fromkeys(["\ud800", "\ud801"], 1), {}, {}], strict=True)))
@example(dict(zip(FIELDS, [7, "a", "o", {}, {"x": -0.0}, {"x": [True, 1, 1.0]}], strict=True)))
def test_any_arguments_are_invalid_or_become_strict_json(arguments):
    """Any arguments raise InvalidTrigger, or give strict JSON that holds exactly their values."""
    try:
        expected = expected_wire(arguments)
    except InvalidTrigger:
        assert error_for(max_bytes=10**9, **arguments)
        return
    body = encode(10**9, **arguments)
    assert type(body) is bytes
    parsed = strict_parse(body)
    assert json.dumps(parsed) == json.dumps(expected)  # 1, 1.0 and True are equal, and must not be mixed up
