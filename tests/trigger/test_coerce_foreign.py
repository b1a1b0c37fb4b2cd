"""Values of foreign classes: their code is not run where it need not be, and its errors become InvalidTrigger."""

from __future__ import annotations

import collections
import enum
import importlib.util
import json
import subprocess
import sys
import traceback
import types
import uuid
from datetime import date, datetime, tzinfo
from decimal import Decimal
from typing import Any
from unittest import mock

import pytest

from brockman.exceptions import InvalidTrigger
from tests.trigger.values import (
    FIELDS,
    ROOT,
    UUID,
    Foreign,
    Text,
    encode,
    encode_with,
    raising,
    refusal,
    wire_form,
)


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


# Lazy texts, numpy and pandas, where they are installed.


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
