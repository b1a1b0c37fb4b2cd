"""`record_encoded`: what was encoded earlier, or elsewhere, comes back as bytes, and nothing else is taken."""

from __future__ import annotations

from typing import Any

import pytest

from brockman.exceptions import InvalidTrigger
from tests.conftest import law_holds


def test_what_was_encoded_is_recorded(server, make_client) -> None:
    """A trigger that was encoded is delivered with the id that it had then."""
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
def test_what_is_no_bytes_is_refused_and_holds_nothing_up(
    server, make_client, tmp_path, spooled: bool, wrong: Any
) -> None:
    """Text out of a database, say, is a mistake that the caller learns of; triggers after it are delivered."""
    client = make_client(spool_dir=str(tmp_path / "spool") if spooled else None)

    with pytest.raises(InvalidTrigger, match=f"{type(wrong).__name__} should be the bytes"):
        client.record_encoded(wrong)
    assert client.record_trigger("42", "paid", "invoice")

    assert client.flush(10)
    assert [trigger["object"] for trigger in server.triggers] == ["invoice"]
    assert law_holds(client, recorded=1)


def test_what_was_dropped_when_it_was_encoded_counts_once(make_client) -> None:
    """What `encode_trigger` returned can be passed on without a look, also where it is None."""
    client = make_client(before_record=lambda trigger: None)

    assert client.record_encoded(client.encode_trigger("42", "paid", "invoice")) is False

    assert sum(client.stats().dropped.values()) == 1
    assert law_holds(client, recorded=1)


def test_where_mistakes_are_dropped_it_is_counted(make_client) -> None:
    """With `on_invalid="drop"` what is no bytes raises nothing, and counts as invalid."""
    client = make_client(on_invalid="drop")

    assert client.record_encoded('{"a": 1}') is False

    assert client.stats().dropped["invalid"] == 1
    assert law_holds(client, recorded=1)
