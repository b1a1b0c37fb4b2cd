"""The middlewares for WSGI and ASGI and the extension for Flask: the same promises in each framework."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import brockman
from brockman import asgi, wsgi
from brockman.client import FocusLabClient
from brockman.exceptions import ConfigurationError, InvalidTrigger, NoRequest
from tests.support.server import RecordingServer
from tests.web.applications import KINDS, Response, View, call_wsgi, in_production

ACTOR = "0f8fad5b-d9cb-469f-a165-70867728950e"
Ask = Callable[..., Response]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The name of a framework."""
    name: str = request.param
    return name


@pytest.fixture
def client(make_client: Callable[..., FocusLabClient]) -> FocusLabClient:
    """A client that any code may have."""
    return make_client()


@pytest.fixture
def make(kind: str, client: FocusLabClient) -> Callable[..., Ask]:
    """A function that makes an application of a view, and returns one that sends it a request."""

    def make(view: View, **options: Any) -> Ask:
        build, call = KINDS[kind]
        app = build(view, **{"client": client, **options})

        def ask(path: str = "/", **headers: str) -> Response:
            return call(app, path, {name.replace("_", "-"): value for name, value in headers.items()})

        return ask

    return make


def actors(client: FocusLabClient, server: RecordingServer) -> list[str]:
    """Return the actor of each trigger that arrived."""
    assert client.flush()
    return [trigger["actor_id"] for trigger in server.triggers]


def test_a_new_visitor_gets_the_cookie_of_their_triggers(
    make: Callable[..., Ask], client: FocusLabClient, server: RecordingServer
) -> None:
    """Those of a client and of the tracker, in the view and in the stream; no cache keeps the response."""

    def view() -> Iterator[str]:
        client.record_trigger(action="viewed", obj="page")

        def stream() -> Iterator[str]:
            yield "a"
            brockman.current().record_trigger("read", "page")
            yield "b"

        return stream()

    answer = make(view)()
    assert (answer.status, answer.body) == (200, "ab")
    assert actors(client, server) == [answer.cookie] * 2
    assert (answer.header("cache-control"), answer.header("vary")) == ("private", "Cookie")
    with pytest.raises(NoRequest):
        brockman.current()


def test_the_response_to_a_known_visitor_stays_as_it_is(
    make: Callable[..., Ask], client: FocusLabClient, server: RecordingServer
) -> None:
    """And so does one to a new visitor for whom nothing is recorded."""

    def view() -> Iterable[str]:
        if visits:
            client.record_trigger(action="viewed", obj="page")
        return ["ab"]

    visits = [True]
    known = make(view)(cookie=f"other=1; fl_actor_id={ACTOR}")
    visits.clear()
    unused = make(view)()
    for answer in (known, unused):
        assert {name for name, _ in answer.headers} <= {"content-type", "content-length"}
    assert actors(client, server) == [ACTOR]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_middleware_within_another_has_its_new_visitor(
    kind: str, client: FocusLabClient, server: RecordingServer, is_first: bool
) -> None:
    """Such as that of a mounted application: one actor, one cookie, whichever records first."""

    def view() -> Iterable[str]:
        client.record_trigger(action="viewed", obj="page")
        return ["ab"]

    build, call = KINDS[kind]
    app = build(view, client=client)

    def record(is_before: bool) -> None:
        if is_before == is_first:
            client.record_trigger(action="asked", obj="page")

    def wsgi_app(environ: Any, start_response: Any) -> Any:
        record(True)
        body = app(environ, start_response)
        record(False)
        return body

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        record(True)
        await app(scope, receive, send)
        record(False)

    outer: Any = asgi.FocusLabMiddleware(asgi_app, client=client)
    if call is call_wsgi:
        outer = wsgi.FocusLabMiddleware(wsgi_app, client=client)
    answer = call(outer, "/", {})
    assert actors(client, server) == [answer.cookie] * 2


def test_a_page_that_shows_the_actor_is_private(make: Callable[..., Ask]) -> None:
    """Also to a known visitor."""
    answer = make(lambda: [str(brockman.current().actor_id)])(cookie=f"fl_actor_id={ACTOR}")
    assert (answer.body, answer.header("cache-control"), answer.cookie) == (ACTOR, "private", None)


def test_a_wrong_trigger_in_production_makes_no_page_fail(
    make: Callable[..., Ask],
    client: FocusLabClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is counted, and has one line of the log, with the caller's file and line."""

    def view() -> Iterable[str]:
        assert not client.record_trigger(action="viewed", obj="")
        assert not brockman.current().record_trigger("", "page")
        return ["ab"]

    with in_production(monkeypatch):
        answer = make(view)()
    assert (answer.status, answer.body) == (200, "ab")
    assert client.stats().dropped == {"invalid": 2}
    client.close()
    found = [line for line in caplog.messages if "invalid trigger" in line]
    first = view.__code__.co_firstlineno + 1
    assert [f"{__file__}:{first + n}: " in line for n, line in enumerate(found)] == [True, True]


def test_the_tracker_of_a_request_serves_any_thread(
    make: Callable[..., Ask], client: FocusLabClient, server: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One without a context: the page does not fail there either, and the `User-Agent` is recorded."""

    def view() -> Iterable[str]:
        tracker = brockman.current()
        with ThreadPoolExecutor(1) as threads:
            wrong, right = (threads.submit(tracker.record_trigger, action, "page") for action in ("", "viewed"))
            return [f"{wrong.result()} {right.result()}"]

    with in_production(monkeypatch):
        answer = make(view, user_agent=True)(user_agent="Mozilla/5.0")
    assert (answer.status, answer.body) == (200, "False True")
    assert client.flush()
    assert [trigger["variables"] for trigger in server.triggers] == [{"user_agent": "Mozilla/5.0"}]


def test_a_wrong_trigger_raises_where_debug_is_on(make: Callable[..., Ask], client: FocusLabClient) -> None:
    """The view fails, as with any other mistake in it."""

    def view() -> Iterable[str]:
        client.record_trigger(action="viewed", obj="")
        return ["ab"]

    with pytest.raises(InvalidTrigger, match="obj"):
        make(view, debug=True)()


@pytest.mark.parametrize(
    ("name", "value", "reason"), [("FL_API_KEY", "", "misconfigured"), ("FL_COOKIE_AGE", "long", "untracked")]
)
def test_wrong_settings_in_production_make_no_page_fail(
    make: Callable[..., Ask],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    reason: str,
) -> None:
    """Triggers are dropped and counted, whether the client's settings are wrong or those of the middleware."""
    lost: list[int] = []

    def view() -> Iterable[str]:
        tracker = brockman.current()
        before = tracker._client.stats().dropped.get(reason, 0)
        assert not tracker.record_trigger("viewed", "page")
        lost.append(tracker._client.stats().dropped.get(reason, 0) - before)
        return ["ab"]

    monkeypatch.setenv(name, value)
    with in_production(monkeypatch):
        ask = make(view, client=None)
        answers = [ask(), ask()]
    assert [(answer.status, answer.cookie) for answer in answers] == [(200, None)] * 2
    assert lost == [1, 1]


def test_wrong_settings_are_logged_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """In production, with what follows."""
    monkeypatch.setenv("FL_FLUSH_INTERVAL", "a value that no other test has")
    with in_production(monkeypatch):
        for build, call in KINDS.values():
            call(build(lambda: ["ab"]), "/", {})
    (line,) = [line for line in caplog.messages if "flush_interval" in line]
    assert line.endswith("until then triggers are dropped as misconfigured")


def test_wrong_settings_raise_where_debug_is_on(make: Callable[..., Ask]) -> None:
    """As soon as the application starts; a FastAPI application makes its middlewares then."""
    with pytest.raises(ConfigurationError, match="api_key"):
        make(lambda: ["ab"], client=None, debug=True)()


@pytest.mark.parametrize(
    ("environment", "headers", "path"),
    [
        ({"FL_MAY_TRACK": "brockman.web.consent.without_objection"}, {"Sec_GPC": "1"}, "/"),
        ({"FL_SKIP_BOTS": "on"}, {"User_Agent": "Googlebot/2.1"}, "/"),
        ({"FL_SKIP_PATHS": "/healthz"}, {}, "/healthz"),
    ],
    ids=["consent", "bots", "paths"],
)
def test_settings_say_who_is_not_tracked(
    make: Callable[..., Ask],
    client: FocusLabClient,
    server: RecordingServer,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    headers: dict[str, str],
    path: str,
) -> None:
    """Their triggers are counted as untracked, and they get no cookie; others are tracked."""

    def view() -> Iterable[str]:
        client.record_trigger(action="viewed", obj="page")
        return ["ab"]

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ask = make(view)
    untracked, tracked = ask(path, **headers), ask(User_Agent="Mozilla/5.0")
    assert untracked.cookie is None
    assert actors(client, server) == [tracked.cookie]
    assert client.stats().dropped == {"untracked": 1}


def test_a_dotted_path_that_names_nothing_is_a_wrong_setting(
    make: Callable[..., Ask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consent function that is not found is not ignored."""
    monkeypatch.setenv("FL_MAY_TRACK", "brockman.web.consent.missing")
    with pytest.raises(ConfigurationError, match=r"FL_MAY_TRACK is 'brockman\.web\.consent\.missing'"):
        make(lambda: ["ab"], debug=True)()
