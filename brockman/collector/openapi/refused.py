"""Refused triggers, kept with their reason."""

from __future__ import annotations

from brockman.collector.openapi.parts import (
    AFTER,
    COUNT,
    CURSOR,
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
)

_OBJECT: Json = {"type": "object"}
SCHEMAS: Json = {
    "Refused": an_object(
        number=COUNT,
        reason=TEXT,
        received_at=TIME,
        sender=optional(_OBJECT),
        trigger=optional(_OBJECT),
        text=optional(TEXT),
    )
}
_FILTERS = [
    parameter("action", TEXT),
    parameter("object", TEXT),
    parameter("actor_id", TEXT),
    parameter("reason", TEXT, "Text in the reason."),
]
_NUMBERS = parameter(
    "number", {"type": "string", "pattern": "^[0-9]{1,18}(,[0-9]{1,18}){0,999}$"}, "These, as 17,18."
)
_PAGE = an_object(
    refused=list_of({"$ref": "#/components/schemas/Refused"}), total=COUNT, next=CURSOR, newest=TEXT, removed=COUNT
)

PATHS: Json = {
    "/api/v1/refused/": {
        "get": operation(
            "refused",
            "Refused triggers, page by page",
            [*_FILTERS, _NUMBERS, LIMIT, AFTER, ORDER],
            answers(s200=answer("A page.", _PAGE)),
        ),
        "delete": operation(
            "forget_refused",
            "Remove refused triggers",
            [
                *_FILTERS,
                _NUMBERS,
                parameter("all", {"enum": ["yes"]}, "Remove all of them."),
            ],
            answers(s200=answer("The number of those that were removed.", an_object(removed=COUNT))),
        ),
    },
}
