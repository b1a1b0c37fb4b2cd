"""What a trigger may hold: what is made to fit, what is refused and in which words."""

from __future__ import annotations

import collections
import dataclasses
import enum
import importlib.util
import json
import math
import subprocess
import sys
import threading
import traceback
import types
import uuid
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import brockman.trigger.encode
from brockman.exceptions import InvalidTrigger
from brockman.trigger.encode import encode_trigger

ID = "d47ac10b-58cc-8372-a567-000000000001"
MOMENT = datetime(2026, 11, 23, 17, 22, 32, 123456, timezone.utc)
LIMIT = 32 * 1024
UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")
ROOT = Path(__file__).parents[2]
MAPPINGS = ("identities", "attributes", "variables")
FIELDS = ("actor_id", "action", "obj", *MAPPINGS)
WIRE_NAMES = dict(zip(MAPPINGS, ("captured_identities", "captured_attributes", "variables"), strict=True))


def encode_with(fast: bool, max_bytes: int = LIMIT, **arguments: Any) -> bytes:
    """Return a trigger's JSON, by orjson or by the standard library; what is not given is a plain value."""
    given = {"actor_id": "7", "action": "viewed", "obj": "page", **dict.fromkeys(MAPPINGS), **arguments}
    with pytest.MonkeyPatch.context() as patch:
        if not fast:
            patch.setattr(brockman.trigger.encode, "orjson", None)
        return encode_trigger(*given.values(), ID, MOMENT, max_bytes)


def encode(max_bytes: int = LIMIT, **arguments: Any) -> bytes:
    """Return a trigger's JSON. Both encoders have to agree on it, and on a refusal to the letter."""
    try:
        body = encode_with(False, max_bytes, **arguments)
    except InvalidTrigger as error:
        words = str(error)
    else:
        other = encode_with(True, max_bytes, **arguments)
        assert type(body) is type(other) is bytes
        assert json.dumps(json.loads(body)) == json.dumps(json.loads(other))
        return other
    with pytest.raises(InvalidTrigger) as caught:
        encode_with(True, max_bytes, **arguments)
    assert str(caught.value) == words
    raise caught.value


def wire_form(value: Any) -> bytes:
    """Return the JSON that stands for a value in a mapping."""
    body = encode(variables={"x": value})
    before, after = b'"variables":{"x":', b'},"id":'
    assert body.count(before) == body.count(after) == 1
    return body[body.index(before) + len(before) : body.index(after)]


def refusal(**arguments: Any) -> str:
    """Return the words in which a trigger is refused."""
    with pytest.raises(InvalidTrigger) as caught:
        encode(**arguments)
    assert type(caught.value) is InvalidTrigger
    return str(caught.value)


class Color(enum.Enum):
    RED = "red"
    LISTED = ("a", 1)
    NOTHING = None
    STRANGE = object()


class Size(enum.IntEnum):
    LARGE = 3


class Word(str, enum.Enum):
    HELLO = "hello"


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


class Foreign(Exception):
    """What somebody else's code raises. Its text holds what nobody should see."""

    def __init__(self, text: str = "the card number is 4111") -> None:
        super().__init__(text)


class Text(str):
    """A str whose own methods are not to be trusted."""

    def _raise(self, *args):
        raise Foreign

    __str__ = __repr__ = __len__ = __bool__ = __format__ = strip = encode = __getitem__ = __iter__ = _raise


class Whole(int):
    """An int whose own methods are not to be trusted."""

    def _raise(self, *args):
        raise Foreign

    __str__ = __repr__ = __bool__ = __format__ = __int__ = __index__ = __le__ = __abs__ = _raise


class Real(float):
    """A float whose own methods are not to be trusted."""

    def _raise(self, *args):
        raise Foreign

    __str__ = __repr__ = __bool__ = __format__ = __float__ = __sub__ = _raise


# What goes over the wire.


def test_the_whole_of_a_trigger_byte_for_byte():
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
    """`{"email": user.email}` of a user without one is everyday code; what stands beside it stays."""
    body = encode(identities={"email": None, "phone": "1"}, variables={"a": 0, "b": None, "c": ""})
    assert json.loads(body)["captured_identities"] == {"phone": "1"}
    assert json.loads(body)["variables"] == {"a": 0, "c": ""}


def test_what_is_false_but_not_none_is_kept():
    """Zero, False, an empty text and an empty list are values."""
    values = {"zero": 0, "no": False, "text": "", "list": [], "half": 0.0}
    for field, name in WIRE_NAMES.items():
        assert json.loads(encode(**{field: values}))[name] == values


def test_equal_triggers_differ_by_their_id_only():
    """The id and the time are those that were passed in."""
    body = json.loads(encode())
    assert (body["id"], body["recorded_at"]) == (ID, "2026-11-23T17:22:32.123456Z")


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
def test_a_value_that_fits_goes_out_like_this(value, text):
    """Each accepted type has one form on the wire."""
    assert wire_form(value) == text.encode()


def test_every_mapping_is_one():
    """Whatever kind of mapping a framework hands out is taken, in each of the three places."""
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


def test_keys_are_made_to_fit_as_texts_are():
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
def test_an_actor_is_a_text_on_the_wire(actor, text):
    """A str, an int or a UUID says who; the API gets a string, with nothing taken away."""
    assert json.loads(encode(actor_id=actor))["actor_id"] == text


def test_action_and_object_are_texts():
    """A text stays as it is, spaces and all; a lone surrogate becomes U+FFFD."""
    forms = [("viewed", "viewed"), (" a ", " a "), (Text("a"), "a"), (Word.HELLO, "hello"), ("\ud800", "\ufffd")]
    for value, text in forms:
        body = json.loads(encode(action=value, obj=value))
        assert (body["action"], body["object"]) == (text, text)


# What is refused, and in which words.


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, Real("nan")], ids=lambda v: float.__repr__(v))
def test_a_number_that_json_has_not_is_refused(value):
    """The message says where and which."""
    shown = float.__repr__(value)
    assert refusal(variables={"price": value}).startswith(f"variables['price']: {shown} is not JSON")
    assert refusal(attributes={"price": [1, 2, value]}).startswith(f"attributes['price'][2]: {shown} is not JSON")
    assert refusal(identities={"price": (value,)}).startswith(f"identities['price'][0]: {shown} is not JSON")


def test_a_decimal_that_json_has_not_is_refused():
    """Money that is not a number is not taken for a text."""
    for text in ("NaN", "sNaN", "Infinity", "-Infinity"):
        message = refusal(variables={"price": Decimal(text)})
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
def test_a_value_of_another_type_is_refused(value, shown):
    """The message says where, what, and what would be right, both for a value and inside a list."""
    for held, path in ((value, "variables['x']"), ([1, value], "variables['x'][1]")):
        message = refusal(variables={"x": held})
        assert message.startswith(f"{path}: {shown} should be ")
        assert "str, int, float, bool" in message


@pytest.mark.parametrize("inner", [[], [1], (1,), {1}, recursive_list()], ids=lambda value: type(value).__name__)
def test_a_list_in_a_list_is_refused(inner):
    """Lists hold plain values, also when one holds itself."""
    shown = type(inner).__name__
    assert refusal(variables={"x": [1, inner]}).startswith(
        f"variables['x'][1]: a value of type {shown} should be "
    )


def test_none_in_a_list_is_refused():
    """Leaving it out would move what comes after it."""
    assert refusal(variables={"x": ["a", None]}).startswith("variables['x'][1]: None should be ")


@pytest.mark.parametrize("key", [1, None, 2.5, b"a", True, ("a",)], ids=repr)
def test_a_key_that_is_no_text_is_refused(key):
    """A number is not made a text behind the caller's back."""
    shown = {1: "1 (int)", None: "None", 2.5: "2.5 (float)", b"a": "b'a' (bytes)"}
    expected = "True (bool)" if key is True else shown.get(key, "a value of type tuple")
    for field in MAPPINGS:
        assert refusal(**{field: {key: "v"}}) == f"{field}: the key {expected} should be a str"
        assert refusal(**{field: {key: None}}) == f"{field}: the key {expected} should be a str"


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
def test_what_is_no_mapping_is_refused(value, shown):
    """Also what is empty or false: None is the word for nothing."""
    for field in MAPPINGS:
        assert refusal(**{field: value}) == f"{field}: {shown} should be a mapping, or None"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "True (bool)"),
        (False, "False (bool)"),
        (None, "None"),
        (1.0, "1.0 (float)"),
        (b"7", "b'7' (bytes)"),
        (Decimal(7), "a value of type Decimal"),
        (["7"], "a value of type list"),
        (Plan(), "a value of type Plan"),
        (Color.NOTHING, "None"),
    ],
    ids=repr,
)
def test_an_actor_of_another_type_is_refused(value, shown):
    """A bool is no id; neither is a float, a Decimal, or a whole user object."""
    assert refusal(actor_id=value) == f"actor_id: {shown} should be a str, int or UUID"


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
def test_action_and_object_of_another_type_are_refused(value, shown):
    """Only texts name what was done, and to what."""
    for field in ("action", "obj"):
        assert refusal(**{field: value}) == f"{field}: {shown} should be a str"


@pytest.mark.parametrize("field", ["actor_id", "action", "obj"])
def test_what_is_required_is_not_empty(field):
    """White space says nothing about who, what or to what."""
    for value in ("", " ", "\t\n", "\u3000", Text(""), Text(" ")):
        assert refusal(**{field: value}) == f"{field}: {str.__str__(value)!r} (str) should not be empty"


def test_a_value_is_shown_shortened():
    """A message quotes the beginning of a long value, not all of it."""
    message = refusal(variables={"x": b"s" * 10_000})
    assert b"sss".decode() in message
    assert len(message) < 300


def test_a_long_key_is_shown_shortened():
    """The path of a message stays readable, however long the key."""
    assert len(refusal(variables={"k" * 100_000: b""})) < 1000


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
def test_an_int_of_thousands_of_digits_is_refused(arguments, path):
    """It is no value to track, and to write it out would hold up the caller."""
    message = refusal(**arguments)
    assert message.startswith(f"{path}: ")
    assert "digits" in message


def test_the_largest_trigger_is_kept_to_the_byte():
    """`max_trigger_bytes` is the length of the JSON in UTF-8: exactly so long is taken, one more is not."""
    for text in ("x" * 100, "\u00e9" * 100, "\U0001f600" * 100, '"' * 100):
        size = len(encode(variables={"x": text}))
        assert len(encode(size, variables={"x": text})) == size
        assert refusal(max_bytes=size - 1, variables={"x": text}) == (
            f"the trigger is {size} bytes long; it should be at most {size - 1}"
        )


# Foreign code: not run where it need not be, and what it raises goes no further.


class Watched:
    """An object that remembers who looked at it too closely."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def _note(name, result):
        def called(self, *args):
            self.calls.append(name)
            return result

        return called

    __str__ = _note("str", "the password is 12345")
    __repr__ = _note("repr", "the password is 12345")
    __format__ = _note("format", "the password is 12345")
    __bool__ = _note("bool", True)
    __len__ = _note("len", 1)
    __iter__ = _note("iter", iter(()))
    __int__ = _note("int", 1)
    __float__ = _note("float", 1.0)
    __bytes__ = _note("bytes", b"")
    isoformat = _note("isoformat", "x")
    item = _note("item", 1)


@pytest.mark.parametrize("place", [*FIELDS, "value", "in a list", "key"])
def test_an_unknown_object_is_never_looked_into(place):
    """No method of an object that brockman does not know is called: not to send it, not to show it."""
    watched = Watched()
    arguments = {
        "value": {"variables": {"x": watched}},
        "in a list": {"variables": {"x": [watched]}},
        "key": {"variables": {watched: 1}},
    }.get(place, {place: watched})
    message = refusal(**arguments)
    assert "a value of type Watched" in message
    assert watched.calls == []


def test_a_generator_is_refused_and_not_consumed():
    """The caller can still read it: it was refused, not emptied."""
    numbers = iter([1, 2, 3])
    generator = (number for number in numbers)
    assert "generator" in refusal(variables={"x": generator})
    assert list(generator) == [1, 2, 3]


def raising(error: BaseException) -> Any:
    def raise_it(self, *args):
        raise error

    return raise_it


def foreign_code(error: BaseException) -> dict[str, dict[str, Any]]:
    """Return arguments that cannot be read without foreign code, which raises an error; by what raises it."""

    class EvilMapping(collections.UserDict):
        items = raising(error)

    class EvilDict(dict):
        items = raising(error)

    class EvilKeys(collections.UserDict):
        keys = __iter__ = raising(error)

    class EvilZone(tzinfo):
        utcoffset = raising(error)

    class EvilDate(date):
        __ne__ = __eq__ = raising(error)

    class EvilList(list):
        __iter__ = raising(error)

    class EvilEnum(enum.Enum):
        A = 1
        value = property(raising(error))

    values = {
        "a time zone": datetime(2026, 1, 2, tzinfo=EvilZone()),
        "a date": EvilDate(2026, 1, 2),
        "a member of an enum": EvilEnum.A,
    }
    return {
        "items()": {"variables": EvilMapping(a=1)},
        "items() of a dict": {"attributes": EvilDict(a=1)},
        "the keys": {"identities": EvilKeys(a=1)},
        "an actor": {"actor_id": EvilEnum.A},
        "an action": {"action": EvilEnum.A},
        "a list": {"variables": {"x": EvilList([1])}},
        **{name: {"variables": {"x": value}} for name, value in values.items()},
        **{f"{name} in a list": {"attributes": {"x": [1, value]}} for name, value in values.items()},
    }


PLACES = list(foreign_code(Foreign()))


@pytest.mark.parametrize("place", PLACES)
def test_what_foreign_code_raises_becomes_an_invalid_trigger(place):
    """The handler of a web request meets one kind of error, and nothing of the foreign text is shown."""
    for error in (Foreign(), ValueError("4111"), KeyError("4111"), MemoryError("4111")):
        arguments = foreign_code(error)[place]
        for fast in (True, False):
            with pytest.raises(InvalidTrigger) as caught:
                encode_with(fast, **arguments)
            shown = "".join(traceback.format_exception(caught.type, caught.value, caught.tb))
            assert type(error).__name__ in str(caught.value)
            assert "4111" not in shown


@pytest.mark.parametrize("place", PLACES)
def test_the_field_that_foreign_code_spoiled_is_named(place):
    """Also here the message starts with the path to the fault."""
    arguments = foreign_code(Foreign())[place]
    (field,) = arguments
    path = (
        field if place in ("items()", "items() of a dict", "the keys") or field in FIELDS[:3] else f"{field}['x']"
    )
    index = "[1]" if place.endswith("in a list") else ""
    assert refusal(**arguments) == f"{path}{index}: reading it raised Foreign"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_a_wish_to_end_passes_through(error):
    """Ctrl-C and `sys.exit` are not the trigger's affair, wherever they strike."""
    for arguments in foreign_code(error).values():
        with pytest.raises(type(error)) as caught:
            encode(**arguments)
        assert caught.value is error


def test_the_truth_and_the_length_of_a_mapping_are_not_asked_for():
    """A mapping whose `__bool__` or `__len__` raises is as good as another: `items()` says what is in it."""

    class Lazy(dict):
        __bool__ = __len__ = raising(Foreign())

    assert json.loads(encode(variables=Lazy(a=1)))["variables"] == {"a": 1}


def test_items_that_are_no_pairs_are_refused():
    """A mapping that does not keep its word is a caller's mistake like any other."""

    class Strange(collections.UserDict):
        def items(self):
            return self.pairs

    strange = Strange(a=1)
    for strange.pairs in ([1], ["abc"], [("a", 1, 2)], 7, None):
        assert refusal(variables=strange).startswith("variables: ")


@pytest.mark.parametrize(
    "method",
    [lambda self: "\ud800", lambda self: "", lambda self: b"text", lambda self: Text("text"), raising(Foreign())],
    ids=["a lone surrogate", "nothing", "bytes", "an odd text", "an error"],
)
def test_a_subclass_does_not_say_what_it_is(method):
    """A date, Decimal or UUID of a subclass goes out as what it is: its own methods are not called."""

    class OddDate(date):
        isoformat = __str__ = __format__ = method

    class OddMoment(datetime):
        isoformat = __str__ = __format__ = method

    class OddDecimal(Decimal):
        __str__ = __float__ = __repr__ = is_finite = method

    class OddUUID(uuid.UUID):
        __str__ = __int__ = __repr__ = method

    assert wire_form(OddDate(2026, 1, 2)) == b'"2026-01-02"'
    assert wire_form(OddMoment(2026, 1, 2)) == b'"2026-01-02T00:00:00"'
    assert wire_form([OddDecimal("1.5"), OddDecimal("1E+400")]) == b'[1.5,"1E+400"]'
    assert wire_form(OddUUID(str(UUID))) == f'"{UUID}"'.encode()
    assert json.loads(encode(actor_id=OddUUID(str(UUID))))["actor_id"] == str(UUID)
    assert refusal(variables={"x": OddDecimal("NaN")}).startswith("variables['x']: Decimal('NaN') is not JSON")


@pytest.mark.parametrize("place", [*FIELDS, "value", "in a list", "key"])
def test_a_disguise_is_not_looked_at(place):
    """An object is of the type it has, not of the `__class__` it claims; asking for that would be foreign code."""

    class Disguised:
        __class__ = property(raising(Foreign()))

    arguments = {
        "value": {"variables": {"x": Disguised()}},
        "in a list": {"variables": {"x": [Disguised()]}},
        "key": {"variables": {Disguised(): 1}},
    }.get(place, {place: Disguised()})
    assert "a value of type Disguised should be " in refusal(**arguments)


def test_an_object_that_pretends_to_be_another_is_refused():
    """A proxy or a mock whose `__class__` says otherwise is an unknown object: refused, with its path."""
    for pretended in (str, int, float, uuid.UUID, date, Decimal, list, dict):
        impostor = mock.NonCallableMock(spec=pretended)
        shown = "a value of type NonCallableMock should be "
        assert refusal(variables={"x": impostor}).startswith(f"variables['x']: {shown}")
        assert refusal(variables=impostor).startswith(f"variables: {shown}")
        assert refusal(actor_id=impostor).startswith(f"actor_id: {shown}")


def test_a_class_that_will_not_say_its_name_harms_nothing():
    """Even the name of a foreign type is foreign code when its metaclass says so."""

    class Nameless(type):
        @property
        def __name__(cls):
            raise Hidden("4111")

    class Hidden(Exception, metaclass=Nameless):
        pass

    class Thing(metaclass=Nameless):
        pass

    class Spoiled(collections.UserDict):
        items = raising(Hidden("4111"))

    for variables in ({"x": Thing()}, Spoiled(a=1)):
        try:
            encode_with(True, variables=variables)
        except InvalidTrigger as error:
            words = str(error)
        except Exception:
            words = "another error got out: 4111"  # a test report cannot show it, either
        assert "4111" not in words


def test_an_enum_whose_value_leads_back_to_itself_is_refused():
    """No depth of foreign code is followed for ever."""

    class Endless(enum.Enum):
        A = 1

        @property
        def value(self):
            return self

    assert refusal(variables={"x": Endless.A}).startswith("variables['x']: ")


# Lazy texts, numpy, pandas: for real, where they are installed.


def installed(name: str) -> types.ModuleType:
    """Return a module of a library, or skip the test where the library is not installed."""
    library = name.partition(".")[0]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    return importlib.import_module(name)


def test_a_lazy_translation_is_resolved():
    """Text that Django translates when it is shown is taken at the time of the call, or refused when it fails."""
    functional = installed("django.utils.functional")
    words = ["eins", "zwei"]
    lazy = functional.lazy(lambda: words[0], str)()
    body = json.loads(encode(actor_id=lazy, action=lazy, obj=lazy, variables={"x": lazy, "y": [lazy]}))
    words.reverse()
    assert (body["actor_id"], body["action"], body["object"]) == ("eins", "eins", "eins")
    assert body["variables"] == {"x": "eins", "y": ["eins"]}
    assert json.loads(encode(action=lazy))["action"] == "zwei"
    broken = functional.lazy(raising(Foreign()), str)(None)
    for arguments in ({"action": broken}, {"variables": {"x": broken}}, {"variables": {"x": [broken]}}):
        assert "Foreign" in refusal(**arguments)
    with pytest.raises(KeyboardInterrupt):
        encode(action=functional.lazy(raising(KeyboardInterrupt()), str)(None))
    assert refusal(obj=functional.lazy(lambda: "  ", str)()) == "obj: '  ' (str) should not be empty"


def test_a_lazy_object_of_django_stands_for_what_it_wraps():
    """`SimpleLazyObject`, as `request.user` is one, is looked into; what it wraps must fit, and be had."""
    functional = installed("django.utils.functional")
    body = json.loads(encode(action=functional.SimpleLazyObject(lambda: "text")))
    assert body["action"] == "text"
    lazy = functional.SimpleLazyObject(lambda: 3)
    assert json.loads(encode(variables={"x": lazy, "y": [lazy]}))["variables"] == {"x": 3, "y": [3]}
    wrapped = functional.SimpleLazyObject(object)
    assert refusal(variables={"x": wrapped}).startswith("variables['x']: a value of type object should be")
    broken = functional.SimpleLazyObject(lambda: raising(Foreign())(None))
    assert refusal(actor_id=broken) == "actor_id: reading it raised Foreign"


def test_a_lazy_proxy_of_babel_is_resolved():
    """Text that Babel translates when it is shown is taken at the time of the call."""
    support = installed("babel.support")
    lazy = support.LazyProxy(lambda: "eins")
    assert json.loads(encode(action=lazy, variables={"x": [lazy]}))["variables"] == {"x": ["eins"]}


def test_a_lazy_string_of_flask_babel_is_resolved():
    """Text that Flask-Babel translates when it is shown is taken at the time of the call."""
    speaklater = installed("flask_babel.speaklater")
    lazy = speaklater.LazyString(lambda: "eins")
    assert json.loads(encode(action=lazy, variables={"x": lazy}))["variables"] == {"x": "eins"}


def test_a_translation_is_in_the_language_of_the_moment():
    """`gettext_lazy` goes out in the language that is active when `record_trigger` is called."""
    installed("django")
    script = """
from datetime import datetime, timezone
from django.conf import settings
settings.configure(USE_I18N=True, LANGUAGE_CODE="en")
import django
django.setup()
from django.utils import translation
from django.utils.translation import gettext_lazy
from brockman.trigger.encode import encode_trigger
day = gettext_lazy("Monday")
for language in ("de", "fr"):
    with translation.override(language):
        body = encode_trigger("7", "viewed", day, None, None, None, "id", datetime.now(timezone.utc), 9999)
    print(body.decode())
"""
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert [json.loads(line)["object"] for line in result.stdout.splitlines()] == ["Montag", "lundi"]


def test_numpy_scalars_are_what_they_stand_for():
    """What a computation with numpy gives goes out as the Python value, as an actor too."""
    numpy = installed("numpy")
    assert wire_form(numpy.int64(7)) == b"7"
    assert wire_form(numpy.uint64(2**64 - 1)) == b"18446744073709551615"
    assert wire_form(numpy.float64(2.5)) == b"2.5"
    assert wire_form(numpy.float32(0.5)) == b"0.5"
    assert wire_form(numpy.bool_(True)) == b"true"
    assert wire_form(numpy.str_("text")) == b'"text"'
    assert wire_form(numpy.str_("\ud800")) == '"\ufffd"'.encode()
    assert wire_form(numpy.datetime64("2026-01-02")) == b'"2026-01-02"'
    assert wire_form(numpy.datetime64("2026-01-02T03:04:05", "us")) == b'"2026-01-02T03:04:05"'
    assert wire_form([numpy.int8(-1), numpy.float64(0.5)]) == b"[-1,0.5]"
    assert json.loads(encode(actor_id=numpy.int32(7), action=numpy.str_("a")))["actor_id"] == "7"


def test_numpy_values_that_do_not_fit_are_refused():
    """Not a number, not a time, bytes, a complex number, an array: refused like their like."""
    numpy = installed("numpy")
    assert refusal(variables={"x": numpy.float64("nan")}).startswith("variables['x']: nan is not JSON")
    assert refusal(variables={"x": [numpy.float32("inf")]}).startswith("variables['x'][0]: inf is not JSON")
    assert refusal(variables={"x": numpy.datetime64("NaT", "s")}).startswith("variables['x']: ")
    assert refusal(variables={"x": numpy.bytes_(b"a")}).startswith("variables['x']: b'a' (bytes)")
    assert refusal(variables={"x": numpy.complex128(1j)}).startswith("variables['x']: ")
    assert refusal(variables={"x": numpy.longdouble(1)}).startswith("variables['x']: ")
    assert refusal(variables={"x": numpy.array([1, 2])}).startswith("variables['x']: a value of type ndarray")
    assert refusal(variables={"x": numpy.array(1)}).startswith("variables['x']: a value of type ndarray")
    assert refusal(actor_id=numpy.bool_(True)) == "actor_id: True (bool) should be a str, int or UUID"
    assert refusal(actor_id=numpy.float64(1)).startswith("actor_id: ")


def test_a_numpy_time_in_nanoseconds_is_no_number():
    """A time finer than Python's is a time or is refused; it does not become a number of nanoseconds."""
    numpy = installed("numpy")
    try:
        form = wire_form(numpy.datetime64("2026-01-02T03:04:05", "ns"))
    except InvalidTrigger:
        return
    assert form.startswith(b'"2026-01-02T03:04:05')


def test_pandas_times_are_datetimes():
    """A Timestamp goes out as the datetime it is; "not a time" is refused."""
    pandas = installed("pandas")
    assert wire_form(pandas.Timestamp("2026-01-02T03:04:05")) == b'"2026-01-02T03:04:05"'
    assert refusal(variables={"x": pandas.NaT}).startswith("variables['x']: ")
    assert refusal(variables={"x": [pandas.NA]}).startswith("variables['x'][0]: ")


# What the caller, or another thread, does with its values.


def test_what_the_caller_changes_afterwards_changes_nothing():
    """The trigger is bytes when the call returns, and the caller's own values are as they were."""
    tags, variables = ["a", UUID], {"title": "old", "nothing": None}
    variables["tags"] = tags
    body = encode(variables=variables)
    assert variables == {"title": "old", "nothing": None, "tags": ["a", UUID]}
    tags.append("b")
    variables["title"] = "new"
    assert type(body) is bytes
    assert json.loads(body)["variables"] == {"title": "old", "tags": ["a", str(UUID)]}


def test_a_mapping_that_another_thread_changes_meanwhile():
    """A dict that grows and shrinks under the call gives JSON of some moment, never an error."""
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
def test_what_waits_takes_little_more_than_its_own_size(encoder):
    """Ten thousand triggers that wait hold their bytes, not the buffers they were written into."""
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
    result = subprocess.run(
        [sys.executable, "-c", script, encoder],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    each, size = map(float, result.stdout.split())
    assert size - 50 < each < size + 200


# All of it at once.


def wire_text(text: str) -> str:
    return "".join("\ufffd" if 0xD800 <= ord(character) <= 0xDFFF else character for character in text)


def wire_scalar(value: Any) -> Any:
    """Return what should stand on the wire for a plain value; raise InvalidTrigger when nothing should."""
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
def test_whatever_is_passed_it_is_refused_or_strict_json(arguments):
    """Any arguments make an InvalidTrigger, or strict JSON that holds just what they say."""
    try:
        expected = expected_wire(arguments)
    except InvalidTrigger:
        assert refusal(max_bytes=10**9, **arguments)
        return
    body = encode(10**9, **arguments)
    assert type(body) is bytes
    parsed = strict_parse(body)
    assert json.dumps(parsed) == json.dumps(expected)  # 1, 1.0 and True are equal, and must not be mixed up
