"""Parts that the descriptions of several resources share."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
COUNT: Json = {"type": "integer", "minimum": 0}
TIME: Json = {"type": "string", "format": "date-time"}
CURSOR: Json = {"type": ["string", "null"], "description": "To be given as `after`; null on the last page."}
STRINGS: Json = {"type": "array", "items": TEXT}


def optional(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(schema: Json) -> Json:
    return {"type": "array", "items": schema}


def an_object(**properties: Json) -> Json:
    """Return the schema of an object that has all of these."""
    return {"type": "object", "required": [*properties], "properties": properties}


def parameter(name: str, schema: Json, description: str = "", *, required: bool = False) -> Json:
    """Return a parameter of the query string."""
    found: Json = {"name": name, "in": "query", "schema": schema}
    if description:
        found["description"] = description
    return {**found, "required": True} if required else found


LIMIT = parameter("limit", {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 100})
AFTER = parameter("after", TEXT, "`next` of the page before.")
ORDER = parameter("order", {"enum": ["oldest", "newest"]})


def answer(description: str, schema: Json | None = None, media_type: str = "application/json") -> Json:
    if schema is None:
        return {"description": description}
    return {"description": description, "content": {media_type: {"schema": schema}}}


ERROR = an_object(error=TEXT)
BUSY = {
    "429": answer("More than the collector can take: send it again after `Retry-After` seconds.", ERROR),
    "503": answer("The store cannot be used at present: send it again after `Retry-After` seconds.", ERROR),
}


def answers(**by_status: Json) -> Json:
    """Return the answers of an operation with a key: these, by `s` and their status, and the usual errors."""
    return {
        **{status.removeprefix("s"): found for status, found in by_status.items()},
        "400": answer("A parameter, or the body, is wrong; the text says which and what would be right.", ERROR),
        "401": answer("The key is missing.", ERROR),
        "403": answer("The key, the `Origin` or the `Host` is not one of those that are accepted.", ERROR),
        **BUSY,
    }


def operation(name: str, summary: str, parameters: list[Json], responses: Json, **more: Any) -> Json:
    return {"operationId": name, "summary": summary, "parameters": parameters, "responses": responses, **more}
