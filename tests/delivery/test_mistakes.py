"""Invalid triggers that are dropped: the log has an example of each kind, with the place of the call."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from brockman.client import FocusLabClient
from brockman.transport.memory import MemoryTransport
from tests.support.waiting import eventually


def test_each_kind_of_mistake_is_logged_once(
    make_client: Callable[..., FocusLabClient], caplog: pytest.LogCaptureFixture
) -> None:
    """Five of one kind with different values are one line, and the other kind has its own."""
    client = make_client(transport=MemoryTransport(), on_invalid="drop")
    for number in range(5):
        client.record_trigger("7", "viewed", "page", variables={"price": number * float("inf")})
    client.record_trigger("7", "", "page")
    line = sys._getframe().f_lineno - 1
    assert eventually(lambda: "action: '' (str) should not be empty" in caplog.text)
    client.close(5)
    examples = [message for message in caplog.messages if "invalid trigger" in message]
    assert len(examples) == 2, examples
    assert f"from {__file__}:{line - 1}: variables['price']" in examples[0]
    assert f"from {__file__}:{line}: action" in examples[1]


def test_many_kinds_do_not_flood_the_log(
    make_client: Callable[..., FocusLabClient], caplog: pytest.LogCaptureFixture
) -> None:
    """Field names and values of an attacker are no kinds of their own."""
    client = make_client(transport=MemoryTransport(), on_invalid="drop")
    for number in range(1000):
        letter = chr(ord("a") + number % 26)
        client.record_trigger("7", "viewed", "page", variables={f"{letter}'\"{letter}": b"%d" % number})
    client.close(5)
    assert sum("invalid trigger" in message for message in caplog.messages) <= 3


def test_one_trigger_is_singular(
    make_client: Callable[..., FocusLabClient], caplog: pytest.LogCaptureFixture
) -> None:
    """The last line of a client says "1 trigger"."""
    client = make_client(endpoint="http://127.0.0.1:9/")
    client.record_trigger("7", "viewed", "page")
    client.close(0.1)
    assert eventually(lambda: "closed with 1 trigger not delivered" in caplog.text)
