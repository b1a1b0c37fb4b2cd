"""Groups: saved filters, and their members."""

from __future__ import annotations

from brockman.collector.openapi.parts import (
    AFTER,
    COUNT,
    CURSOR,
    ERROR,
    LIMIT,
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

_WHERE: Json = {"type": "object", "description": "Values of `attributes.<name>` and `variables.<name>`."}
_DID: Json = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "action": TEXT,
            "object": TEXT,
            "times": {"type": "integer", "minimum": 1},
            "within_days": {"type": "integer", "minimum": 1},
        },
    },
}
_DEFINITION = {"where": _WHERE, "did": _DID, "did_not": _DID}
SCHEMAS: Json = {
    "GroupDefinition": {"type": "object", "properties": _DEFINITION, "additionalProperties": False},
    "Group": an_object(name=TEXT, **_DEFINITION, created_at=TIME, updated_at=TIME),
}
_UNKNOWN = answer("There is no such group.", ERROR)
_MEMBERS = an_object(
    name=TEXT, **_DEFINITION, total=COUNT, members=list_of(ref("Person")), next=CURSOR, pending=COUNT
)

PATHS: Json = {
    "/api/v1/group/": {
        "get": operation(
            "groups",
            "All groups",
            [],
            answers(s200=answer("The groups.", an_object(groups=list_of(ref("Group"))))),
        ),
    },
    "/api/v1/group/{name}/": {
        "parameters": [{"name": "name", "in": "path", "required": True, "schema": TEXT}],
        "get": operation(
            "members",
            "The members of a group",
            [LIMIT, AFTER, parameter("format", {"enum": ["json", "csv", "ndjson"]})],
            answers(
                s200={
                    "description": "A page, or all of them in a file.",
                    "content": {
                        "application/json": {"schema": _MEMBERS},
                        "text/csv": {},
                        "application/x-ndjson": {},
                    },
                },
                s404=_UNKNOWN,
            ),
        ),
        "put": operation(
            "save_group",
            "Make a group, or change it",
            [],
            answers(
                s200=answer("It was changed.", ref("Group")),
                s201=answer("It was made.", ref("Group")),
                s404=_UNKNOWN,
                s408=answer("The body did not arrive in time.", ERROR),
                s409=answer("There are too many groups.", ERROR),
                s413=answer("The body is too large.", ERROR),
                s415=answer("The body is no JSON by its headers.", ERROR),
            ),
            requestBody={
                "required": True,
                "content": {"application/json": {"schema": ref("GroupDefinition")}},
            },
        ),
        "delete": operation(
            "delete_group", "Delete a group", [], answers(s204=answer("It was deleted."), s404=_UNKNOWN)
        ),
    },
}
