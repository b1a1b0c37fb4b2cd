"""The description of the API, as OpenAPI 3.1: https://spec.openapis.org/oas/v3.1.0.

Each module has the paths of one resource. Those that a collector does not have are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from brockman import __version__
from brockman.collector.openapi import groups, people, refused, senders, triggers, watching
from brockman.collector.responses import json_response

PATH = "/openapi.json"
_MODULES = (triggers, people, groups, refused, senders, watching)
_SECURITY = {
    "key": {"type": "apiKey", "in": "header", "name": "X-FL-API-KEY"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same key."},
    "write_key": {
        "type": "apiKey",
        "in": "query",
        "name": "key",
        "description": "A write key, for a page that can send no headers.",
    },
}


def describe(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """Return the document for the paths and methods of routes."""
    methods: dict[str, set[str]] = {PATH: {"get"}}
    for route in routes:
        if isinstance(route, Route):
            found = {method.lower() for method in route.methods or ()}
            methods.setdefault(plain_path(route.path), set()).update(found)
    described = {path: item for module in _MODULES for path, item in module.PATHS.items()}
    shared = ("parameters", "summary", "description")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "brockman collector",
            "version": __version__,
            "description": 'Errors are JSON, `{"error": "..."}`. A 429 or 503 is to be sent again later.',
        },
        "security": [{"key": []}, {"bearer": []}],
        "paths": {
            path: {name: part for name, part in item.items() if name in methods[path] or name in shared}
            for path, item in described.items()
            if path in methods
        },
        "components": {
            "securitySchemes": _SECURITY,
            "schemas": {name: schema for module in _MODULES for name, schema in module.SCHEMAS.items()},
        },
    }


def plain_path(path: str) -> str:
    """Return the path of a route as OpenAPI writes it: without converters."""
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)


def route(routes: Iterable[BaseRoute]) -> Route:
    """Return the route of the document, for routes that may still be added to."""

    async def send(request: Request) -> Response:
        return json_response(describe(routes), headers={"Cache-Control": "no-cache"})

    return Route(PATH, send, methods=["GET"])
