"""The live page: HTML, style and script, all from this collector."""

from __future__ import annotations

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

_STATIC = files("brockman.collector").joinpath("static")
_FILES = {
    "/": (_STATIC.joinpath("page.html").read_bytes(), "text/html"),
    "/page.css": (_STATIC.joinpath("page.css").read_bytes(), "text/css"),
    "/page.js": (_STATIC.joinpath("page.js").read_bytes(), "text/javascript"),
}
_HEADERS = {
    # Nothing from another host, and no script in the page itself: a trigger that holds markup stays text.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


async def send_page_file(request: Request) -> Response:
    """Return the file of a path in `_FILES`."""
    content, media_type = _FILES[request.scope["path"]]
    return Response(content, headers=_HEADERS, media_type=media_type)
