"""Senders: the processes that send, and whether everything has arrived."""

from __future__ import annotations

from brockman.collector.openapi.parts import (
    AFTER,
    COUNT,
    CURSOR,
    LIMIT,
    TEXT,
    TIME,
    Json,
    an_object,
    answer,
    answers,
    list_of,
    operation,
    optional,
    ref,
)

_COUNTED = ("recorded", "recovered", "delivered", "rejected", "waiting", "arrived", "refused", "missing")
SCHEMAS: Json = {
    "Sender": an_object(
        id=TEXT,
        host=TEXT,
        pid=COUNT,
        started=TIME,
        last_seen=TIME,
        **{name: {"type": "integer"} for name in _COUNTED},
        dropped={"type": "object", "additionalProperties": COUNT},
        missing_since=optional(TIME),
        says={"type": "string", "description": "All of this in a sentence."},
    )
}

PATHS: Json = {
    "/api/v1/senders/": {
        "get": operation(
            "senders",
            "The processes that send, the last heard of first",
            [LIMIT, AFTER],
            answers(s200=answer("A page.", an_object(senders=list_of(ref("Sender")), next=CURSOR))),
        ),
    },
}
