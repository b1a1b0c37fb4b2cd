"""People: the actors that share an identity."""

from __future__ import annotations

from brockman.collector.openapi.parts import (
    AFTER,
    COUNT,
    CURSOR,
    ERROR,
    LIMIT,
    ORDER,
    STRINGS,
    TEXT,
    TIME,
    Json,
    an_object,
    answer,
    answers,
    list_of,
    operation,
    parameter,
    ref,
)

_VALUES: Json = {"type": "object", "additionalProperties": {"type": "array"}}
_SHARED = list_of(an_object(name=TEXT, value={}, actors=COUNT))
_PERSON = {
    "actor_ids": STRINGS,
    "identities": _VALUES,
    "attributes": {"type": "object"},
    "first_seen": TIME,
    "last_seen": TIME,
    "total": COUNT,
}
SCHEMAS: Json = {"Person": an_object(**_PERSON, actors=COUNT)}
_WHO = [
    parameter("actor_id", {"type": "string", "pattern": r"\S", "examples": ["7"]}, "Either this or `identity`."),
    parameter(
        "identity",
        {"type": "string", "pattern": "^[^:]+:", "examples": ["email:ada@example.com"]},
        "Name and value. Either this or `actor_id`.",
    ),
]
_WHOLE = an_object(**_PERSON, not_joined=_SHARED, triggers=list_of(ref("Trigger")), next=CURSOR, pending=COUNT)
_UNKNOWN = answer("Nobody has it.", ERROR)

PATHS: Json = {
    "/api/v1/person/": {
        "get": operation(
            "person",
            "A person: all ids and identities, and the timeline",
            [*_WHO, LIMIT, AFTER, ORDER],
            answers(s200=answer("The person.", _WHOLE), s404=_UNKNOWN),
        ),
        "delete": operation(
            "erase",
            "Erase what is stored about a person",
            [*_WHO, parameter("dry_run", {"enum": ["yes", "no"]}, "Count only.")],
            answers(s200=answer("The counts of what was removed.", an_object(triggers=COUNT)), s404=_UNKNOWN),
        ),
    },
    "/api/v1/people/": {
        "get": operation(
            "people",
            "People, the last seen first",
            [parameter("search", {"type": "string", "maxLength": 1000}), LIMIT, AFTER],
            answers(
                s200=answer(
                    "A page.",
                    an_object(
                        people=list_of(ref("Person")), total=COUNT, next=CURSOR, pending=COUNT, not_joined=_SHARED
                    ),
                )
            ),
        ),
    },
}
