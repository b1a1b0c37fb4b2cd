"""docs/web.rst: the line for each framework, run with the real framework."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from collections.abc import Iterator
from typing import Any

import pytest

import brockman
from brockman import FocusLabClient
from brockman.testing import Outbox, capture
from tests.docs.blocks import ROOT, only, run_python
from tests.support.client import KEY
from tests.web.applications import ASGI, Response, call_asgi, call_asgi_soon, call_wsgi, make_wsgi

ACTOR = "0f8fad5b-d9cb-469f-a165-70867728950e"
COOKIE = {"cookie": f"fl_actor_id={ACTOR}"}
RECORD = "client.record_trigger(action='viewed', obj='book')"

# An application of each framework with a view for `/book`, named `app`.
APPLICATIONS = {
    "Flask": f"""
import flask
app = flask.Flask("shop")
app.add_url_rule("/book", view_func=lambda: str({RECORD}))
""",
    "FastAPI": f"""
from fastapi import FastAPI
app = FastAPI()
app.add_api_route("/book", lambda: {RECORD})
""",
    "Starlette": f"""
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
app = Starlette()
app.add_route("/book", lambda request: PlainTextResponse(str({RECORD})))
""",
    "Quart": f"""
import quart
app = quart.Quart("shop")
@app.route("/book")
async def book():
    return str({RECORD})
""",
    "Litestar": f"""
import litestar
@litestar.get("/book")
async def book() -> str:
    return str({RECORD})
app = litestar.Litestar([book], logging_config=None)  # which starts a thread
""",
    "Sanic": f"""
import sanic
app = sanic.Sanic("shop")
@app.get("/book")
async def book(request):
    return sanic.text(str({RECORD}))
""",
    "Bottle": f"""
import bottle
app = bottle.Bottle()
app.route("/book", callback=lambda: str({RECORD}))
""",
    "Falcon": f"""
import falcon
app = falcon.App()
class Book:
    def on_get(self, request, response):
        response.text = str({RECORD})
app.add_route("/book", Book())
""",
    "Pyramid": f"""
from pyramid.config import Configurator
from pyramid.response import Response
with Configurator() as config:
    config.add_route("book", "/book")
    config.add_view(lambda request: Response(str({RECORD})), route_name="book")
    app = config.make_wsgi_app()
""",
}
TEXT = (ROOT / "docs" / "web.rst").read_text(encoding="utf-8")
LINES = re.findall(r"^(\w+) +``(brockman\.\w+)`` +``([^`]+)``", TEXT, re.MULTILINE)
NOT_IN_THE_TEST_EXTRA = ("Litestar", "Sanic")  # one loads Faker into every test run, one uvloop into uvicorn


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Outbox]:
    """The triggers that are recorded."""
    monkeypatch.setenv("FL_API_KEY", KEY)
    with capture() as captured:
        yield captured


async def visit(app: Any) -> list[Response]:
    """Return the responses to a known and to a new visitor, between startup and shutdown."""
    asked, answered = asyncio.Queue[Any](), asyncio.Queue[Any]()
    lifespan = asyncio.create_task(app({"type": "lifespan", "asgi": ASGI, "state": {}}, asked.get, answered.put))
    await asked.put({"type": "lifespan.startup"})
    started = asyncio.create_task(answered.get())
    await asyncio.wait([lifespan, started], return_when=asyncio.FIRST_COMPLETED)
    assert started.done(), lifespan.exception()
    answers = [await call_asgi_soon(app, "/book", headers) for headers in (COOKIE, {})]
    await asked.put({"type": "lifespan.shutdown"})
    await lifespan
    return answers


def test_every_framework_of_the_table_is_run() -> None:
    """No row without an application."""
    assert [name for name, _, _ in LINES] == list(APPLICATIONS)


@pytest.mark.filterwarnings("ignore:'cgi' is deprecated:DeprecationWarning")  # of WebOb, which Pyramid uses
@pytest.mark.filterwarnings("ignore:.*pkg_resources:Warning")  # of what Sanic uses
@pytest.mark.parametrize(("name", "module", "line"), LINES, ids=[name for name, _, _ in LINES])
def test_the_line_of_a_framework_works(outbox: Outbox, name: str, module: str, line: str) -> None:
    """A view records for the visitor of the cookie, and a new visitor gets one."""
    if name in NOT_IN_THE_TEST_EXTRA and importlib.util.find_spec(name.lower()) is None:
        pytest.skip(f"{name} is not installed")
    names: dict[str, Any] = {"client": FocusLabClient(), "__name__": __name__}
    exec(f"from {module} import *\n{APPLICATIONS[name]}\n{line}", names)
    if module == "brockman.asgi":
        answers = asyncio.run(visit(names["app"]))
    else:
        answers = [call_wsgi(names["app"], "/book", headers) for headers in (COOKIE, {})]
    assert [answer.status for answer in answers] == [200, 200]
    assert [trigger.actor_id for trigger in outbox] == [ACTOR, answers[1].cookie]


def test_the_first_applications_record(outbox: Outbox) -> None:
    """Those of Flask and FastAPI, here and in the README."""
    answers = [
        call_asgi(run_python(only("web readme"))["app"], "/book/Queues", COOKIE),
        call_wsgi(run_python(only("web flask"), {"__name__": "'shop'"})["app"], "/book/Queues", COOKIE),
        call_asgi(run_python(only("web fastapi"))["app"], "/book/Queues", COOKIE),
    ]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert [(trigger.actor_id, trigger.variables["title"]) for trigger in outbox] == [(ACTOR, "Queues")] * 3


def test_a_view_uses_the_tracker(outbox: Outbox) -> None:
    """It records, and knows the visitor."""
    view: Any = run_python(only("web tracker"))["show_cart"]
    assert call_wsgi(make_wsgi(lambda: [view()]), "/", COOKIE).body == ACTOR
    assert len(outbox) == 1


def test_consent_is_asked_for(outbox: Outbox) -> None:
    """A visitor who objects is not tracked."""
    block = only("web consent")
    names: dict[str, Any] = {"application": make_wsgi(lambda: [str(brockman.current().is_tracked)])._app}
    exec("from brockman.wsgi import FocusLabMiddleware\n" + block.code, names)
    answers = [call_wsgi(names["application"], "/", headers) for headers in ({}, {"Sec-GPC": "1"})]
    assert [answer.body for answer in answers] == ["True", "False"]


def test_aiohttp_opens_the_context(outbox: Outbox) -> None:
    """A real server of aiohttp, and its client."""
    from aiohttp import ClientSession
    from aiohttp.test_utils import TestServer

    names: dict[str, Any] = run_python(only("web aiohttp"))
    client, web = FocusLabClient(), names["web"]

    async def book(request: Any) -> Any:
        client.record_trigger(action="viewed", obj="book")
        return web.Response()

    async def main() -> str:
        names["app"].router.add_get("/book", book)
        async with TestServer(names["app"]) as server, ClientSession() as session:
            async with session.get(server.make_url("/book"), headers=COOKIE):
                pass
            async with session.get(server.make_url("/book")) as answer:
                return answer.cookies["fl_actor_id"].value

    new = asyncio.run(main())
    assert [trigger.actor_id for trigger in outbox] == [ACTOR, new]


def test_tornado_opens_the_context(outbox: Outbox) -> None:
    """A real server of Tornado, and its client."""
    import tornado.httpclient
    import tornado.httpserver
    import tornado.testing
    import tornado.web

    names = run_python(only("web tornado"), {"handle_sigterm=True": ""})

    async def main() -> None:
        listener, port = tornado.testing.bind_unused_port()
        server = tornado.httpserver.HTTPServer(tornado.web.Application([(r"/book/(\w+)", names["Book"])]))
        server.add_socket(listener)
        url = f"http://127.0.0.1:{port}/book/Queues"
        await tornado.httpclient.AsyncHTTPClient().fetch(url, headers={"Cookie": COOKIE["cookie"]})
        server.stop()
        await server.close_all_connections()

    asyncio.run(main())
    assert [(trigger.actor_id, trigger.variables["title"]) for trigger in outbox] == [(ACTOR, "Queues")]
