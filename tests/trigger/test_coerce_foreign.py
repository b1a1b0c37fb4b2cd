"""Values of foreign classes: their code is not run where it need not be, and its errors become InvalidTrigger."""

from __future__ import annotations

import collections
import enum
import importlib.util
import json
import traceback
import types
import uuid
from datetime import date, datetime, tzinfo
from decimal import Decimal
from typing import Any
from unittest import mock

import pytest

from brockman.exceptions import InvalidTrigger
from tests.support.programs import ran_python
from tests.trigger.values import (
    FIELDS,
    UUID,
    Foreign,
    Text,
    encode,
    encode_with,
    error_for,
    raising,
    wire_form,
)


class Watched:
    """An object that remembers which of its methods were called."""

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
def test_no_method_of_an_unknown_object_is_called(place):
    """Not to send the object, and not to show it in a message."""
    watched = Watched()
    arguments = {
        "value": {"variables": {"x": watched}},
        "in a list": {"variables": {"x": [watched]}},
        "key": {"variables": {watched: 1}},
    }.get(place, {place: watched})
    message = error_for(**arguments)
    assert "a value of type Watched" in message
    assert watched.calls == []


def test_a_generator_is_invalid_and_not_consumed():
    """The caller can still read it."""
    numbers = iter([1, 2, 3])
    generator = (number for number in numbers)
    assert "generator" in error_for(variables={"x": generator})
    assert list(generator) == [1, 2, 3]


def foreign_code(error: BaseException) -> dict[str, dict[str, Any]]:
    """Return arguments whose reading runs foreign code that raises an error, by the code that raises it."""

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
def test_an_error_of_foreign_code_becomes_an_invalid_trigger(place):
    """The caller gets one kind of error, and nothing of the foreign text is shown."""
    for error in (Foreign(), ValueError("4111"), KeyError("4111"), MemoryError("4111")):
        arguments = foreign_code(error)[place]
        for fast in (True, False):
            with pytest.raises(InvalidTrigger) as caught:
                encode_with(fast, **arguments)
            shown = "".join(traceback.format_exception(caught.type, caught.value, caught.tb))
            assert type(error).__name__ in str(caught.value)
            assert "4111" not in shown


@pytest.mark.parametrize("place", PLACES)
def test_the_message_names_the_field_with_the_foreign_code(place):
    """As in other messages, the path comes first."""
    arguments = foreign_code(Foreign())[place]
    (field,) = arguments
    path = (
        field if place in ("items()", "items() of a dict", "the keys") or field in FIELDS[:3] else f"{field}['x']"
    )
    index = "[1]" if place.endswith("in a list") else ""
    assert error_for(**arguments) == f"{path}{index}: reading it raised Foreign"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_keyboard_interrupt_and_system_exit_pass_through(error):
    """Ctrl-C and `sys.exit` in foreign code are raised to the caller."""
    for arguments in foreign_code(error).values():
        with pytest.raises(type(error)) as caught:
            encode(**arguments)
        assert caught.value is error


def test_bool_and_len_of_a_mapping_are_not_called():
    """A mapping whose `__bool__` or `__len__` raises is valid: only `items()` is called."""

    class Lazy(dict):
        __bool__ = __len__ = raising(Foreign())

    assert json.loads(encode(variables=Lazy(a=1)))["variables"] == {"a": 1}


def test_items_that_are_no_pairs_are_invalid():
    """A mapping with a broken `items()` raises InvalidTrigger like other mistakes."""

    class Strange(collections.UserDict):
        def items(self):
            return self.pairs

    strange = Strange(a=1)
    for strange.pairs in ([1], ["abc"], [("a", 1, 2)], 7, None):
        assert error_for(variables=strange).startswith("variables: ")


@pytest.mark.parametrize(
    "method",
    [lambda self: "\ud800", lambda self: "", lambda self: b"text", lambda self: Text("text"), raising(Foreign())],
    ids=["a lone surrogate", "nothing", "bytes", "an odd text", "an error"],
)
def test_the_methods_of_a_subclass_are_not_called(method):
    """A date, Decimal or UUID of a subclass is sent as the base class would be."""

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
    assert error_for(variables={"x": OddDecimal("NaN")}).startswith("variables['x']: Decimal('NaN') is not JSON")


@pytest.mark.parametrize("place", [*FIELDS, "value", "in a list", "key"])
def test_the_claimed_class_of_an_object_is_not_read(place):
    """Only its type counts: reading `__class__` would run foreign code."""

    class Disguised:
        __class__ = property(raising(Foreign()))

    arguments = {
        "value": {"variables": {"x": Disguised()}},
        "in a list": {"variables": {"x": [Disguised()]}},
        "key": {"variables": {Disguised(): 1}},
    }.get(place, {place: Disguised()})
    assert "a value of type Disguised should be " in error_for(**arguments)


def test_an_object_that_pretends_to_be_another_is_invalid():
    """A proxy or a mock with another `__class__` is an unknown object."""
    for pretended in (str, int, float, uuid.UUID, date, Decimal, list, dict):
        impostor = mock.NonCallableMock(spec=pretended)
        shown = "a value of type NonCallableMock should be "
        assert error_for(variables={"x": impostor}).startswith(f"variables['x']: {shown}")
        assert error_for(variables=impostor).startswith(f"variables: {shown}")
        assert error_for(actor_id=impostor).startswith(f"actor_id: {shown}")


def test_a_class_whose_name_raises_is_invalid():
    """Even the name of a type can be foreign code, of its metaclass."""

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


def test_an_enum_whose_value_leads_back_to_itself_is_invalid():
    """Values of enums are not followed without end."""

    class Endless(enum.Enum):
        A = 1

        @property
        def value(self):
            return self

    assert error_for(variables={"x": Endless.A}).startswith("variables['x']: ")


# Lazy texts, numpy and pandas, where they are installed.


def installed(name: str) -> types.ModuleType:
    """Return a module of a library, or skip the test where the library is not installed."""
    library = name.partition(".")[0]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    return importlib.import_module(name)


def test_a_lazy_translation_is_resolved():
    """Text that Django translates when it is shown is translated during the call; an error is InvalidTrigger."""
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
        assert "Foreign" in error_for(**arguments)
    with pytest.raises(KeyboardInterrupt):
        encode(action=functional.lazy(raising(KeyboardInterrupt()), str)(None))
    assert error_for(obj=functional.lazy(lambda: "  ", str)()) == "obj: '  ' (str) should not be empty"


def test_a_lazy_object_of_django_is_resolved():
    """The object that a `SimpleLazyObject`, such as `request.user`, wraps must be a valid value."""
    functional = installed("django.utils.functional")
    body = json.loads(encode(action=functional.SimpleLazyObject(lambda: "text")))
    assert body["action"] == "text"
    lazy = functional.SimpleLazyObject(lambda: 3)
    assert json.loads(encode(variables={"x": lazy, "y": [lazy]}))["variables"] == {"x": 3, "y": [3]}
    wrapped = functional.SimpleLazyObject(object)
    assert error_for(variables={"x": wrapped}).startswith("variables['x']: a value of type object should be")
    broken = functional.SimpleLazyObject(lambda: raising(Foreign())(None))
    assert error_for(actor_id=broken) == "actor_id: reading it raised Foreign"


def test_a_lazy_proxy_of_babel_is_resolved():
    """Text that Babel translates when it is shown is translated during the call."""
    support = installed("babel.support")
    lazy = support.LazyProxy(lambda: "eins")
    assert json.loads(encode(action=lazy, variables={"x": [lazy]}))["variables"] == {"x": ["eins"]}


def test_a_lazy_string_of_flask_babel_is_resolved():
    """Text that Flask-Babel translates when it is shown is translated during the call."""
    speaklater = installed("flask_babel.speaklater")
    lazy = speaklater.LazyString(lambda: "eins")
    assert json.loads(encode(action=lazy, variables={"x": lazy}))["variables"] == {"x": "eins"}


def test_a_translation_is_in_the_active_language():
    """`gettext_lazy` is sent in the language that is active when `record_trigger` is called."""
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
    ended = ran_python(script)
    assert ended.status == 0, ended.err
    assert [json.loads(line)["object"] for line in ended.out.splitlines()] == ["Montag", "lundi"]


def test_numpy_scalars_are_sent_as_python_values():
    """So is an actor."""
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


def test_numpy_values_of_other_types_are_invalid():
    """NaN, NaT, bytes, a complex number, an array: invalid like their Python counterparts."""
    numpy = installed("numpy")
    assert error_for(variables={"x": numpy.float64("nan")}).startswith("variables['x']: nan is not JSON")
    assert error_for(variables={"x": [numpy.float32("inf")]}).startswith("variables['x'][0]: inf is not JSON")
    assert error_for(variables={"x": numpy.datetime64("NaT", "s")}).startswith("variables['x']: ")
    assert error_for(variables={"x": numpy.bytes_(b"a")}).startswith("variables['x']: b'a' (bytes)")
    assert error_for(variables={"x": numpy.complex128(1j)}).startswith("variables['x']: ")
    assert error_for(variables={"x": numpy.longdouble(1)}).startswith("variables['x']: ")
    assert error_for(variables={"x": numpy.array([1, 2])}).startswith("variables['x']: a value of type ndarray")
    assert error_for(variables={"x": numpy.array(1)}).startswith("variables['x']: a value of type ndarray")
    assert error_for(actor_id=numpy.bool_(True)) == "actor_id: True (bool) should be a str, int or UUID"
    assert error_for(actor_id=numpy.float64(1)).startswith("actor_id: ")


def test_a_numpy_time_in_nanoseconds_is_no_number():
    """A time finer than Python's is sent as a time or is invalid; it is not sent as a number of nanoseconds."""
    numpy = installed("numpy")
    try:
        form = wire_form(numpy.datetime64("2026-01-02T03:04:05", "ns"))
    except InvalidTrigger:
        return
    assert form.startswith(b'"2026-01-02T03:04:05')


def test_pandas_times_are_datetimes():
    """A Timestamp is sent as a datetime; NaT and NA are invalid."""
    pandas = installed("pandas")
    assert wire_form(pandas.Timestamp("2026-01-02T03:04:05")) == b'"2026-01-02T03:04:05"'
    assert error_for(variables={"x": pandas.NaT}).startswith("variables['x']: ")
    assert error_for(variables={"x": [pandas.NA]}).startswith("variables['x'][0]: ")
