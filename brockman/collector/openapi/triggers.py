"""Triggers: recorded, read, streamed, counted."""

from __future__ import annotations

from brockman.collector.openapi.parts import (
    AFTER,
    COUNT,
    CURSOR,
    ERROR,
    LIMIT,
    ORDER,
    TEXT,
    TIME,
    Json,
    an_object,
    answer,
    answers,
    list_of,
    operation,
    optional,
    parameter,
    ref,
)

_SCALAR: Json = {"type": ["string", "number", "boolean"]}
_MAPPING = optional(
    {"type": "object", "additionalProperties": {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}}
)
_NOT_BLANK: Json = {"type": "string", "pattern": r"\S"}
SCHEMAS: Json = {
    "Trigger": {
        "type": "object",
        "required": ["actor_id", "action", "object"],
        "properties": {
            "actor_id": _NOT_BLANK,
            "action": _NOT_BLANK,
            "object": _NOT_BLANK,
            "captured_identities": _MAPPING,
            "captured_attributes": _MAPPING,
            "variables": _MAPPING,
            "id": optional({"type": "string", "format": "uuid", "description": "The same on every attempt."}),
            "recorded_at": optional(TIME),
        },
    },
    "Counts": an_object(triggers=COUNT, duplicates=COUNT, rejected=COUNT, requests=COUNT),
}
_FILTERS = [
    parameter("actor_id", TEXT),
    parameter("action", TEXT),
    parameter("object", TEXT),
    parameter("id", {"type": "string", "format": "uuid"}),
    parameter("since", TIME, "Recorded at this time or later."),
    parameter("until", TIME, "Recorded before this time."),
    parameter("search", {"type": "string", "maxLength": 1000}, "Text somewhere in the trigger."),
]
_PAGE = an_object(
    triggers=list_of(ref("Trigger")),
    total=optional(COUNT),
    next=CURSOR,
    newest=TEXT,
    searched_to=optional(TIME),
)
_STORED = {
    "oneOf": [
        an_object(id={"type": "string", "format": "uuid"}, repeated={"type": "boolean"}),
        an_object(accepted=COUNT, repeated=COUNT),
    ]
}
_PARTLY = an_object(accepted=COUNT, repeated=COUNT, rejected=list_of(an_object(index=COUNT, error=TEXT)))
_RANKING: Json = {"type": "array", "items": {"type": "array", "items": {"type": ["string", "integer"]}}}
_TRIGGERS = {
    "oneOf": [ref("Trigger"), {"type": "array", "minItems": 1, "maxItems": 10_000, "items": ref("Trigger")}]
}

PATHS: Json = {
    "/": {
        "get": operation(
            "root",
            "The live page for a browser, and the name of the service for others",
            [],
            {
                "200": {
                    "description": "The page, or a JSON object.",
                    "content": {"application/json": {"schema": an_object(service=TEXT)}, "text/html": {}},
                }
            },
            security=[],
        )
    },
    "/focuslab.js": {
        "get": operation(
            "script",
            "The script for web pages",
            [],
            {"200": answer("The script.", TEXT, "text/javascript"), "304": answer("The browser has it.")},
            security=[],
        )
    },
    "/api/v1/trigger/": {
        "post": operation(
            "record",
            "Record a trigger, or up to 10 000 of them",
            [],
            answers(
                s201=answer("All are stored, now or before.", _STORED),
                s207=answer("The valid ones are stored; the others are listed.", _PARTLY),
                s408=answer("The body did not arrive in time.", ERROR),
                s413=answer("The body is too large.", ERROR),
                s415=answer("The body is no JSON by its headers.", ERROR),
            ),
            requestBody={"required": True, "content": {"application/json": {"schema": _TRIGGERS}}},
            security=[{"key": []}, {"bearer": []}, {"write_key": []}],
        ),
        "get": operation(
            "read",
            "Read triggers, page by page",
            [
                *_FILTERS,
                ORDER,
                parameter(
                    "total", {"enum": ["yes", "no"]}, "Whether to count the matching triggers of all pages."
                ),
                LIMIT,
                AFTER,
            ],
            answers(s200=answer("A page.", _PAGE)),
        ),
    },
    "/api/v1/stats/": {
        "get": operation("stats", "The counts of the store", [], answers(s200=answer("OK", ref("Counts")))),
    },
    "/api/v1/overview/": {
        "get": operation(
            "overview",
            "The rate of the last hour, and the most frequent actions and objects",
            [],
            answers(
                s200=answer(
                    "OK",
                    an_object(
                        counts=ref("Counts"),
                        minutes=list_of(list_of({"type": "integer"})),
                        actions=_RANKING,
                        objects=_RANKING,
                        is_partial={"type": "boolean"},
                    ),
                )
            ),
        ),
    },
    "/api/v1/stream/": {
        "get": operation(
            "stream",
            "New triggers as they are stored: server-sent events",
            [
                *_FILTERS,
                parameter("after", TEXT, "Begin behind this trigger; so does the header `Last-Event-ID`."),
            ],
            answers(s200=answer("A stream that does not end.", TEXT, "text/event-stream")),
        ),
    },
}
