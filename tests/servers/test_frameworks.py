"""Flask and FastAPI under real servers: concurrent visitors never mix, and each trigger arrives once."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.programs import Program, find_program, free_port, missing, running
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

REQUESTS = 2000
VISITORS = 8  # concurrent, each with a cookie and a connection
PLACES = ("view", "thread", "task", "body")  # where each response records

FLASK = """
import asyncio, contextvars, sys, threading
import flask
from brockman.client import FocusLabClient
from brockman.flask import FocusLab

app = flask.Flask(__name__)
FocusLab(app)
client = FocusLabClient(flush_interval=600)

def record(name):
    assert client.record_trigger(action="viewed", obj=name)

async def record_in_task(name):
    await asyncio.create_task(asyncio.to_thread(record, name))

def run_task(name):
    if "gevent" not in sys.modules:
        asyncio.run(record_in_task(name))
    else:  # where greenlets of one thread would share an event loop
        gevent = sys.modules["gevent"]
        gevent.spawn(contextvars.copy_context().run, record, name).join()

@app.get("/")
def page():
    number = flask.request.args["n"]
    record(f"{number} view")
    thread = threading.Thread(target=contextvars.copy_context().run, args=(record, f"{number} thread"))
    thread.start()
    thread.join()
    run_task(f"{number} task")

    def body():
        yield "a"
        record(f"{number} body")
        yield "b"

    return body()
"""

FASTAPI = """
import asyncio
from brockman.asgi import FocusLabMiddleware
from brockman.client import FocusLabClient
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()
app.add_middleware(FocusLabMiddleware)
client = FocusLabClient(flush_interval=600)

def record(name):
    assert client.record_trigger(action="viewed", obj=name)

async def record_soon(name):
    await asyncio.sleep(0)
    record(name)

@app.get("/")
async def page(n: int):
    record(f"{n} view")
    task = asyncio.create_task(record_soon(f"{n} task"))
    await asyncio.to_thread(record, f"{n} thread")
    await task

    async def body():
        yield "a"
        await asyncio.sleep(0)
        record(f"{n} body")
        yield "b"

    return StreamingResponse(body())
"""


def actor_of(visitor: int) -> str:
    return f"00000000-0000-4000-8000-{visitor:012}"


def visit(port: int, count: int) -> dict[int, str]:
    """Make requests from concurrent visitors; return the actor of each by its number.

    Every tenth comes without a cookie: its actor is in the `Set-Cookie` of the response.
    """
    actors: dict[int, str] = {}

    def work(visitor: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for number in range(visitor, count, VISITORS):
            is_new = number // VISITORS % 10 == 0
            headers = {} if is_new else {"Cookie": f"fl_actor_id={actor_of(visitor)}"}
            connection.request("GET", f"/?n={number}", headers=headers)
            answer = connection.getresponse()
            assert (answer.read(), answer.status) == (b"ab", 200)
            cookie = answer.headers.get("Set-Cookie")
            assert (cookie is not None) == is_new
            if cookie is not None:
                assert (answer.headers["Cache-Control"], answer.headers["Vary"]) == ("private", "Cookie")
            actors[number] = cookie.partition(";")[0].partition("=")[2] if cookie else actor_of(visitor)
        connection.close()

    threads = [threading.Thread(target=work, args=(visitor,)) for visitor in range(VISITORS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return actors


def check(started: Program, port: int, server: RecordingServer, count: int = REQUESTS) -> None:
    """Make the requests, stop the server, and compare what arrived."""
    actors = visit(port, count)
    assert len(actors) == count, started.text()
    started.stop()
    expected = {f"{number} {place}": actor for number, actor in actors.items() for place in PLACES}
    eventually(lambda: len(server.triggers) >= len(expected), 30)
    received = Counter((trigger["object"], trigger["actor_id"]) for trigger in server.triggers)
    assert received == Counter(expected.items()), started.text()
    assert "Traceback" not in started.text()


@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
def test_flask_under_gunicorn(server: RecordingServer, tmp_path: Path, worker: str) -> None:
    """Actors are right in views, threads, tasks and streaming bodies; nothing is lost at the stop."""
    if worker == "gevent" and find_spec("gevent") is None:
        missing("gevent is not installed")
    (tmp_path / "site_app.py").write_text(FLASK)
    port = free_port()
    options = ["--threads=8"] * (worker == "gthread")
    command = [find_program("gunicorn"), "--workers=2", f"--worker-class={worker}", *options]
    command += [f"--bind=127.0.0.1:{port}", "site_app:app"]
    with running(command, tmp_path, server, port, XDG_RUNTIME_DIR=str(tmp_path)) as started:
        check(started, port, server)


@pytest.mark.parametrize("how", ["uvicorn", "gunicorn"])
def test_fastapi_under_uvicorn(server: RecordingServer, tmp_path: Path, how: str) -> None:
    """The same, with uvicorn alone and as gunicorn's worker, which run no exit hooks."""
    (tmp_path / "site_app.py").write_text(FASTAPI)
    port = free_port()
    command = [find_program("uvicorn"), f"--port={port}", "--no-access-log", "site_app:app"]
    if how == "gunicorn":
        command = [find_program("gunicorn"), "--workers=2", "--worker-class=uvicorn_worker.UvicornWorker"]
        command += [f"--bind=127.0.0.1:{port}", "site_app:app"]
    with running(command, tmp_path, server, port, XDG_RUNTIME_DIR=str(tmp_path)) as started:
        check(started, port, server)


@pytest.mark.parametrize(
    "command",
    [["hypercorn", "--bind=127.0.0.1:{}"], ["granian", "--interface=asgi", "--port={}"]],
    ids=lambda c: c[0],
)
def test_other_servers(server: RecordingServer, tmp_path: Path, command: list[str]) -> None:
    """A few requests, with nothing but the middleware: the right actors, and nothing lost at the stop."""
    (tmp_path / "site_app.py").write_text(FASTAPI)
    port = free_port()
    program, *options = command
    arguments = [find_program(program), *(option.format(port) for option in options), "site_app:app"]
    with running(arguments, tmp_path, server, port) as started:
        check(started, port, server, 40)
