"""Triggers from web pages: the origins that may send them, and the script that does."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

_MAX_AGE = 3600  # seconds until a browser asks again, for a preflight and for the script
_SCRIPT = files("brockman.collector").joinpath("static/focuslab.js").read_bytes()
_ETAG = f'"{hashlib.sha256(_SCRIPT).hexdigest()[:16]}"'


class Origins:
    """The origins of web pages whose triggers are accepted. `*` stands for all of them."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = frozenset(allowed)

    def middleware(self) -> Middleware:
        """Return what answers preflights, and lets allowed pages read the answers to what they post."""
        return Middleware(
            CORSMiddleware,
            allow_origins=sorted(self._allowed),
            allow_methods=["POST"],
            allow_headers=["Content-Type", "X-FL-API-KEY"],
            expose_headers=["Retry-After"],
            max_age=_MAX_AGE,
        )

    def check(self, request: Request) -> bool:
        """Return whether a web page sends the request, of this collector or of an allowed origin.

        Browsers send plain text to any host without asking first, so that a page of any other origin is rejected:
        403.
        """
        origin = request.headers.get("origin")
        if origin is None:
            return False
        host = request.headers.get("host", "")
        if origin in self._allowed or "*" in self._allowed or origin in (f"http://{host}", f"https://{host}"):
            return True
        raise HTTPException(403, f"pages of {origin[:100]!a} may not send triggers; start with --allow-origin")


async def send_script(request: Request) -> Response:
    """Return the script, or 304 when the browser has it."""
    headers = {
        "Cache-Control": f"public, max-age={_MAX_AGE}",
        "ETag": _ETAG,
        "Cross-Origin-Resource-Policy": "cross-origin",
        "X-Content-Type-Options": "nosniff",
    }
    if _ETAG in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(_SCRIPT, headers=headers, media_type="text/javascript")
