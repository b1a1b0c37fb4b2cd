"""`record_encoded`: records triggers encoded earlier or elsewhere, and accepts nothing but such a trigger."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from brockman.exceptions import InvalidTrigger
from tests.support.client import law_holds


def test_an_encoded_trigger_is_recorded(server, make_client) -> None:
    """An encoded trigger is delivered with its id."""
    client = make_client()
    body = client.encode_trigger("42", "paid", "invoice")

    assert client.record_encoded(body)
    assert client.flush(10)

    assert [trigger["id"].encode() in body for trigger in server.triggers] == [True]


@pytest.mark.parametrize(
    "wrong",
    ['{"a": 1}', bytearray(b"{}"), memoryview(b"{}"), [b"{}"], 7],
    ids=lambda wrong: type(wrong).__name__,
)
@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_anything_but_bytes_is_refused_and_delays_nothing(
    server, make_client, tmp_path, spooled: bool, wrong: Any
) -> None:
    """Such as text from a database: it raises, and triggers after it are delivered."""
    client = make_client(spool_dir=str(tmp_path / "spool") if spooled else None)

    with pytest.raises(InvalidTrigger, match=f"{type(wrong).__name__} should be the bytes"):
        client.record_encoded(wrong)
    assert client.record_trigger("42", "paid", "invoice")

    assert client.flush(10)
    assert [trigger["object"] for trigger in server.triggers] == ["invoice"]
    assert law_holds(client, recorded=1)


def test_a_trigger_dropped_while_encoding_counts_once(make_client) -> None:
    """The result of `encode_trigger` can be passed on unchecked, also None."""
    client = make_client(before_record=lambda trigger: None)

    assert client.record_encoded(client.encode_trigger("42", "paid", "invoice")) is False

    assert sum(client.stats().dropped.values()) == 1
    assert law_holds(client, recorded=1)


def test_anything_but_bytes_may_be_counted_instead(make_client) -> None:
    """With `on_invalid="drop"` anything but bytes raises nothing, and counts as invalid."""
    client = make_client(on_invalid="drop")

    assert client.record_encoded('{"a": 1}') is False

    assert client.stats().dropped["invalid"] == 1
    assert law_holds(client, recorded=1)


GOOD = {"id": "an id", "actor_id": "42", "action": "paid", "object": "invoice"}
TEXT = json.dumps(GOOD).encode()
WRONG = {
    "empty": b"",
    "blank": b" ",
    "no JSON": b"paid",
    "cut off": TEXT[:-1],
    "two objects": TEXT + TEXT,
    "two lines": TEXT + b"\n" + TEXT,
    "an array": b"[" + TEXT + b"]",
    "a text": json.dumps(TEXT.decode()).encode(),
    "null": b"null",
    "pretty": json.dumps(GOOD, indent=1).encode(),
    "a record separator": b"\x1e" + TEXT,
    "a record separator in a value": TEXT.replace(b"paid", b"pa\x1eid"),
    "a byte order mark": b"\xef\xbb\xbf" + TEXT,
    "UTF-16": TEXT.decode().encode("utf-16"),
    "latin-1": TEXT.replace(b"paid", b"pay\xe9"),
    "NaN": TEXT[:-1] + b', "variables": {"price": NaN}}',
    "a lone surrogate": TEXT.replace(b"paid", b"\\ud800"),
    "too deep": b'{"id":' * 100_000,
    "too long": TEXT[:-1] + b", " + b" " * 32_768 + TEXT[1:],
    **{f"without {name}": json.dumps({**GOOD, name: None}).encode() for name in GOOD},
    **{f"{name} is a number": json.dumps({**GOOD, name: 7}).encode() for name in GOOD},
    **{f"{name} is blank": json.dumps({**GOOD, name: " "}).encode() for name in GOOD},
}


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
@pytest.mark.parametrize("wrong", WRONG)
def test_what_no_client_encodes_is_refused(make_client, tmp_path, spooled: bool, wrong: str) -> None:
    """Whatever the bytes are, the error says what would be right; without errors, they are counted as invalid."""
    spool_dir = str(tmp_path / "spool") if spooled else None
    with pytest.raises(InvalidTrigger, match=r"^body: .* should be "):
        make_client(spool_dir=spool_dir).record_encoded(WRONG[wrong])
    client = make_client(spool_dir=spool_dir, on_invalid="drop")
    assert client.record_encoded(WRONG[wrong]) is False
    assert client.record_encoded(TEXT)
    assert client.flush(10)
    assert client.stats().dropped == {"invalid": 1}
    assert client.stats().delivered == 1
    assert law_holds(client, recorded=2)


def test_the_same_is_refused_without_orjson() -> None:
    """The standard library is held to the same rules."""
    script = """
import sys
sys.modules["orjson"] = None
from brockman.client import FocusLabClient
from brockman.exceptions import InvalidTrigger
from brockman.transport.memory import MemoryTransport
from tests.test_encoded import TEXT, WRONG

client = FocusLabClient("k", transport=MemoryTransport(), on_invalid="drop")
taken = [name for name, body in WRONG.items() if client.record_encoded(body)]
print(taken, client.record_encoded(TEXT), client.record_encoded(client.encode_trigger("42", "paid", "\u20ac")))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[] True True\n", done.stderr
