"""The middleware for WSGI: what the specification asks of one (PEP 3333)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest

import brockman
from brockman.client import FocusLabClient
from brockman.wsgi import FocusLabMiddleware
from tests.web.applications import call_wsgi


@pytest.fixture
def client(make_client: Callable[..., FocusLabClient]) -> FocusLabClient:
    """A client that any code may have."""
    return make_client()


def test_it_keeps_to_the_specification(client: FocusLabClient) -> None:
    """As the validator of Python's library sees it, from above and from below."""

    def app(environ: Any, start_response: Any) -> Any:
        environ["focuslab.tracker"].record_trigger("viewed", "page")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter([b"a", b"b"])

    answer = call_wsgi(validator(FocusLabMiddleware(validator(app), client=client)), "/", {})  # type: ignore[arg-type]
    assert answer.body == "ab"
    assert answer.cookie


@pytest.mark.parametrize("kind", ["list", "tuple", "file"])
def test_what_is_made_already_is_not_wrapped(client: FocusLabClient, tmp_path: Path, kind: str) -> None:
    """The server sees a list, and sends its length, or a file, and sends it without reading."""
    path = tmp_path / "page"
    path.write_bytes(b"ab")
    with path.open("rb") as file:
        body = {"list": [b"ab"], "tuple": (b"ab",), "file": FileWrapper(file)}[kind]

        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [])
            return body

        environ = {"wsgi.file_wrapper": FileWrapper}
        assert FocusLabMiddleware(app, client=client)(environ, lambda *_: None) is body


def test_a_body_is_closed_in_its_context(client: FocusLabClient) -> None:
    """Also if the server stops in the middle of it, and if it was made by a generator that had not begun."""
    closed: list[str | None] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            yield b"a"

        def close(self) -> None:
            closed.append(brockman.current().actor_id)

    tracked = FocusLabMiddleware(lambda environ, start_response: Body(), client=client)
    environ: dict[str, Any] = {}
    tracked(environ, lambda *_: None).close()  # type: ignore[attr-defined]
    assert closed == [environ["focuslab.tracker"].actor_id]


def test_an_error_page_has_the_cookie_too(client: FocusLabClient) -> None:
    """`start_response` may be called again with the exception; so it is, and the headers are those of its page."""
    started: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        environ["focuslab.tracker"].record_trigger("viewed", "page")
        start_response("200 OK", [("Content-Length", "2")])
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            start_response("500 Oh", [("Content-Length", "0")], exc_info=sys.exc_info())
        return []

    FocusLabMiddleware(app, client=client)({}, lambda *start: started.append(start))
    (_, first), (status, headers, error) = started
    assert (status, error[0]) == ("500 Oh", ZeroDivisionError)
    assert (
        [pair for pair in headers if pair[0] == "Set-Cookie"] == [p for p in first if p[0] == "Set-Cookie"] != []
    )


@pytest.mark.parametrize("may_track", [None, bool], ids=["everybody", "consent"])
def test_requests_that_share_an_environ_have_actors_of_their_own(client: FocusLabClient, may_track: Any) -> None:
    """A server or a test may use it again, also after an exception; nobody gets the actor of another."""

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(environ["focuslab.tracker"])
        if len(seen) == 1:
            raise ZeroDivisionError
        start_response("200 OK", [])
        return []

    seen: list[Any] = []
    environ: dict[str, Any] = {}
    tracked = FocusLabMiddleware(app, client=client, may_track=may_track)
    with pytest.raises(ZeroDivisionError):
        tracked(environ, lambda *_: None)
    tracked(environ, lambda *_: None)
    tracked(environ, lambda *_: None)
    assert len({tracker.actor_id for tracker in seen}) == 3


def test_an_exception_passes_through(client: FocusLabClient) -> None:
    """And the context ends with the request."""

    def app(environ: Any, start_response: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        FocusLabMiddleware(app, client=client)({}, lambda *_: None)
    with pytest.raises(LookupError):
        brockman.current()


def test_consent_sees_the_request(client: FocusLabClient) -> None:
    """Its headers by names of any case, its path, decoded, and its cookies."""
    seen: list[Any] = []

    def may_track(request: Any) -> bool:
        seen.append((request.headers.get("X-Consent"), request.path, request.cookie("consent"), request.is_secure))
        return False

    def app(environ: Any, start_response: Any) -> Any:
        assert not environ["focuslab.tracker"].is_tracked
        start_response("200 OK", [])
        return []

    environ = {"SCRIPT_NAME": "/shop", "PATH_INFO": "/caf\xc3\xa9", "wsgi.url_scheme": "https"}
    environ |= {"HTTP_X_CONSENT": "no", "HTTP_COOKIE": "consent=none"}
    FocusLabMiddleware(app, client=client, may_track=may_track)(environ, lambda *_: None)
    assert seen == [("no", "/shop/café", "none", True)]
