"""The `timeout` argument of flush and close: any number; anything else is an error that changes nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest


@pytest.mark.parametrize("timeout", [Decimal(10), Fraction(10)], ids=repr)
@pytest.mark.parametrize("name", ["flush", "close", "aflush", "aclose"])
def test_a_number_of_any_kind_is_a_timeout(name: str, timeout: Any, server, make_client) -> None:
    """A timeout read from a configuration may be a Decimal, or any other number."""
    client = make_client()
    client.record_trigger("42", "paid", "invoice")

    assert _call(client, name, timeout)

    assert len(server.triggers) == 1


@pytest.mark.parametrize("timeout", [timedelta(seconds=10), 10**400], ids=["timedelta", "huge"])
@pytest.mark.parametrize("name", ["flush", "close", "aflush", "aclose"])
def test_a_wrong_timeout_changes_nothing(name: str, timeout: Any, server, make_client) -> None:
    """The caller gets an error; the client stays open, and delivers."""
    client = make_client()

    with pytest.raises((TypeError, OverflowError), match=r"timeout: .* should be a number of seconds"):
        _call(client, name, timeout)

    assert client.record_trigger("42", "paid", "invoice")
    assert client.close(10)
    assert len(server.triggers) == 1


def _call(client: Any, name: str, timeout: Any) -> Any:
    if not name.startswith("a"):
        return getattr(client, name)(timeout)

    async def run() -> Any:
        return await getattr(client, name)(timeout)

    return asyncio.run(run())
