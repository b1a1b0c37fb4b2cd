"""The middleware for ASGI: WebSockets, the lifespan, background tasks, attributes of the application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import PlainTextResponse

import brockman
from brockman import wsgi
from brockman.asgi import FocusLabMiddleware
from brockman.client import FocusLabClient
from brockman.exceptions import InvalidTrigger
from tests.support.client import KEY
from tests.support.server import RecordingServer
from tests.web.applications import call_asgi, call_asgi_soon, call_wsgi, in_production


@pytest.fixture
def client(make_client: Callable[..., FocusLabClient]) -> FocusLabClient:
    """A client that any code may have."""
    return make_client()


@pytest.mark.parametrize("begins", ["websocket.accept", "websocket.http.response.start"])
def test_a_websocket_gets_the_cookie_of_its_triggers(
    client: FocusLabClient, server: RecordingServer, begins: str
) -> None:
    """With the answer to its handshake, whether that accepts or denies it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        client.record_trigger(action="connected", obj="chat")
        await send({"type": begins, "status": 101})

    answer = asyncio.run(call_asgi_soon(FocusLabMiddleware(app, client=client), "/", {}, "websocket"))
    assert client.flush()
    assert answer.cookie == server.triggers[0]["actor_id"]


@pytest.mark.parametrize("cookie_always", [True, False])
def test_headers_may_be_any_iterable(client: FocusLabClient, cookie_always: bool) -> None:
    """The specification asks for no more; they are sent whole, whether they change or not."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/record":
            client.record_trigger(action="viewed", obj="page")
        pairs = ((name, b"1") for name in (b"x-first", b"x-last"))
        await send({"type": "http.response.start", "status": 200, "headers": pairs})

    tracked = FocusLabMiddleware(app, client=client, cookie_always=cookie_always)
    for path in ("/", "/record"):
        for cookie in ("", "fl_actor_id=0f8fad5b-d9cb-469f-a165-70867728950e"):
            answer = call_asgi(tracked, path, {"cookie": cookie})
            assert [answer.header("x-first"), answer.header("x-last")] == ["1", "1"]
            assert bool(answer.cookie) == (not cookie and (cookie_always or path == "/record"))


def test_a_background_task_records_for_its_visitor(client: FocusLabClient, server: RecordingServer) -> None:
    """The response had the cookie, since the actor was read."""
    app = FastAPI()
    app.add_middleware(FocusLabMiddleware, client=client)

    @app.get("/")
    async def page(tasks: BackgroundTasks) -> str | None:
        tasks.add_task(client.record_trigger, action="mailed", obj="receipt")
        return brockman.current().actor_id

    answer = call_asgi(app, "/", {})
    assert client.flush()
    assert [trigger["actor_id"] for trigger in server.triggers] == [answer.cookie]


def test_a_wrapped_application_has_the_context_wherever_it_records(
    client: FocusLabClient, server: RecordingServer
) -> None:
    """In any middleware, and in the handler that makes a page of an unexpected exception, which has the cookie."""
    app = FastAPI()

    @app.middleware("http")
    async def asked(request: Any, call_next: Any) -> Any:
        client.record_trigger(action="asked", obj="page")
        return await call_next(request)

    @app.get("/")
    async def page() -> None:
        raise ZeroDivisionError

    @app.exception_handler(Exception)
    async def failed(request: Any, error: Exception) -> PlainTextResponse:
        client.record_trigger(action="failed", obj="page")
        return PlainTextResponse("sorry", 500)

    class NotRaised:
        """Starlette raises again when it has answered."""

        async def __call__(self, *arguments: Any) -> None:
            with suppress(ZeroDivisionError):
                await app(*arguments)

    answer = call_asgi(FocusLabMiddleware(NotRaised(), client=client), "/", {})
    assert client.flush()
    assert answer.body == "sorry"
    assert [trigger["actor_id"] for trigger in server.triggers] == [answer.cookie] * 2


def test_concurrent_visitors_of_an_event_loop_never_mix(client: FocusLabClient, server: RecordingServer) -> None:
    """Each waits until all have begun."""
    count = 20
    app = FastAPI()
    app.add_middleware(FocusLabMiddleware, client=client)

    async def visit() -> list[tuple[str, str | None]]:
        barrier, here = asyncio.Event(), []

        @app.get("/{name}")
        async def page(name: str) -> None:
            here.append(name)
            if len(here) == count:
                barrier.set()
            await barrier.wait()
            client.record_trigger(action="viewed", obj=name)

        answers = await asyncio.gather(*(call_asgi_soon(app, f"/{n}", {}) for n in range(count)))
        return [(str(n), answer.cookie) for n, answer in enumerate(answers)]

    expected = asyncio.run(visit())
    assert client.flush()
    found = [(trigger["object"], trigger["actor_id"]) for trigger in server.triggers]
    assert sorted(found) == sorted(expected)


def run_lifespan(app: Any) -> list[dict[str, Any]]:
    """Return what an application answers to a whole lifespan."""
    answers: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        answers.append(message)

    async def main() -> None:
        asked = asyncio.Queue[dict[str, Any]]()
        for phase in ("startup", "shutdown"):
            asked.put_nowait({"type": f"lifespan.{phase}"})
        await asyncio.wait_for(app({"type": "lifespan"}, asked.get, send), 30)

    asyncio.run(main())
    return answers


def test_it_delivers_when_the_application_shuts_down(
    make_client: Callable[..., FocusLabClient], server: RecordingServer
) -> None:
    """As `DeliverOnShutdown` does."""
    client = make_client(flush_interval=600)
    client.record_trigger(1, "viewed", "page")
    app = FastAPI()
    app.add_middleware(FocusLabMiddleware, client=client)
    assert [answer["type"] for answer in run_lifespan(app)] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert len(server.triggers) == 1


@pytest.mark.parametrize("is_debug", [True, False])
def test_the_debug_of_the_application_decides(monkeypatch: pytest.MonkeyPatch, is_debug: bool) -> None:
    """Where it is on, wrong settings fail the startup, with what is wrong; elsewhere the application starts."""
    app = FastAPI(debug=is_debug)
    app.add_middleware(FocusLabMiddleware)
    with in_production(monkeypatch):
        answers = run_lifespan(app)
    if is_debug:
        assert [answer["type"] for answer in answers] == ["lifespan.startup.failed"]
        assert "FL_API_KEY" in answers[0]["message"]
    else:
        assert len(answers) == 2


def test_the_debug_of_the_object_whose_method_is_wrapped_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `app.asgi_app` of Quart and `app.wsgi_app` of Flask, also where it is set later."""

    class Framework:
        debug = False

        async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
            brockman.current().record_trigger("", "page")
            await send({"type": "http.response.start", "status": 200})

        def wsgi_app(self, environ: Any, start_response: Any) -> Any:
            brockman.current().record_trigger("", "page")
            start_response("200 OK", [])
            return []

    framework = Framework()
    monkeypatch.setenv("FL_API_KEY", KEY)
    with in_production(monkeypatch):
        apps = FocusLabMiddleware(framework.asgi_app), wsgi.FocusLabMiddleware(framework.wsgi_app)
        framework.debug = True
        for call, app in zip((call_asgi, call_wsgi), apps, strict=True):
            with pytest.raises(InvalidTrigger):
                call(app, "/", {})


def test_a_wrapped_application_keeps_its_attributes(client: FocusLabClient) -> None:
    """`app.get` and `app.state` work after wrapping."""
    fastapi = FastAPI()
    app: Any = FocusLabMiddleware(fastapi, client=client)
    app.state.greeting = "hello"
    app.get("/")(lambda: app.state.greeting)
    assert fastapi.state.greeting == "hello"
    assert call_asgi(app, "/", {}).body == '"hello"'
