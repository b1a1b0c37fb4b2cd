"""The page: HTML, style and scripts, all from this collector."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from brockman.collector.responses import json_response

_STATIC = files("brockman.collector").joinpath("static")
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_LOADED = [file.name for file in _STATIC.joinpath("page").iterdir() if file.name.endswith((".css", ".js"))]
_NAMES = ["page.html", *(f"page/{name}" for name in sorted(_LOADED))]
_FILES = {
    f"/{name}": (content, _TYPES[name.rpartition(".")[2]], f'"{hashlib.sha256(content).hexdigest()[:16]}"')
    for name, content in ((name, _STATIC.joinpath(name).read_bytes()) for name in _NAMES)
}
_HEADERS = {
    # Nothing from another host, no script in the page itself, and no text that becomes markup.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # a newer collector has newer files
    "Vary": "Accept",
}


def routes() -> list[Route]:
    """Return the route of the page, and one for each file that it loads."""
    loaded = [path for path in _FILES if path != "/page.html"]
    return [
        Route("/", _send_root, methods=["GET"]),
        *(Route(path, _send_file, methods=["GET"]) for path in loaded),
    ]


async def _send_root(request: Request) -> Response:
    """Return the page, or to programs where the API is."""
    if "text/html" in request.headers.get("accept", ""):
        return _send(request, "/page.html")
    content = {"service": "brockman collector", "triggers": "/api/v1/trigger/", "stats": "/api/v1/stats/"}
    return json_response(content, headers={"Vary": "Accept"})


async def _send_file(request: Request) -> Response:
    return _send(request, request.scope["path"])


def _send(request: Request, path: str) -> Response:
    """Return a file, or 304 when the browser has it."""
    content, media_type, tag = _FILES[path]
    headers = {**_HEADERS, "ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)
