"""Values for triggers, and encoding them with both JSON libraries."""

from __future__ import annotations

import enum
import json
import uuid
from datetime import datetime, timezone
from typing import Any

import pytest

import brockman.trigger.encode
from brockman.exceptions import InvalidTrigger
from brockman.trigger.encode import encode_trigger

ID = "d47ac10b-58cc-8372-a567-000000000001"
MOMENT = datetime(2026, 11, 23, 17, 22, 32, 123456, timezone.utc)
LIMIT = 32 * 1024
UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")
MAPPINGS = ("identities", "attributes", "variables")
FIELDS = ("actor_id", "action", "obj", *MAPPINGS)
WIRE_NAMES = dict(zip(MAPPINGS, ("captured_identities", "captured_attributes", "variables"), strict=True))


def encode_with(fast: bool, max_bytes: int = LIMIT, **arguments: Any) -> bytes:
    """Return a trigger's JSON, made by orjson if `fast`, else by `json`; omitted arguments are plain values."""
    given = {"actor_id": "7", "action": "viewed", "obj": "page", **dict.fromkeys(MAPPINGS), **arguments}
    with pytest.MonkeyPatch.context() as patch:
        if not fast:
            patch.setattr(brockman.trigger.encode, "orjson", None)
        return encode_trigger(*given.values(), ID, MOMENT, max_bytes)


def encode(max_bytes: int = LIMIT, **arguments: Any) -> bytes:
    """Return a trigger's JSON; fail unless both encoders agree on it, or on the text of the error."""
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
    """Return the JSON of a value in a mapping."""
    body = encode(variables={"x": value})
    before, after = b'"variables":{"x":', b'},"id":'
    assert body.count(before) == body.count(after) == 1
    return body[body.index(before) + len(before) : body.index(after)]


def error_for(**arguments: Any) -> str:
    """Return the message of the InvalidTrigger that the arguments raise."""
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
    """Raised by foreign code. Its text is secret."""

    def __init__(self, text: str = "the card number is 4111") -> None:
        super().__init__(text)


class Text(str):
    """A str whose methods raise."""

    def _raise(self, *args):
        raise Foreign

    __str__ = __repr__ = __len__ = __bool__ = __format__ = strip = encode = __getitem__ = __iter__ = _raise


class Whole(int):
    """An int whose methods raise."""

    def _raise(self, *args):
        raise Foreign

    __str__ = __repr__ = __bool__ = __format__ = __int__ = __index__ = __le__ = __abs__ = _raise


class Real(float):
    """A float whose methods raise."""

    def _raise(self, *args):
        raise Foreign

    __str__ = __repr__ = __bool__ = __format__ = __float__ = __sub__ = _raise


def raising(error: BaseException) -> Any:
    """Return a method that raises an error."""

    def raise_it(self, *args):
        raise error

    return raise_it
