"""`record_encoded`: records triggers encoded earlier or elsewhere, and accepts nothing but bytes."""

from __future__ import annotations

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
