"""One view as an application of WSGI, ASGI, Flask and FastAPI, with the middleware, and requests to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from wsgiref.util import setup_testing_defaults

import flask
from fastapi import FastAPI
from starlette.responses import StreamingResponse

from brockman import asgi, wsgi
from brockman.flask import FocusLab

View = Callable[[], Iterable[str]]
Headers = dict[str, str]
ASGI = {"version": "3.0", "spec_version": "2.3"}


@dataclass
class Response:
    """A response."""

    status: int
    headers: list[tuple[str, str]]  # names in lower case
    body: str

    def header(self, name: str) -> str | None:
        """Return the value of a header; None when there is none."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, values
        return values[0] if values else None

    @property
    def cookie(self) -> str | None:
        """The actor in the cookie that is set; None when none is set."""
        text = self.header("set-cookie")
        return text and text.partition(";")[0].removeprefix("fl_actor_id=")


def call_wsgi(app: Any, path: str, headers: Headers) -> Response:
    """Send a request to a WSGI application."""
    environ: dict[str, Any] = {"SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    environ |= {"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers.items()}
    started: list[Any] = []
    body = app(environ, lambda *start: started.append(start))
    try:
        content = b"".join(body).decode()
    finally:
        if hasattr(body, "close"):
            body.close()
    status, received, *_ = started[-1]
    return Response(int(status.split()[0]), [(name.lower(), value) for name, value in received], content)


async def call_asgi_soon(app: Any, path: str, headers: Headers, kind: str = "http") -> Response:
    """Send a request to an ASGI application."""
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "method": "GET", "path": path, "raw_path": path.encode(), "headers": pairs}
    scope |= {
        "query_string": b"",
        "scheme": "http",
        "http_version": "1.1",
        "root_path": "",
        "asgi": {"version": "3.0"},
    }
    sent: list[dict[str, Any]] = []
    received = asyncio.Queue[dict[str, Any]]()
    received.put_nowait({"type": "http.request"} if kind == "http" else {"type": "websocket.connect"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            received.put_nowait({"type": "http.disconnect"})

    await app(scope, received.get, send)
    status = sent[0].get("status", 101)
    found = [(name.decode(), value.decode()) for name, value in sent[0].get("headers", ())]
    return Response(status, found, b"".join(message.get("body", b"") for message in sent).decode())


def call_asgi(app: Any, path: str, headers: Headers) -> Response:
    """Send a request to an ASGI application, in an event loop of its own."""
    return asyncio.run(call_asgi_soon(app, path, headers))


def make_wsgi(view: View, **options: Any) -> Any:
    """Return a WSGI application with the middleware."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        parts = view()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [parts.encode()] if isinstance(parts, str) else map(str.encode, parts)

    return wsgi.FocusLabMiddleware(app, **options)


def make_asgi(view: View, **options: Any) -> Any:
    """Return an ASGI application with the middleware."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        parts = view()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        for part in parts:
            await send({"type": "http.response.body", "body": part.encode(), "more_body": True})
        await send({"type": "http.response.body"})

    return asgi.FocusLabMiddleware(app, **options)


def make_flask(view: View, *, debug: bool | None = None, **options: Any) -> Any:
    """Return a Flask application with the extension."""
    app = flask.Flask("shop")
    app.testing = bool(debug)
    FocusLab(app, **options)
    app.add_url_rule("/", view_func=lambda: flask.Response(view(), mimetype="text/plain"))
    app.add_url_rule("/healthz", "healthz", app.view_functions["<lambda>"])
    return app


def make_fastapi(view: View, **options: Any) -> Any:
    """Return a FastAPI application with the middleware, and a synchronous view, which runs in a thread."""
    app = FastAPI()
    app.add_middleware(asgi.FocusLabMiddleware, **options)

    def page() -> Any:
        return StreamingResponse(view(), media_type="text/plain")

    app.add_api_route("/", page, response_model=None)
    app.add_api_route("/healthz", page, response_model=None)
    return app


KINDS: dict[str, tuple[Callable[..., Any], Callable[..., Response]]] = {
    "wsgi": (make_wsgi, call_wsgi),
    "asgi": (make_asgi, call_asgi),
    "flask": (make_flask, call_wsgi),
    "fastapi": (make_fastapi, call_asgi),
}


@contextmanager
def in_production(monkeypatch: Any) -> Iterator[None]:
    """Have brockman not see pytest, for the length of a block."""
    with monkeypatch.context() as patch:
        for module in ("brockman.wsgi", "brockman.asgi", "brockman.flask"):
            patch.setattr(f"{module}.in_pytest", lambda: False)
        yield
