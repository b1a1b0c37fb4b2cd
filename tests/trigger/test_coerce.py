"""The values of a trigger: the JSON of each accepted type, and the message for what is rejected."""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import types
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from tests.trigger.values import (
    MAPPINGS,
    UUID,
    WIRE_NAMES,
    Access,
    Color,
    Real,
    Size,
    Text,
    Whole,
    Word,
    encode,
    error_for,
    wire_form,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", '"text"'),
        ("", '""'),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-7, "-7"),
        (2.5, "2.5"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (2**64 - 1, "18446744073709551615"),
        (-(2**63), "-9223372036854775808"),
        (2**64, '"18446744073709551616"'),
        (-(2**63) - 1, '"-9223372036854775809"'),
        (10**4299, '"1' + "0" * 4299 + '"'),
        (UUID, '"12345678-1234-5678-1234-567812345678"'),
        (date(2026, 1, 2), '"2026-01-02"'),
        (datetime(2026, 1, 2, 3, 4, 5), '"2026-01-02T03:04:05"'),
        (datetime(2026, 1, 2, 3, 4, 5, 6, timezone.utc), '"2026-01-02T03:04:05.000006+00:00"'),
        (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-3, minutes=-30))), '"2026-01-02T00:00:00-03:30"'),
        (Decimal("19.99"), "19.99"),
        (Decimal("3"), "3.0"),
        (Decimal("0.12345678901234567890"), '"0.12345678901234567890"'),
        (Decimal("1E+400"), '"1E+400"'),
        (Decimal("1E-400"), '"1E-400"'),
        (Decimal(2**64), '"18446744073709551616"'),
        (Color.RED, '"red"'),
        (Color.LISTED, '["a",1]'),
        (Size.LARGE, "3"),
        (Word.HELLO, '"hello"'),
        (Access.READ | Access.WRITE, "3"),
        ([], "[]"),
        (["a", 1, 2.5, True], '["a",1,2.5,true]'),
        (("a", 1), '["a",1]'),
        ({"only"}, '["only"]'),
        (frozenset([7]), "[7]"),
        ([UUID, Color.RED, Size.LARGE], '["12345678-1234-5678-1234-567812345678","red",3]'),
        ([date(2026, 1, 2), Decimal("1.5"), 2**64], '["2026-01-02",1.5,"18446744073709551616"]'),
        ("\ud800", '"\ufffd"'),
        ("a\udfffb\ud800", '"a\ufffdb\ufffd"'),
        (["\udc80.txt"], '["\ufffd.txt"]'),
        ("\x00\x1f\x7f\u2028", '"\\u0000\\u001f\x7f\u2028"'),
        (Text("text"), '"text"'),
        (Text("\ud800"), '"\ufffd"'),
        (Whole(7), "7"),
        (Whole(2**64), '"18446744073709551616"'),
        (Real(2.5), "2.5"),
        ([Text("a"), Whole(1), Real(0.5)], '["a",1,0.5]'),
        (collections.namedtuple("Point", "x y")(1, 2), "[1,2]"),
    ],
    ids=lambda value: (
        ascii(value)[:50] if not isinstance(value, (Text, Whole, Real, list)) else type(value).__name__
    ),
)
def test_a_value_is_sent_as(value, text):
    """Each accepted type has one form on the wire."""
    assert wire_form(value) == text.encode()


def test_every_kind_of_mapping_is_accepted():
    """Any kind of mapping is accepted, in each of the three places."""
    mappings = [
        {"a": 1},
        collections.OrderedDict(a=1),
        collections.defaultdict(int, a=1),
        collections.Counter("a"),
        collections.ChainMap({"a": 1}, {"a": 2}),
        collections.UserDict(a=1),
        types.MappingProxyType({"a": 1}),
        {Text("a"): 1},
        {"a": Whole(1)},
    ]
    for mapping in mappings:
        for field, name in WIRE_NAMES.items():
            assert json.loads(encode(**{field: mapping}))[name] == {"a": 1}


def test_keys_are_coerced_like_texts():
    """A lone surrogate in a key becomes U+FFFD; a member of a str Enum is its value."""
    assert json.loads(encode(variables={"\ud800": 1, Word.HELLO: 2}))["variables"] == {"\ufffd": 1, "hello": 2}


@pytest.mark.parametrize(
    ("actor", "text"),
    [
        ("7", "7"),
        (7, "7"),
        (0, "0"),
        (-1, "-1"),
        (2**64, "18446744073709551616"),
        (10**4299, "1" + "0" * 4299),
        (UUID, str(UUID)),
        (Size.LARGE, "3"),
        (Word.HELLO, "hello"),
        (Color.RED, "red"),
        (Text("seven"), "seven"),
        (Whole(7), "7"),
        (" 7 ", " 7 "),
        ("\ud800", "\ufffd"),
    ],
    ids=lambda value: (
        ascii(str.__str__(value) if isinstance(value, str) else int.__repr__(value))[:40]
        if isinstance(value, (str, int))
        else repr(value)
    ),
)
def test_an_actor_is_sent_as_a_string(actor, text):
    """A str, an int or a UUID is accepted; the API gets a string, with nothing stripped."""
    assert json.loads(encode(actor_id=actor))["actor_id"] == text


def test_action_and_object_are_sent_as_strings():
    """A text stays as it is, spaces and all; a lone surrogate becomes U+FFFD."""
    forms = [("viewed", "viewed"), (" a ", " a "), (Text("a"), "a"), (Word.HELLO, "hello"), ("\ud800", "\ufffd")]
    for value, text in forms:
        body = json.loads(encode(action=value, obj=value))
        assert (body["action"], body["object"]) == (text, text)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, Real("nan")], ids=lambda v: float.__repr__(v))
def test_nan_and_infinity_are_invalid(value):
    """The message names the place and the value."""
    shown = float.__repr__(value)
    assert error_for(variables={"price": value}).startswith(f"variables['price']: {shown} is not JSON")
    assert error_for(attributes={"price": [1, 2, value]}).startswith(
        f"attributes['price'][2]: {shown} is not JSON"
    )
    assert error_for(identities={"price": (value,)}).startswith(f"identities['price'][0]: {shown} is not JSON")


def test_a_decimal_that_is_not_finite_is_invalid():
    """It is not sent as a string."""
    for text in ("NaN", "sNaN", "Infinity", "-Infinity"):
        message = error_for(variables={"price": Decimal(text)})
        assert message.startswith(f"variables['price']: Decimal('{text}') is not JSON")


def recursive_list() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


def recursive_dict() -> dict[str, Any]:
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    return cycle


@dataclasses.dataclass
class Plan:
    name: str = "pro"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"abc", "b'abc' (bytes)"),
        (bytearray(b"abc"), "a value of type bytearray"),
        (memoryview(b"abc"), "a value of type memoryview"),
        ({"a": 1}, "a value of type dict"),
        (collections.OrderedDict(), "a value of type OrderedDict"),
        (1j, "a value of type complex"),
        (time(3, 4), "a value of type time"),
        (timedelta(1), "a value of type timedelta"),
        (object(), "a value of type object"),
        (Plan(), "a value of type Plan"),
        (Plan, "a value of type type"),
        (len, "a value of type builtin_function_or_method"),
        (json, "a value of type module"),
        (range(3), "a value of type range"),
        (collections.deque([1]), "a value of type deque"),
        ({}.keys(), "a value of type dict_keys"),
        (ValueError("a"), "a value of type ValueError"),
        (Color.STRANGE, "a value of type object"),
        (recursive_dict(), "a value of type dict"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_value_of_another_type_is_invalid(value, shown):
    """The message names the place, the value and the accepted types, for a value and for an item of a list."""
    for held, path in ((value, "variables['x']"), ([1, value], "variables['x'][1]")):
        message = error_for(variables={"x": held})
        assert message.startswith(f"{path}: {shown} should be ")
        assert "str, int, float, bool" in message


@pytest.mark.parametrize("inner", [[], [1], (1,), {1}, recursive_list()], ids=lambda value: type(value).__name__)
def test_a_list_in_a_list_is_invalid(inner):
    """Lists hold plain values; so a list that holds itself is invalid too."""
    shown = type(inner).__name__
    assert error_for(variables={"x": [1, inner]}).startswith(
        f"variables['x'][1]: a value of type {shown} should be "
    )


def test_none_in_a_list_is_invalid():
    """Leaving it out would move the items after it."""
    assert error_for(variables={"x": ["a", None]}).startswith("variables['x'][1]: None should be ")


@pytest.mark.parametrize("key", [1, None, 2.5, b"a", True, ("a",)], ids=repr)
def test_a_key_that_is_no_str_is_invalid(key):
    """A number is not converted to a string silently."""
    shown = {1: "1 (int)", None: "None", 2.5: "2.5 (float)", b"a": "b'a' (bytes)"}
    expected = "True (bool)" if key is True else shown.get(key, "a value of type tuple")
    for field in MAPPINGS:
        assert error_for(**{field: {key: "v"}}) == f"{field}: the key {expected} should be a str"
        assert error_for(**{field: {key: None}}) == f"{field}: the key {expected} should be a str"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a=1", "'a=1' (str)"),
        ("", "'' (str)"),
        (7, "7 (int)"),
        (0, "0 (int)"),
        (False, "False (bool)"),
        ([("a", 1)], "a value of type list"),
        ([], "a value of type list"),
        (Plan(), "a value of type Plan"),
        (dict, "a value of type type"),
    ],
    ids=repr,
)
def test_anything_but_a_mapping_is_invalid(value, shown):
    """So are empty and false values; only None stands for no mapping."""
    for field in MAPPINGS:
        assert error_for(**{field: value}) == f"{field}: {shown} should be a mapping, or None"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "True (bool)"),
        (False, "False (bool)"),
        (1.0, "1.0 (float)"),
        (b"7", "b'7' (bytes)"),
        (Decimal(7), "a value of type Decimal"),
        (["7"], "a value of type list"),
        (Plan(), "a value of type Plan"),
        (Color.NOTHING, "None"),
    ],
    ids=repr,
)
def test_an_actor_of_another_type_is_invalid(value, shown):
    """A bool is no id; neither is a float, a Decimal, or a whole user object."""
    assert error_for(actor_id=value) == f"actor_id: {shown} should be a str, int or UUID"


def test_an_actor_that_is_left_out_is_invalid_without_a_context():
    """The message says where it may be left out."""
    expected = "it may be left out within a `brockman.context`, or a request of a middleware"
    assert error_for(actor_id=None) == f"actor_id: None should be a str, int or UUID; {expected}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (7, "7 (int)"),
        (None, "None"),
        (b"x", "b'x' (bytes)"),
        (UUID, "a value of type UUID"),
        (Size.LARGE, "3 (int)"),
    ],
    ids=repr,
)
def test_action_and_object_of_another_type_are_invalid(value, shown):
    """Only a str is accepted for both."""
    for field in ("action", "obj"):
        assert error_for(**{field: value}) == f"{field}: {shown} should be a str"


@pytest.mark.parametrize("field", ["actor_id", "action", "obj"])
def test_actor_action_and_object_may_not_be_empty(field):
    """White space counts as empty."""
    for value in ("", " ", "\t\n", "\u3000", Text(""), Text(" ")):
        assert error_for(**{field: value}) == f"{field}: {str.__str__(value)!r} (str) should not be empty"


def test_a_long_value_is_shown_shortened():
    """A message quotes the beginning of a long value, not all of it."""
    message = error_for(variables={"x": b"s" * 10_000})
    assert b"sss".decode() in message
    assert len(message) < 300


def test_a_long_key_is_shown_shortened():
    """The path of a message stays readable, however long the key."""
    assert len(error_for(variables={"k" * 100_000: b""})) < 1000


HUGE = 10**4300  # Python itself refuses to make a text of it


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"actor_id": HUGE}, "actor_id"),
        ({"actor_id": Whole(HUGE)}, "actor_id"),
        ({"variables": {"x": HUGE}}, "variables['x']"),
        ({"variables": {"x": [1, -HUGE]}}, "variables['x'][1]"),
    ],
    ids=["actor", "an actor of a subclass", "value", "in a list"],
)
def test_an_int_of_thousands_of_digits_is_invalid(arguments, path):
    """Converting it would take long."""
    message = error_for(**arguments)
    assert message.startswith(f"{path}: ")
    assert "digits" in message
