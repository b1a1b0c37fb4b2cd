"""The middleware: server and browser tracker have one actor, on every kind of page, and no page leaks it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import uuid
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory
from django.test.utils import override_settings

import brockman.asgi
import brockman.wsgi
from brockman import contexts
from brockman.django.client import DjangoFocusLabClient
from brockman.django.middleware import FocusLabMiddleware, RequestTracker
from brockman.exceptions import ConfigurationError, InvalidTrigger, NoRequest
from brockman.process.log import Log
from brockman.web import tracker
from tests.django.urls import PLAIN, SENT
from tests.support.server import RecordingServer, Reply, silence
from tests.support.waiting import eventually

MIDDLEWARE = "brockman.django.middleware.FocusLabMiddleware"
COOKIE = "fl_actor_id"
KNOWN = "9B2F8A34-6a2e-4a8e-9f5e-0a3b7c1d2e4f"  # in capitals too: it is kept as it is
YEARS = 3650 * 24 * 60 * 60  # seconds


@pytest.fixture(autouse=True)
def _at_the_project(project: RecordingServer, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The project's endpoint is the recording server."""
    yield
    caplog.get_records("call").clear()  # an exception holds frames of Django, and these hold threads


def get(path: str, cookie: str | None = None, **more: Any) -> Any:
    """Handle a request as a WSGI server does, with a cookie or without."""
    client = Client(raise_request_exception=False)
    if cookie is not None:
        client.cookies[COOKIE] = cookie
    return client.get(path, **more)


def get_async(path: str, cookie: str | None = None, **more: Any) -> Any:
    """Handle a request as an ASGI server does, and read streams to the end."""

    async def run() -> Any:
        client = AsyncClient(raise_request_exception=False)
        if cookie is not None:
            client.cookies[COOKIE] = cookie
        response = await client.get(path, **more)
        if response.streaming:
            response.parts = [part async for part in response]
        return response

    return async_to_sync(run)()


def triggers(server: RecordingServer) -> list[dict[str, Any]]:
    """Return the delivered triggers."""
    assert DjangoFocusLabClient().flush()
    return server.triggers


def actors(server: RecordingServer) -> set[str]:
    return {trigger["actor_id"] for trigger in triggers(server)}


def dropped() -> dict[str, int]:
    return {reason: count for reason, count in DjangoFocusLabClient().stats().dropped.items() if count}


OTHER_KIND = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")  # of iterator
BOTH = pytest.mark.parametrize("ask", [get, get_async], ids=["wsgi", "asgi"])


# The cookie.


@BOTH
def test_an_actor_who_comes_without_the_cookie_gets_one(ask: Callable[..., Any]) -> None:
    """Like the one of FocusLab's browser tracker: a UUID, path /, ten years, readable by scripts."""
    response = ask("/quiet/")
    cookie = response.cookies[COOKIE]
    assert str(uuid.UUID(cookie.value)) == cookie.value
    assert (cookie["path"], cookie["max-age"], cookie["httponly"]) == ("/", YEARS, "")
    assert (cookie["samesite"], cookie["secure"], cookie["domain"]) == ("Lax", "", "")
    assert response.headers["Vary"] == "Cookie"
    assert response.headers["Cache-Control"] == "private"


@pytest.mark.parametrize("cookie", [KNOWN, KNOWN.lower(), KNOWN.upper()])
def test_an_actor_who_brings_the_cookie_keeps_it(project: RecordingServer, cookie: str) -> None:
    """Unchanged, so that both trackers name the same actor; no cookie is set, and caches may keep the page."""
    response = get("/quiet/", cookie)
    assert response.content == b"True"
    assert COOKIE not in response.cookies
    assert "Vary" not in response.headers
    assert "Cache-Control" not in response.headers
    assert actors(project) == {cookie}


def test_a_page_that_shows_the_actor_is_private(project: RecordingServer) -> None:
    """Also for a known actor, whose id is on the page."""
    response = get("/page/", KNOWN)
    assert response.content.decode() == f"{KNOWN} True"
    assert response.headers["Vary"] == "Cookie"
    assert response.headers["Cache-Control"] == "private"


@pytest.mark.parametrize(
    "cookie", ["", "7", "None", KNOWN.replace("-", ""), "{" + KNOWN + "}", "é" * 36, "-" * 36]
)
def test_a_cookie_that_holds_no_uuid_is_replaced(project: RecordingServer, cookie: str) -> None:
    """The trigger and the new cookie have the same actor."""
    response = Client().get("/page/", headers={"cookie": f"{COOKIE}={cookie}"})
    assert actors(project) == {response.cookies[COOKIE].value} != {cookie}


@BOTH
@pytest.mark.parametrize("path", ["/page/", "/async/"])
def test_the_first_request_and_the_next_ones_have_one_actor(
    project: RecordingServer, ask: Callable[..., Any], path: str
) -> None:
    """Sync and async views, under WSGI and ASGI."""
    actor = ask(path).cookies[COOKIE].value
    later = ask(path, actor)
    assert COOKIE not in later.cookies
    assert [trigger["actor_id"] for trigger in triggers(project)] == [actor, actor]


@pytest.mark.parametrize(("path", "count"), [("/many/", 3), ("/threads/", 8)])
def test_all_triggers_of_a_first_request_have_the_actor_of_its_cookie(
    project: RecordingServer, path: str, count: int
) -> None:
    """Also from several threads; except those with an `actor_id`."""
    actor = get(path).cookies[COOKIE].value
    found = Counter(trigger["actor_id"] for trigger in triggers(project))
    assert found.pop(actor) == count
    assert not found or found == {"7": 1}


class Meeting(dict[str, str]):
    """Cookies that two threads read at the same moment."""

    def __init__(self) -> None:
        self._both = threading.Barrier(2)

    def get(self, *arguments: Any) -> Any:
        self._both.wait(10)
        return super().get(*arguments)


def test_threads_of_a_first_request_get_the_same_actor() -> None:
    """Also when both compute it at once."""
    for _ in range(50):
        request = RequestFactory().get("/")
        request.COOKIES = Meeting()
        tracker = RequestTracker(request)
        found: list[str | None] = []

        def ask(tracker: RequestTracker = tracker, found: list[str | None] = found) -> None:
            found.append(tracker.actor_id)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [tracker.actor_id] * 2


@pytest.mark.parametrize(
    ("settings", "is_https", "expected"),
    [
        ({}, False, ("Lax", "", "")),
        ({}, True, ("Lax", True, "")),
        ({"FL_COOKIE_SECURE": True}, False, ("Lax", True, "")),
        ({"FL_COOKIE_SECURE": False}, True, ("Lax", "", "")),
        ({"FL_COOKIE_SAMESITE": "None", "FL_COOKIE_SECURE": True}, True, ("None", True, "")),
        ({"FL_COOKIE_SAMESITE": "Strict"}, False, ("Strict", "", "")),
        ({"FL_COOKIE_DOMAIN": "example.com"}, False, ("Lax", "", "example.com")),
    ],
)
def test_settings_decide_the_attributes_of_the_cookie(
    settings: dict[str, Any], is_https: bool, expected: tuple[Any, ...]
) -> None:
    """`Secure` is as the request is, unless `FL_COOKIE_SECURE` is set."""
    with override_settings(**settings):
        cookie = Client().get("/quiet/", secure=is_https).cookies[COOKIE]
    assert (cookie["samesite"], cookie["secure"], cookie["domain"]) == expected


def test_a_view_that_sets_the_cookie_wins() -> None:
    """Its response is private too."""
    response = get("/set/")
    assert response.cookies[COOKIE].value == "chosen by the view"
    assert response.headers["Cache-Control"] == "private"


@BOTH
@pytest.mark.parametrize("path", ["/nothing/", "/quiet-async/", "/nowhere/", "/robots.txt"])
@pytest.mark.parametrize("cookie", [None, KNOWN])
def test_a_response_for_which_nothing_is_recorded_stays_as_it_is(
    ask: Callable[..., Any], path: str, cookie: str | None
) -> None:
    """A cache may keep it for everybody: it has no cookie, and does not become private."""
    response = ask(path, cookie)
    assert not response.cookies
    assert not {"Vary", "Cache-Control"} & set(response.headers)


@BOTH
@pytest.mark.parametrize("path", ["/nothing/", "/quiet-async/", "/nowhere/"])
def test_every_response_sets_the_cookie_where_that_is_wanted(ask: Callable[..., Any], path: str) -> None:
    """With `FL_COOKIE_ALWAYS`; for a visitor without one."""
    with override_settings(FL_COOKIE_ALWAYS=True):
        response = ask(path)
        assert COOKIE in response.cookies
        assert response.headers["Cache-Control"] == "private"
        assert not ask(path, KNOWN).cookies


def test_name_and_age_of_the_cookie_are_settings(project: RecordingServer) -> None:
    """The cookie of that name is read, too."""
    with override_settings(FL_COOKIE_NAME="visitor", FL_COOKIE_AGE=3600):
        cookie = get("/page/", KNOWN).cookies["visitor"]
        assert cookie["max-age"] == 3600
        client = Client()
        client.cookies["visitor"] = KNOWN
        assert client.get("/page/").content.decode() == f"{KNOWN} True"
    assert actors(project) == {cookie.value, KNOWN}


# The context of a request.


@BOTH
@pytest.mark.parametrize("path", ["/client-stream/", "/client-stream-async/"])
@OTHER_KIND
def test_any_client_records_for_the_visitor(ask: Callable[..., Any], path: str) -> None:
    """In the view, in threads and tasks that it starts, and while the parts of its answer are made."""
    before = len(SENT.triggers)
    first = ask(path)
    list(getattr(first, "parts", first))
    actor = first.cookies[COOKIE].value
    list(getattr(second := ask(path, KNOWN), "parts", second))
    assert PLAIN.flush()
    assert [trigger["actor_id"] for trigger in SENT.triggers[before:]] == [actor] * 4 + [KNOWN] * 4
    assert contexts.get() is None


def test_the_tracker_of_the_request_is_current(project: RecordingServer) -> None:
    """For code that has no request at hand; not any more when the request has ended, even if the view fails."""

    def view(request: HttpRequest) -> HttpResponse:
        assert brockman.current() is request.focuslab
        with brockman.context(7, variables={"part": "inner"}):
            assert DjangoFocusLabClient().record_trigger(action="viewed", obj="page")
            assert brockman.current().record_trigger("viewed", "page")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        FocusLabMiddleware(view)(RequestFactory().get("/", headers={"cookie": f"{COOKIE}={KNOWN}"}))
    with pytest.raises(NoRequest):
        brockman.current()
    assert [trigger["actor_id"] for trigger in triggers(project)] == ["7", KNOWN]


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_a_middleware_around_django_has_the_same_new_visitor(kind: str) -> None:
    """That of `brockman.wsgi` or `brockman.asgi` gives way to Django's cookie: both record for its actor."""
    seen: list[str | None] = []

    def handle(request: HttpRequest) -> None:
        seen.append(brockman.current().actor_id)
        FocusLabMiddleware(view)(request)

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(request.focuslab.actor_id)
        return HttpResponse()

    def wsgi_app(environ: Any, start_response: Any) -> Any:
        handle(WSGIRequest(environ))
        return []

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        handle(ASGIRequest(scope, None))

    if kind == "wsgi":
        brockman.wsgi.FocusLabMiddleware(wsgi_app, client=DjangoFocusLabClient())(
            RequestFactory().get("/").environ, print
        )
    else:
        scope = AsyncRequestFactory().get("/").scope
        asyncio.run(brockman.asgi.FocusLabMiddleware(asgi_app, client=DjangoFocusLabClient())(scope, *[print] * 2))
    first, second = seen
    assert first == second


def test_a_client_of_its_own_makes_no_page_fail(caplog: pytest.LogCaptureFixture) -> None:
    """A wrong value is counted, and logged with the place of the call; where `DEBUG` is on, it raises."""
    before = PLAIN.stats().dropped.get("invalid", 0)
    response = get("/client-wrong/")
    assert (response.status_code, response.content) == (200, b"False")
    assert PLAIN.stats().dropped["invalid"] == before + 1
    assert eventually(lambda: [line for line in caplog.messages if "urls.py" in line and "obj: " in line])
    with override_settings(DEBUG=True), pytest.raises(InvalidTrigger):
        Client().get("/client-wrong/")


@BOTH
@pytest.mark.parametrize(
    ("settings", "path", "agent"),
    [
        ({"FL_SKIP_PATHS": ["/page/"]}, "/page/", "Mozilla/5.0"),
        ({"FL_SKIP_PATHS": "/healthz, /pa*"}, "/page/", "Mozilla/5.0"),
        ({"FL_SKIP_BOTS": True}, "/page/", "Mozilla/5.0 (compatible; Googlebot/2.1)"),
        ({"FL_SKIP_BOTS": True}, "/page/", "kube-probe/1.30"),
    ],
)
def test_bots_and_health_checks_can_be_left_out(
    project: RecordingServer, ask: Callable[..., Any], settings: dict[str, Any], path: str, agent: str
) -> None:
    """They get no cookie, and their triggers are counted as untracked."""
    with override_settings(**settings):
        response = ask(path, headers={"user-agent": agent})
        assert response.content == b"None False"
        assert not response.cookies
        assert dropped() == {"untracked": 1}
    assert ask(path, headers={"user-agent": agent}).content.endswith(b" True")


def test_the_user_agent_is_recorded_where_that_is_wanted(project: RecordingServer) -> None:
    """As FocusLab's browser tracker does, also with any client."""
    with override_settings(FL_USER_AGENT=True):
        get("/page/", headers={"user-agent": "Mozilla/5.0"})
    get("/page/", headers={"user-agent": "Mozilla/5.0"})
    assert [trigger["variables"].get("user_agent") for trigger in triggers(project)] == ["Mozilla/5.0", None]


def test_a_user_agent_of_any_size_makes_no_trigger_too_large(project: RecordingServer) -> None:
    """Its beginning is recorded: else a visitor could have triggers dropped."""
    with override_settings(FL_USER_AGENT=True):
        assert get("/page/", headers={"user-agent": "Mozilla/5.0 " + "x" * 40_000}).content.endswith(b" True")
    (trigger,) = triggers(project)
    assert trigger["variables"]["user_agent"] == "Mozilla/5.0 " + "x" * 500


def test_the_user_agent_of_an_untracked_visitor_is_not_recorded(project: RecordingServer) -> None:
    """Not with a trigger of another actor either."""

    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str(DjangoFocusLabClient().record_trigger("shop", "sold", "book")))

    with override_settings(FL_USER_AGENT=True, FL_MAY_TRACK=never):
        request = RequestFactory().get("/", headers={"user-agent": "Mozilla/5.0"})
        assert FocusLabMiddleware(view)(request).content == b"True"
    (trigger,) = triggers(project)
    assert "user_agent" not in trigger.get("variables", {})


def test_a_request_inside_of_a_request_has_nothing_that_identifies_the_outer_actor() -> None:
    """A view may call another application: what the block around the call says of the tenant is kept."""
    SENT.bodies.clear()

    def inner(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str(PLAIN.record_trigger(action="viewed", obj="page")))

    with brockman.context(1, {"email": "ada@example.com"}, {"plan": "team"}, {"tenant": "acme"}):
        FocusLabMiddleware(inner)(RequestFactory().get("/", headers={"cookie": f"{COOKIE}={KNOWN}"}))
    assert PLAIN.flush()
    (trigger,) = SENT.triggers
    assert trigger["actor_id"] == KNOWN
    assert trigger["variables"] == {"tenant": "acme"}
    assert not trigger.keys() & {"captured_identities", "captured_attributes"}


# Caches.


@pytest.mark.parametrize("others", ["", "theme=dark"], ids=["no cookie", "another cookie"])
def test_no_cache_gives_one_actors_cookie_to_another(others: str) -> None:
    """Nor to visitors with equal other cookies. The page of a known actor may be cached."""
    site = [
        "django.middleware.cache.UpdateCacheMiddleware",
        MIDDLEWARE,
        "django.middleware.cache.FetchFromCacheMiddleware",
    ]
    cache = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": f"pages {others}"}
    }
    with override_settings(MIDDLEWARE=site, CACHES=cache):
        cookies = [
            Client().get("/quiet/", headers={"cookie": others} if others else {}).cookies[COOKIE].value
            for _ in range(5)
        ]
        assert len(set(cookies)) == 5
        known = [get("/quiet/", KNOWN) for _ in range(2)]
        assert not any(response.cookies for response in known)


@pytest.mark.parametrize("records", [True, False])
def test_a_public_response_becomes_private_only_if_it_has_an_actor(records: bool) -> None:
    """Its `max-age` stays. A response of a view that records nothing stays as it is."""

    def view(request: HttpRequest) -> HttpResponse:
        if records:
            request.focuslab.record_trigger(action="viewed", obj="page")
        return HttpResponse(headers={"Cache-Control": "public, max-age=60", "Vary": "Accept"})

    response = FocusLabMiddleware(view)(RequestFactory().get("/"))
    scope = "private" if records else "public"
    assert set(response.headers["Cache-Control"].split(", ")) == {scope, "max-age=60"}
    assert response.headers["Vary"] == ("Accept, Cookie" if records else "Accept")
    assert (COOKIE in response.cookies) == records


# Every kind of page.


STREAMS = pytest.mark.parametrize("path", ["/stream/", "/stream-async/"])


@BOTH
@STREAMS
@OTHER_KIND
def test_a_stream_records_while_it_is_read(project: RecordingServer, ask: Callable[..., Any], path: str) -> None:
    """Its parts have the actor of the request."""
    response = ask(path, KNOWN)
    parts = response.parts if hasattr(response, "parts") else list(response)
    assert b"".join(parts).decode().split() == [KNOWN] * 5
    assert [(trigger["actor_id"], trigger["object"]) for trigger in triggers(project)] == [
        (KNOWN, f"part {number}") for number in range(5)
    ]


def stream_to_leave() -> tuple[HttpRequest, list[Any]]:
    """Return the request of a known visitor, and a list for what ends in its context."""
    return RequestFactory().get("/", headers={"cookie": f"{COOKIE}={KNOWN}"}), []


def test_a_stream_that_a_visitor_leaves_ends_in_their_context() -> None:
    """A trigger of its `finally` has their actor."""
    request, ended = stream_to_leave()

    def parts() -> Iterator[str]:
        try:
            yield "first"
            yield "second"
        finally:
            ended.append(brockman.current().actor_id)

    response = FocusLabMiddleware(lambda request: StreamingHttpResponse(parts()))(request)
    assert next(iter(response)) == b"first"
    response.close()
    assert ended == [KNOWN]


def test_an_asynchronous_stream_that_a_visitor_leaves_ends_in_their_context() -> None:
    """At the end of the request, and not in the context of another one when the garbage collector finds it."""
    request, ended = stream_to_leave()

    async def run() -> None:
        is_ended = asyncio.Event()

        async def parts() -> AsyncIterator[str]:
            try:
                yield "first"
                yield "second"
            finally:
                await asyncio.sleep(0)
                ended.append(brockman.current().actor_id)
                is_ended.set()

        async def view(request: HttpRequest) -> StreamingHttpResponse:
            return StreamingHttpResponse(parts())

        response = await FocusLabMiddleware(view)(request)
        sent = aiter(response)
        assert await anext(sent) == b"first"
        await sent.aclose()
        await sync_to_async(response.close)()
        await asyncio.wait_for(is_ended.wait(), 30)

    async_to_sync(run)()
    assert ended == [KNOWN]


@BOTH
@STREAMS
@OTHER_KIND
def test_a_stream_that_is_the_first_to_record_sets_no_cookie(
    project: RecordingServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[..., Any],
    path: str,
) -> None:
    """The headers are sent by then: its parts have one new actor, and a line of the log says what to do."""
    monkeypatch.setattr(tracker, "_log", Log())  # it says so once
    response = ask(path)
    parts = response.parts if hasattr(response, "parts") else list(response)
    assert len(set(b"".join(parts).split())) == 1
    assert COOKIE not in response.cookies
    assert len(actors(project)) == 1
    assert [line for line in caplog.messages if "no cookie could be set" in line]


@BOTH
@pytest.mark.parametrize(
    ("path", "status"), [("/fail/", 500), ("/fail-async/", 500), ("/nowhere/", 404), ("/forbidden/", 403)]
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failing_page_stays_as_it_is(
    caplog: pytest.LogCaptureFixture, ask: Callable[..., Any], path: str, status: int
) -> None:
    """The status stays, Django logs the exception, and the cookie is set if the view has recorded."""
    response = ask(path)
    assert response.status_code == status
    assert (COOKIE in response.cookies) == (status == 500)  # the view has recorded
    if status == 500:
        assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


@pytest.mark.parametrize("path", ["/fail/", "/fail-async/"])
def test_an_exception_is_not_swallowed(project: RecordingServer, path: str) -> None:
    """The project's tests see it; triggers recorded before it are delivered."""
    with pytest.raises(ZeroDivisionError, match="the view's own mistake"):
        Client().get(path)
    assert len(triggers(project)) == 1


def test_an_exception_passes_through_the_middleware() -> None:
    """The middleware, called directly, lets it through."""

    def view(request: HttpRequest) -> HttpResponse:
        raise ZeroDivisionError

    async def view_async(request: HttpRequest) -> HttpResponse:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        FocusLabMiddleware(view)(RequestFactory().get("/"))
    with pytest.raises(ZeroDivisionError):
        async_to_sync(FocusLabMiddleware(view_async))(RequestFactory().get("/"))


def test_the_middleware_works_by_hand(project: RecordingServer) -> None:
    """With a RequestFactory, sync and async."""

    def view(request: HttpRequest) -> HttpResponse:
        request.focuslab.record_trigger("viewed", "by hand")
        return HttpResponse()

    async def view_async(request: HttpRequest) -> HttpResponse:
        return view(request)

    first = FocusLabMiddleware(view)(RequestFactory().get("/"))
    second = async_to_sync(FocusLabMiddleware(view_async))(RequestFactory().get("/"))
    assert [trigger["actor_id"] for trigger in triggers(project)] == [
        response.cookies[COOKIE].value for response in (first, second)
    ]


@pytest.mark.parametrize("using", ["default", "other"])
def test_an_order_is_recorded_when_it_is_committed(project: RecordingServer, using: str) -> None:
    """By the tracker: for the actor of the request, in the transaction of the named database."""
    actor = get(f"/order/?using={using}").cookies[COOKIE].value
    assert get(f"/order/?using={using}&fail").content == b"failed"
    assert [(trigger["actor_id"], trigger["action"]) for trigger in triggers(project)] == [(actor, "ordered")]
    assert dropped() == {}


def test_the_user_is_not_looked_up(project: RecordingServer) -> None:
    """`request.user` would query the database."""
    looked: list[str] = []

    class Watched(HttpRequest):
        @property
        def user(self) -> Any:
            looked.append("user")
            raise AssertionError("nobody asked")

    request = Watched()
    request.META = {"SERVER_NAME": "localhost", "SERVER_PORT": "80"}

    def view(request: HttpRequest) -> HttpResponse:
        assert request.focuslab.record_trigger("viewed", "page")
        return HttpResponse()

    assert COOKIE in FocusLabMiddleware(view)(request).cookies
    assert looked == []


# Consent.


def never(request: HttpRequest) -> bool:
    """For FL_MAY_TRACK."""
    return False


def raising(request: HttpRequest) -> bool:
    """For FL_MAY_TRACK."""
    raise LookupError("no consent table")


async def asynchronous(request: HttpRequest) -> bool:
    """For FL_MAY_TRACK: a coroutine is true as a bool."""
    return False


WITHOUT_OBJECTION = "brockman.django.consent.without_objection"
REFUSED: list[tuple[Any, dict[str, str]]] = [
    (never, {}),
    ("tests.django.test_middleware.never", {}),
    (raising, {}),
    (asynchronous, {}),
    (lambda request: None, {}),
    (WITHOUT_OBJECTION, {"DNT": "1"}),
    (WITHOUT_OBJECTION, {"Sec-GPC": "1"}),
    (WITHOUT_OBJECTION, {"Sec-GPC": "1", "DNT": "0"}),
]


@BOTH
@pytest.mark.parametrize(("may_track", "headers"), REFUSED)
def test_a_request_that_may_not_be_tracked_is_not(
    project: RecordingServer, ask: Callable[..., Any], may_track: Any, headers: dict[str, str]
) -> None:
    """Nothing is recorded, no cookie is set, the actor is None; `untracked` counts the triggers."""
    with override_settings(FL_MAY_TRACK=may_track):
        for path in ("/page/", "/async/"):
            response = ask(path, KNOWN, headers=headers)
            assert response.content == b"None False"
            assert not response.cookies
        response = ask("/order/", headers=headers)
        assert response.status_code == 200
        assert not response.cookies
        assert "Vary" not in response.headers
        assert dropped() == {"untracked": 3}
        assert triggers(project) == []


class Untouchable(dict):
    """Cookies that must not be read."""

    def get(self, *_: Any) -> Any:
        raise AssertionError("the cookie was read")

    __getitem__ = __contains__ = get


def test_the_cookie_of_an_untracked_request_is_not_read() -> None:
    """Nor is it for the cookie of the response."""

    def view(request: HttpRequest) -> HttpResponse:
        assert request.focuslab.actor_id is None
        assert not request.focuslab.is_tracked
        return HttpResponse()

    request = RequestFactory().get("/")
    request.COOKIES = Untouchable()
    with override_settings(FL_MAY_TRACK=never):
        FocusLabMiddleware(view)(request)


@BOTH
@pytest.mark.parametrize("headers", [{}, {"DNT": "0"}, {"DNT": "unspecified"}, {"Sec-GPC": "0"}])
def test_a_visitor_who_does_not_object_is_tracked(
    project: RecordingServer, ask: Callable[..., Any], headers: dict[str, str]
) -> None:
    """Only the value 1 objects."""
    with override_settings(FL_MAY_TRACK=WITHOUT_OBJECTION):
        assert COOKIE in ask("/page/", headers=headers).cookies
        assert len(triggers(project)) == 1


def test_consent_is_asked_for_once_in_a_request(project: RecordingServer) -> None:
    """However many triggers it records."""
    asked: list[str] = []
    with override_settings(FL_MAY_TRACK=lambda request: asked.append(request.path) or True):
        get("/many/")
        assert asked == ["/many/"]
        assert len(triggers(project)) == 4


def test_requests_do_not_wait_for_each_others_consent() -> None:
    """No lock is held while `FL_MAY_TRACK` runs."""
    both = threading.Barrier(2)

    def may_track(request: HttpRequest) -> bool:
        both.wait(10)
        return True

    with override_settings(FL_MAY_TRACK=may_track):
        threads = [threading.Thread(target=get, args=("/page/",)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert DjangoFocusLabClient().stats().recorded == 2
        assert dropped() == {}


def test_consent_may_query_the_database() -> None:
    """Django forbids that in an event loop: it is called in a thread."""
    from django.db import connection

    def may_track(request: HttpRequest) -> bool:
        with connection.cursor() as cursor:
            return bool(cursor.execute("SELECT 1").fetchone()[0])

    with override_settings(FL_MAY_TRACK=may_track, FL_COOKIE_ALWAYS=True):
        for path in ("/quiet/", "/nothing/", "/quiet-async/", "/page/"):
            assert COOKIE in get_async(path).cookies, path
        assert dropped() == {}


def test_a_failing_consent_is_logged_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """Because nothing is recorded any more; once, not for every request."""

    class Unheard(Exception):
        pass

    def may_track(request: HttpRequest) -> bool:
        raise Unheard("with an address of somebody")

    with override_settings(FL_MAY_TRACK=may_track), caplog.at_level(logging.ERROR, "brockman"):
        for _ in range(20):
            assert get("/page/").status_code == 200
        assert caplog.messages == [
            "brockman: FL_MAY_TRACK raised Unheard; requests for which it does are not tracked"
        ]


# Mistakes and trouble.


@BOTH
@pytest.mark.parametrize(
    "wrong",
    [
        {"FL_COOKIE_SAMESITE": "lax"},
        {"FL_MAY_TRACK": "no.such.function"},
        {"FL_COOKIE_SECURE": "perhaps"},
        {"FL_COOKIE_NAME": "version"},
    ],
)
def test_a_wrong_setting_makes_no_page_fail(
    caplog: pytest.LogCaptureFixture, ask: Callable[..., Any], wrong: dict[str, Any]
) -> None:
    """Nothing is tracked until it is right: the wrong one might forbid it. One log line says so."""
    with override_settings(**wrong):
        for _ in range(5):
            response = ask("/page/")
            assert response.content == b"None False"
            assert not response.cookies
        assert dropped() in ({"untracked": 5}, {"misconfigured": 5})
    assert len([line for line in caplog.messages if "tracks nothing" in line]) <= 1


def test_a_wrong_setting_is_seen_where_debug_is_on() -> None:
    """At the first page."""
    with (
        override_settings(DEBUG=True, FL_COOKIE_SAMESITE="lax"),
        pytest.raises(ConfigurationError, match="cookie_samesite is 'lax'"),
    ):
        Client().get("/quiet/")


@pytest.mark.parametrize("wrong", [{"FL_API_KEY": None}, {"FL_ENDPOINT": "nonsense"}])
def test_pages_work_without_a_working_client(wrong: dict[str, Any]) -> None:
    """No cookie is set."""
    with override_settings(**wrong):
        response = get("/page/")
        assert response.content.endswith(b" False")
        assert COOKIE not in response.cookies
        assert get("/order/").content == b"ordered"
        assert dropped() == {"misconfigured": 2}


def test_an_invalid_trigger_makes_no_page_fail() -> None:
    """It is counted."""
    assert get("/wrong/").content == b"False"
    assert dropped() == {"invalid": 1}


@BOTH
def test_no_request_waits_for_a_silent_endpoint(project: RecordingServer, ask: Callable[..., Any]) -> None:
    """200 pages are answered while the first batch gets no answer."""
    project.respond = lambda request: Reply(act=silence)
    with override_settings(FL_MAX_BATCH_SIZE=1, FL_READ_TIMEOUT=60, FL_SHUTDOWN_TIMEOUT=0):
        ask("/page/")
        project.wait_until(lambda server: len(server.requests) == 1)
        slowest = 0.0
        for _ in range(200):
            started = time.monotonic()
            assert ask("/page/").status_code == 200
            slowest = max(slowest, time.monotonic() - started)
        client = DjangoFocusLabClient()
        assert client.stats().recorded == 201
        project.hang_up()
        client.close(0)
    assert slowest < 1


# Many at once.


def test_concurrent_visitors_are_kept_apart(project: RecordingServer) -> None:
    """8 visitors with 100 pages each: every trigger arrives once, and each visitor is one actor."""
    start = threading.Barrier(8)
    known: list[str] = []

    def visit() -> None:
        visitor = Client()
        start.wait()
        for _ in range(50):
            visitor.get("/page/")
            visitor.get("/async/")
        known.append(visitor.cookies[COOKIE].value)

    threads = [threading.Thread(target=visit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(known)) == 8
    assert Counter(trigger["actor_id"] for trigger in triggers(project)) == dict.fromkeys(known, 100)
    assert set(project.ids().values()) == {1}


def test_concurrent_visitors_of_an_event_loop_are_kept_apart(project: RecordingServer) -> None:
    """8 visitors with 50 pages each in one loop."""
    known: list[str] = []

    async def visit() -> None:
        visitor = AsyncClient()
        for _ in range(25):
            await visitor.get("/page/")
            await visitor.get("/async/")
        known.append(visitor.cookies[COOKIE].value)

    async def all_visit() -> None:
        await asyncio.gather(*(visit() for _ in range(8)))

    async_to_sync(all_visit)()
    assert Counter(trigger["actor_id"] for trigger in triggers(project)) == dict.fromkeys(known, 50)
    assert len(set(known)) == 8


def test_the_contexts_of_concurrent_visitors_are_kept_apart() -> None:
    """In threads and in an event loop: parts of streams that are sent in turns have the actor of their request."""
    SENT.bodies.clear()
    visitors = [str(uuid.uuid4()) for _ in range(8)]
    start = threading.Barrier(4)

    def visit(visitor: str) -> None:
        start.wait()
        for _ in range(5):
            for _part in get("/client-stream/", visitor):
                time.sleep(0)  # for another thread

    threads = [threading.Thread(target=visit, args=(visitor,)) for visitor in visitors[:4]]
    for thread in threads:
        thread.start()

    async def visit_in_loop(visitor: str) -> None:
        client = AsyncClient()
        client.cookies[COOKIE] = visitor
        for _ in range(5):
            async for _part in await client.get("/client-stream-async/"):
                await asyncio.sleep(0)  # for another task

    async def all_visit() -> None:
        await asyncio.gather(*map(visit_in_loop, visitors[4:]))

    async_to_sync(all_visit)()
    for thread in threads:
        thread.join()
    assert PLAIN.flush()
    assert Counter(trigger["actor_id"] for trigger in SENT.triggers) == dict.fromkeys(visitors, 20)


def test_an_answered_request_is_freed(project: RecordingServer) -> None:
    """Without the cyclic garbage collector: requests hold uploads."""

    def view(request: HttpRequest) -> HttpResponse:
        request.focuslab.record_trigger(action="viewed", obj="page")
        return HttpResponse()

    gc.disable()
    try:
        request = RequestFactory().get("/")
        FocusLabMiddleware(view)(request)
        seen = weakref.ref(request)
        del request
        assert eventually(lambda: seen() is None)
    finally:
        gc.enable()
