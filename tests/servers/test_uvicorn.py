"""An ASGI application under uvicorn, which a SIGTERM ends without any hook of Python's but the lifespan's."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from brockman.asgi import Application, DeliverOnShutdown, Message, Receive, Send
from brockman.client import FocusLabClient
from brockman.process import sudden_exit
from tests.support.client import record
from tests.support.programs import Program, assert_exact, drive, find_program, free_port, running
from tests.support.scripts import RECORDING
from tests.support.server import RecordingServer, Reply
from tests.support.waiting import eventually

REQUESTS = 60

# The batch is never full and the interval never over: nothing leaves before the end.
START = RECORDING + "client = FocusLabClient(flush_interval=600)\nrecord(client, f'import by {os.getpid()}')\n"

BARE = """
from brockman.asgi import DeliverOnShutdown

async def bare(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("only HTTP")  # as Django does
    record(client, scope["query_string"].decode().removeprefix("n="))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})

app = DeliverOnShutdown(bare)
"""

STARLETTE = """
import contextlib
import copy
from brockman.asgi import DeliverOnShutdown
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

@contextlib.asynccontextmanager
async def lifespan(app):
    record(client, f"startup of {os.getpid()}")
    yield {"greeting": "the state of the lifespan"}
    record(client, f"shutdown of {os.getpid()}")

async def page(request):
    record(client, request.query_params["n"])
    return Response(request.state.greeting)

app = DeliverOnShutdown(Starlette(routes=[Route("/", page)], lifespan=lifespan))
"""


@contextlib.contextmanager
def uvicorn(folder: Path, server: RecordingServer, code: str, workers: int) -> Iterator[tuple[Program, int]]:
    """Run an application for the length of a block, from when all workers have started; give its port, too."""
    (folder / "site_app.py").write_text(START + code)
    port = free_port()
    command = [find_program("uvicorn"), "--workers", str(workers), "--port", str(port), "site_app:app"]
    with running(command, folder, server, port) as started:
        assert eventually(lambda: started.text().count("startup complete") == workers, 60), started.text()
        yield started, port


def count_recorded(program: Program, what: str) -> int:
    """Return how many recorded names begin with a text."""
    return sum(name.startswith(what) for name in program.recorded())


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("code", [BARE, STARLETTE], ids=["bare", "starlette"])
def test_a_stop_right_after_a_request_loses_nothing(
    server: RecordingServer, tmp_path: Path, code: str, workers: int
) -> None:
    """Triggers that wait when the server is stopped arrive once, and the application's own lifespan still runs."""
    with uvicorn(tmp_path, server, code, workers) as (started, port):
        assert drive(port, REQUESTS) == REQUESTS
        assert server.triggers == []
        time.sleep(0.01)  # the case: a stop 10 ms after the last request
        started.stop()
        assert_exact(started, server, at_least=REQUESTS + workers)
        assert "Traceback" not in started.text()
        assert count_recorded(started, "import by") == workers
        assert (
            count_recorded(started, "startup of")
            == count_recorded(started, "shutdown of")
            == (code == STARLETTE) * workers
        )


FAILS = """
from brockman.asgi import DeliverOnShutdown

async def fails(scope, receive, send):
    await receive()
    {}

app = DeliverOnShutdown(fails)
"""


@pytest.mark.parametrize(
    "how",
    ["await send({'type': 'lifespan.startup.failed', 'message': 'no database'})", "raise OSError('no database')"],
    ids=["says so", "raises"],
)
def test_a_failed_startup_ends_the_server(server: RecordingServer, tmp_path: Path, how: str) -> None:
    """An application that fails to start ends the server, as it does without the hook; nothing is lost."""
    (tmp_path / "site_app.py").write_text(START + FAILS.replace("{}", how))
    command = [find_program("uvicorn"), "--lifespan", "on", "--port", str(free_port()), "site_app:app"]
    with running(command, tmp_path, server) as started:
        assert started.wait(within=20) == 3  # uvicorn's status for it
        assert "no database" in started.text()
        assert_exact(started, server)


def run_lifespan(app: Application, *asked: str, timeout: float | None = None) -> list[str]:
    """Run the lifespan of an application with the hook, and return the messages that the server received."""
    answers: list[str] = []

    async def send(message: Message) -> None:
        answers.append(message["type"])

    async def lifespan() -> None:
        questions: asyncio.Queue[Message] = asyncio.Queue()
        for phase in asked:
            questions.put_nowait({"type": f"lifespan.{phase}"})
        hooked = DeliverOnShutdown(app, timeout)({"type": "lifespan"}, questions.get, send)
        await asyncio.wait_for(hooked, 10)

    asyncio.run(lifespan())
    return answers


def test_a_lifespan_that_fails_after_its_start_does_not_count_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server goes on, and announces no shutdown: the process is warned again."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise RuntimeError("a task has failed")

    monkeypatch.setattr(sudden_exit.watch(), "has_lifespan", False)
    with pytest.raises(RuntimeError, match="a task has failed"):
        run_lifespan(app, "startup")
    assert not sudden_exit.watch().has_lifespan


def test_a_failed_startup_ends_the_lifespan() -> None:
    """After `lifespan.startup.failed` the application is not waited for."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"})

    assert run_lifespan(app, "startup") == ["lifespan.startup.failed"]


def test_an_error_after_the_startup_reaches_the_server() -> None:
    """An exception of the application's lifespan is raised to the server."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise RuntimeError("the broker has gone")

    with pytest.raises(RuntimeError, match="the broker has gone"):
        run_lifespan(app, "startup", "shutdown")


@pytest.mark.parametrize("says_so", [True, False], ids=["says so", "raises"])
def test_a_failed_shutdown_loses_nothing(
    make_client: Callable[..., FocusLabClient], server: RecordingServer, says_so: bool
) -> None:
    """If the application's shutdown fails, its triggers are delivered, and the server gets the failure."""
    client = make_client(flush_interval=600)

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        record(client, 5)
        if not says_so:
            raise RuntimeError("the broker has gone")
        await send({"type": "lifespan.shutdown.failed"})

    if says_so:
        answers = run_lifespan(app, "startup", "shutdown")
        assert answers == ["lifespan.startup.complete", "lifespan.shutdown.failed"]
    else:
        with pytest.raises(RuntimeError, match="the broker has gone"):
            run_lifespan(app, "startup", "shutdown")
    assert len(server.triggers) == 5


def test_an_unavailable_endpoint_does_not_hold_up_the_server(
    make_client: Callable[..., FocusLabClient], server: RecordingServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The shutdown keeps to its timeout, the event loop runs meanwhile, and the log says how many wait."""
    server.respond = lambda request: Reply(503)
    client = make_client(flush_interval=600, shutdown_timeout=600)
    beats: list[bool] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        record(client, 5)
        asyncio.get_running_loop().call_later(0.01, beats.append, True)
        await send({"type": "lifespan.shutdown.complete"})
        assert beats

    answers = run_lifespan(app, "startup", "shutdown", timeout=0.2)
    assert answers == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert "5 triggers not delivered" in caplog.text


def test_a_wrapped_application_keeps_its_attributes() -> None:
    """Decorators, `app.state` and what is replaced after wrapping are the application's; a copy works too."""
    starlette = Starlette()
    app: Any = DeliverOnShutdown(starlette)
    app.state.greeting = "hello"
    app.debug = True
    assert (starlette.state.greeting, starlette.debug) == ("hello", True)
    assert copy.copy(app).router is starlette.router
    del app.debug
    assert not hasattr(starlette, "debug")
    with pytest.raises(AttributeError, match="no_such"):
        _ = app.no_such
