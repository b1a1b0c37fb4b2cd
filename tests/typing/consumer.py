"""How a program uses the client. Never run: `test_consumer` has type checkers read it.

A line that ends in `# wrong` must be an error for each of them, and no other line.
"""

# pyright: strict

from __future__ import annotations

import datetime
import enum
import os
import pathlib
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import requests
from babel.support import LazyProxy

from brockman import FocusLabClient
from brockman.asgi import DeliverOnShutdown
from brockman.exceptions import FocusLabError
from brockman.options import ClientOptions
from brockman.stats import FlushResult
from brockman.testing import capture
from brockman.transport.memory import MemoryTransport


class Plan(enum.Enum):
    PRO = "pro"


class User:
    """As an ORM has it."""

    def __init__(self, pk: int, email: str) -> None:
        self.pk = pk
        self.email = email


# Making a client.


def hide(trigger: dict[str, Any]) -> dict[str, Any] | None:
    return {**trigger, "identities": None}


def note_drop(reason: str, body: bytes | None) -> None:
    print(reason, body)


class Errors:
    def note(self, error: Exception, bodies: tuple[bytes, ...]) -> None:
        print(error, len(bodies))


settings: ClientOptions = {"overflow": "block", "block_timeout": 0.5}
loaded: dict[str, Any] = {"gzip": True}

FocusLabClient()
FocusLabClient("key", "https://collector.example/api/v1/")
FocusLabClient(os.environ.get("KEY"), os.environ.get("ENDPOINT"), gzip=True)
FocusLabClient(api_key="key", endpoint=None, flush_interval=1, max_queue_size=1000, shutdown_timeout=2.5)
FocusLabClient("key", spool_dir=pathlib.Path("/var/lib/shop"), spool_fsync="interval")
FocusLabClient("key", spool_dir="/var/lib/shop", on_drop=note_drop, on_error=Errors().note, before_record=hide)
FocusLabClient("key", before_record=lambda trigger: trigger if trigger["action"] != "viewed" else None)
FocusLabClient("key", on_drop=None, overflow="raise", on_invalid="drop", enabled=False)
FocusLabClient("key", transport=MemoryTransport())
FocusLabClient("key", session=requests.Session())
FocusLabClient("key", **settings)
FocusLabClient(**loaded)

FocusLabClient("key", on_errror=print)  # wrong
FocusLabClient("key", max_queue_size="many")  # wrong
FocusLabClient("key", overflow="newest")  # wrong
FocusLabClient("key", before_record=3)  # wrong
FocusLabClient("key", before_record=lambda: None)  # wrong
FocusLabClient("key", flush_interval=None)  # wrong
FocusLabClient("key", "https://collector.example/", 1.0)  # wrong
FocusLabClient(42)  # wrong
settings["spool_fsync"] = "sometimes"  # wrong

# Recording.

client = FocusLabClient("key")
user = User(7, "ada@example.com")
strings: dict[str, str] = {"email": user.email}
numbers: dict[str, int] = {"visits": 3}
anything: dict[str, Any] = {"plan": Plan.PRO}
lists: dict[str, list[str]] = {"tags": ["python", "queues"]}
maybe: dict[str, str | None] = {"referrer": None}
read_only: Mapping[str, str] = strings

recorded: bool = client.record_trigger(
    actor_id=42,
    action="viewed",
    obj="blog post",
    identities={"email": user.email},
    attributes={"plan": "pro", "age": 36, "score": 0.5, "active": True},
    variables={"tags": ["python", "queues"], "title": "How to never lose a trigger"},
)
client.record_trigger(uuid.uuid4(), "viewed", "page", strings, numbers, lists)
client.record_trigger("42", "viewed", "page", None, anything, maybe)
client.record_trigger(user, Plan.PRO, LazyProxy(str, "page"), read_only)
client.record_trigger(
    7,
    "bought",
    "book",
    variables={
        "price": Decimal("19.90"),
        "order": uuid.uuid4(),
        "on": datetime.date(2026, 1, 1),
        "at": datetime.datetime.now(datetime.timezone.utc),
        "plan": Plan.PRO,
        "nothing": None,
        "mixed": [1, "two", 3.0, Plan.PRO],
        "pair": (1, "two"),
        "set": {1, 2},
        "frozen": frozenset({"a"}),
        "seller": user,
    },
)
client.send_trigger("7", "viewed", "pricing")
body: bytes | None = client.encode_trigger(7, "viewed", "pricing", trigger_id=str(uuid.uuid4()))
client.record_encoded(body)

client.record_trigger(42, 7, None)  # wrong
client.record_trigger(42, "viewed", None)  # wrong
client.record_trigger(None, "viewed", "page")  # wrong
client.record_trigger(4.2, "viewed", "page")  # wrong
client.record_trigger(42, b"viewed", "page")  # wrong
client.record_trigger(action="viewed", obj="page", variables={"title": "Queues"})
client.record_trigger(action="viewed")  # wrong
client.record_trigger(obj="page", variabels={"a": "b"}, action="viewed")  # wrong
client.record_trigger(42, "viewed")  # wrong
client.record_trigger(42, "viewed", "page", "ada@example.com")  # wrong
client.record_trigger(42, "viewed", "page", {7: "seven"})  # wrong
client.record_trigger(42, "viewed", "page", variables={"nested": {"a": "b"}})  # wrong
client.record_trigger(42, "viewed", "page", variables={"object": object()})  # wrong
client.record_trigger(42, "viewed", "page", variabels={"a": "b"})  # wrong
client.send_trigger(42, 7, "page")  # wrong
client.encode_trigger(42, "viewed", ["page"])  # wrong
client.record_encoded("text")  # wrong

# Flushing and closing.

result: FlushResult = client.flush(timeout=2)
if not client.close(None):
    print(result.pending, client.stats().dropped.get("overflow", 0))

with FocusLabClient("key") as scoped:
    scoped.record_trigger(1, "viewed", "page")

with client.flushing(timeout=2):
    pass


@client.flushing()
def handler(event: dict[str, str], context: object) -> str:
    return event["name"]


name: str = handler({"name": "ada"}, None)
number: int = handler({"name": "ada"}, None)  # wrong


async def main() -> None:
    async with FocusLabClient("key") as opened:
        await opened.aflush()
    async with client.flushing():
        await client.aclose(timeout=1.0)


def test_checkout() -> None:
    with capture() as outbox:
        client.record_trigger(1, "ordered", "book")
    assert outbox.assert_recorded(action="ordered", times=1)[0].actor_id == "1"


try:
    client.send_trigger(1, "viewed", "page")
except FocusLabError as error:
    print(error)

client.flush(timeout="soon")  # wrong
client.no_such_method()  # wrong
print(client.options.overflow == "block", DeliverOnShutdown)
