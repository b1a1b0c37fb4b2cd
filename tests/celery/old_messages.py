"""Messages as brockman 0.1 published them: Celery 3.0 and 3.1 under Python 2.7, pickled or as JSON.

Built by hand, byte for byte as captured, since neither runs today. In the arguments, `bytes` stand for Python 2's
`str`, and `str` for its `unicode`.
"""

from __future__ import annotations

import base64
import json
import struct
import uuid
from dataclasses import dataclass, field
from typing import Any

NAME = "brockman.django.celery.tasks.record_trigger"


def pickled(value: Any) -> bytes:
    """Return the pickle of protocol 2 that Python 2.7 makes of a value."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value: Any) -> bytes:
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, bytes):
        return b"U" + bytes([len(value)]) + value
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, dict):
        return b"}(" + b"".join(_opcodes(part) for pair in value.items() for part in pair) + b"u"
    items = b"".join(map(_opcodes, value))
    return b"(" + items + b"t" if isinstance(value, tuple) else b"](" + items + b"e"


def _as_text(value: Any) -> Any:
    """Return a value as Python 2 wrote it as JSON: its `str` is UTF-8."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {_as_text(name): _as_text(part) for name, part in value.items()}
    return [_as_text(part) for part in value] if isinstance(value, (list, tuple)) else value


@dataclass
class OldMessage:
    """One message. `celery` is the minor version of Celery 3."""

    args: Any = ()
    kwargs: dict[bytes, Any] = field(default_factory=dict)
    celery: int = 0
    is_pickled: bool = True
    retries: int = 0
    eta: bytes | None = None
    expires: bytes | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def body(self) -> bytes:
        fields = {
            b"retries": self.retries,
            b"task": NAME.encode(),
            b"errbacks": None,
            b"callbacks": None,
            b"kwargs": self.kwargs,
            b"eta": self.eta,
            b"args": self.args,
            b"id": self.id.encode(),
            b"expires": self.expires,
            b"utc": True,
        }
        if self.celery == 1:
            fields |= {b"taskset": None, b"chord": None, b"timelimit": (None, None)}
        return pickled(fields) if self.is_pickled else json.dumps(_as_text(fields)).encode()

    @property
    def content(self) -> tuple[str, str]:
        """The type and the encoding of the body."""
        return ("application/x-python-serialize", "binary") if self.is_pickled else ("application/json", "utf-8")

    @property
    def in_redis(self) -> str:
        """The item that the Redis transport pushed on the list of the queue."""
        properties: dict[str, Any] = {
            "body_encoding": "base64",
            "delivery_info": {"priority": 0, "routing_key": "celery", "exchange": "celery"},
            "delivery_mode": 2,
            "delivery_tag": str(uuid.uuid4()),
        }
        if self.celery == 1:
            properties |= {"correlation_id": self.id, "reply_to": str(uuid.uuid4())}
        else:
            properties |= {"exclusive": False, "name": "celery", "durable": True, "auto_delete": False}
            properties |= {"no_ack": False, "alias": None, "queue_arguments": None, "binding_arguments": None}
        content_type, encoding = self.content
        return json.dumps(
            {
                "body": base64.b64encode(self.body).decode(),
                "content-type": content_type,
                "content-encoding": encoding,
                "headers": {},
                "properties": properties,
            }
        )

    @property
    def amqp_properties(self) -> dict[str, Any]:
        """The properties that a broker of AMQP had."""
        content_type, encoding = self.content
        sent = {"correlation_id": self.id, "reply_to": str(uuid.uuid4())} if self.celery == 1 else {}
        properties: dict[str, Any] = {"content_type": content_type, "content_encoding": encoding, **sent}
        return {**properties, "application_headers": {}, "delivery_mode": 2, "priority": 0}


_DETAILS = {
    b"identities": {"email": "zoë@example.com", "user_id": 42},
    b"attributes": {b"plan": b"basic"},
    b"variables": {b"tags": ["a", b"b"], b"title": "Zoë"},
}


def every_kind(*, celery: int, is_pickled: bool) -> list[OldMessage]:
    """Return a message of each kind, with different objects in the triggers."""
    style: dict[str, Any] = {"celery": celery, "is_pickled": is_pickled}
    zone = b"+00:00" if celery == 1 else b""
    past, future = b"2012-09-01T12:00:00.429946" + zone, b"2126-11-04T10:21:44.956978" + zone
    return [
        OldMessage(("7", b"viewed", b"by position"), **style),
        OldMessage(["7", b"viewed", b"in a list"], **style),
        OldMessage((), {b"actor_id": "7", b"action": b"viewed", b"obj": b"by keyword", **_DETAILS}, **style),
        OldMessage(("7", b"viewed"), {b"obj": b"mixed", **_DETAILS}, **style),
        OldMessage((7, b"viewed", b"all six", *_DETAILS.values()), **style),
        OldMessage((7, b"viewed", b"retried", None, None, None), retries=3, eta=past, **style),
        OldMessage((7, b"viewed", b"expires"), expires=future, **style),
    ]


def objects(messages: list[OldMessage]) -> dict[str, str]:
    """Return the objects of the triggers, by the ids of the messages."""
    return {
        message.id: (message.kwargs[b"obj"] if b"obj" in message.kwargs else message.args[2]).decode()
        for message in messages
    }
