"""Servers and scripts that SIGTERM ends without exit hooks: one warning, which names what delivers there too."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.programs import Program, assert_exact, drive, free_port, missing, running
from tests.support.scripts import RECORDING
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

PORT = "PORT"

# The batch is never full and the interval never over: nothing leaves before the end.
CLIENT = RECORDING + "client = FocusLabClient(flush_interval=600, shutdown_timeout=20)\n"

WSGI = """
def app(environ, start_response):
    record(client, environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
"""

WSGIREF = """
from wsgiref.simple_server import make_server
make_server("127.0.0.1", int(sys.argv[1]), app).serve_forever()
"""

FLASK = """
import flask

app = flask.Flask(__name__)

@app.get("/")
def page():
    record(client, flask.request.query_string.decode())
    return ""
"""

TORNADO = """
import asyncio, sys, tornado.web

class Page(tornado.web.RequestHandler):
    def get(self):
        record(client, self.request.query)

async def main():
    tornado.web.Application([("/", Page)]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run(main())
"""

ASGI = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("only HTTP")  # as Django does
    record(client, scope["query_string"].decode())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
"""

DJANGO = """
import sys
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import path

def page(request):
    from brockman.django.client import DjangoFocusLabClient
    record(DjangoFocusLabClient(), request.META["QUERY_STRING"])
    return HttpResponse()

urlpatterns = [path("", page)]
settings.configure(
    SECRET_KEY="not secret", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, DEBUG=True, STATIC_URL="static/",
    INSTALLED_APPS=["brockman.django"], FL_FLUSH_INTERVAL=600, FL_SHUTDOWN_TIMEOUT=20,
)
execute_from_command_line(sys.argv)
"""

STARLETTE = """
import contextlib
from brockman.asgi import DeliverOnShutdown
from starlette.applications import Starlette
from starlette.responses import Response

@contextlib.asynccontextmanager
async def lifespan(app):
    global client
    if WRAPS == "lifespan":
        async with FocusLabClient(flush_interval=600) as client:
            yield
    else:
        yield

app = Starlette(lifespan=lifespan)
if WRAPS == "wrap":
    app = DeliverOnShutdown(app)
elif WRAPS == "middleware":
    app.add_middleware(DeliverOnShutdown)

async def page(request):
    record(client, request.url.query)
    return Response()

app.add_route("/", page)  # also of the wrapped application
"""

PYTHON = sys.executable
BIND = f"127.0.0.1:{PORT}"
GUNICORN = [PYTHON, "-m", "gunicorn", "-b", BIND, "site_app:app"]
# What must be importable, the code, and the command.
Case = tuple[str, str, list[str]]
UNHANDLED: dict[str, Case] = {
    "wsgiref": ("wsgiref", CLIENT + "import sys\n" + WSGI + WSGIREF, [PYTHON, "site_app.py", PORT]),
    "waitress": ("waitress", CLIENT + WSGI, [PYTHON, "-m", "waitress", f"--listen={BIND}", "site_app:app"]),
    "tornado": ("tornado", CLIENT + TORNADO, [PYTHON, "site_app.py", PORT]),
    "flask": ("flask", CLIENT + FLASK, [PYTHON, "-m", "flask", "--app", "site_app", "run", "-p", PORT]),
    "runserver": ("django", RECORDING + DJANGO, [PYTHON, "site_app.py", "runserver", "--noreload", PORT]),
}
HANDLED: dict[str, Case] = {
    "gunicorn": ("gunicorn", CLIENT + WSGI, GUNICORN),
    "gunicorn-asgi": ("gunicorn.workers.gasgi", CLIENT + ASGI, [*GUNICORN, "-k", "asgi"]),
    "hypercorn": ("hypercorn", CLIENT + ASGI, [PYTHON, "-m", "hypercorn", "-b", BIND, "site_app:app"]),
    "daphne": ("daphne", CLIENT + ASGI, [PYTHON, "-m", "daphne", "-p", PORT, "site_app:app"]),
}
UVICORN = [PYTHON, "-m", "uvicorn", "--port", PORT, "site_app:app"]
UNDER_UVICORN: dict[str, list[str]] = {
    "uvicorn": UVICORN,
    "workers": [*UVICORN, "--workers", "2"],
    "gunicorn": [*GUNICORN, "-k", "uvicorn.workers.UvicornWorker"],
}


@contextlib.contextmanager
def serving(case: Case, folder: Path, server: RecordingServer, **environment: str) -> Iterator[Program]:
    """Run a server for the length of a block, and make one request, which records one trigger."""
    needed, code, command = case
    if not _is_importable(needed):
        (pytest.skip if needed == "daphne" else missing)(f"{needed} is not installed")  # it needs all of Twisted
    (folder / "site_app.py").write_text(code)
    port = free_port()
    command = [argument.replace(PORT, str(port)) for argument in command]
    with running(command, folder, server, port, PYTEST_CURRENT_TEST="", **environment) as started:
        assert drive(port, 1) == 1, started.text()
        assert server.triggers == []
        yield started


def _is_importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("name", UNHANDLED)
def test_where_nothing_handles_sigterm_one_warning_says_so(
    server: RecordingServer, tmp_path: Path, name: str
) -> None:
    """A server that SIGTERM's default action ends is warned with the first trigger, once, with what to set."""
    with serving(UNHANDLED[name], tmp_path, server) as started:
        assert eventually(lambda: "FL_HANDLE_SIGTERM=1" in started.text()), started.text()
        assert started.stop() == -signal.SIGTERM
    assert started.text().count("brockman: ") == 1, started.text()


@pytest.mark.parametrize("name", UNHANDLED)
def test_what_the_warning_names_delivers(server: RecordingServer, tmp_path: Path, name: str) -> None:
    """With FL_HANDLE_SIGTERM=1, what waits there is delivered, the exit status stays, and nothing is warned of."""
    with serving(UNHANDLED[name], tmp_path, server, FL_HANDLE_SIGTERM="1") as started:
        assert started.stop() == -signal.SIGTERM, started.text()
        assert_exact(started, server)
    assert "brockman: " not in started.text()


@pytest.mark.parametrize("name", HANDLED)
def test_a_server_that_exits_in_order_needs_nothing(server: RecordingServer, tmp_path: Path, name: str) -> None:
    """Triggers that wait when it gets SIGTERM are delivered, and nothing is warned of."""
    with serving(HANDLED[name], tmp_path, server) as started:
        started.stop()
        assert_exact(started, server)
    assert "brockman: " not in started.text()


@pytest.mark.parametrize(
    ("how", "wraps"),
    [
        *[(how, "no") for how in UNDER_UVICORN],
        *[("gunicorn", "wrap"), ("uvicorn", "middleware"), ("uvicorn", "lifespan")],
    ],
)
def test_uvicorn_wants_an_application_that_is_wrapped(
    server: RecordingServer, tmp_path: Path, how: str, wraps: str
) -> None:
    """One warning says so. Wrapped, also by `add_middleware`, or with a client of its own, it loses nothing."""
    case = ("uvicorn", f"WRAPS = {wraps!r}\n" + CLIENT + STARLETTE, UNDER_UVICORN[how])
    with serving(case, tmp_path, server) as started:
        if wraps == "no":
            assert eventually(lambda: "app = brockman.asgi.DeliverOnShutdown(app)" in started.text())
        started.stop()
        if wraps != "no":
            assert_exact(started, server)
    assert started.text().count("brockman: ") == (wraps == "no"), started.text()


def test_uvicorn_without_lifespan_is_warned_of(server: RecordingServer, tmp_path: Path) -> None:
    """There the wrapper does nothing, and the warning says what to change."""
    case = ("uvicorn", "WRAPS = 'wrap'\n" + CLIENT + STARLETTE, [*UVICORN, "--lifespan", "off"])
    with serving(case, tmp_path, server) as started:
        assert eventually(lambda: "without `--lifespan off`" in started.text())


def test_sigterm_that_was_handled_before_uvicorn_came_needs_nothing(
    server: RecordingServer, tmp_path: Path
) -> None:
    """uvicorn restores the handler and raises the signal again."""
    code = (
        CLIENT + "import sys, uvicorn\nclient = FocusLabClient(flush_interval=600, handle_sigterm=True)\n" + ASGI
    )
    run = "uvicorn.run(app, port=int(sys.argv[1]))\n"
    with serving(("uvicorn", code + run, [PYTHON, "site_app.py", PORT]), tmp_path, server) as started:
        assert started.stop() == -signal.SIGTERM
        assert_exact(started, server)
    assert "brockman: " not in started.text()


GREENLETS = {
    "gevent": """
from gevent.pywsgi import WSGIServer
WSGIServer(("127.0.0.1", int(sys.argv[1])), app).serve_forever()
""",
    "eventlet": """
import eventlet.wsgi
eventlet.wsgi.server(eventlet.listen(("127.0.0.1", int(sys.argv[1]))), app)
""",
}


@pytest.mark.parametrize("library", GREENLETS)
def test_a_signal_in_the_hub_of_greenlets_delivers(server: RecordingServer, tmp_path: Path, library: str) -> None:
    """The hub, which must not wait, is where a server's process is when nothing happens."""
    begin = "import sys, warnings\nwarnings.simplefilter('ignore')\n"
    begin += {"gevent": "from gevent import monkey\nmonkey.patch_all()\n"}.get(library, "")
    begin += {"eventlet": "import eventlet\neventlet.monkey_patch()\n"}.get(library, "")
    case = (library, begin + CLIENT + WSGI + GREENLETS[library], [PYTHON, "site_app.py", PORT])
    with serving(case, tmp_path, server, FL_HANDLE_SIGTERM="1") as started:
        assert started.stop() == -signal.SIGTERM, started.text()
        assert_exact(started, server)


@pytest.mark.parametrize("name", ["flask", "runserver"])
def test_a_reloader_that_kills_is_warned_of(server: RecordingServer, tmp_path: Path, name: str) -> None:
    """Its parent process kills the one that records, whatever handles SIGTERM there."""
    needed, code, command = UNHANDLED[name]
    command = [argument for argument in command if argument != "--noreload"] + ["--debug"] * (name == "flask")
    with serving((needed, code, command), tmp_path, server, FL_HANDLE_SIGTERM="1") as started:
        assert eventually(lambda: "start the server without it" in started.text()), started.text()
    assert started.text().count("brockman: ") == 1, started.text()


LOOP = """
import brockman.process.sudden_exit, time
brockman.process.sudden_exit.LONG = 0.2
record(client, "first")
time.sleep(SECONDS)
"""


def run_loop(
    folder: Path, server: RecordingServer, seconds: float, setup: str = "", **environment: str
) -> AbstractContextManager[Program]:
    """Run a script that lives on after a trigger; a fifth of a second counts as long."""
    (folder / "script.py").write_text(f"import signal, sys\nSECONDS = {seconds}\n{CLIENT}{setup}\n{LOOP}")
    return running([PYTHON, "script.py"], folder, server, PYTEST_CURRENT_TEST="", **environment)


def test_a_script_that_goes_on_recording_is_warned(server: RecordingServer, tmp_path: Path) -> None:
    """It may listen nowhere, as a scheduler or a loop does."""
    with run_loop(tmp_path, server, 60) as program:
        assert eventually(lambda: "FL_HANDLE_SIGTERM=1" in program.text()), program.text()
        assert program.stop() == -signal.SIGTERM
    assert program.text().count("brockman: ") == 1


@pytest.mark.parametrize(
    "setup",
    [
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit())",
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})",
        "os.environ['RQ_JOB_ID'] = 'a job'",
        "sys.ps1 = '> '",
    ],
    ids=["handled", "blocked", "rq", "interactive"],
)
def test_no_script_is_warned_for_nothing(server: RecordingServer, tmp_path: Path, setup: str) -> None:
    """One that takes care of SIGTERM itself, or gets none, logs nothing."""
    with run_loop(tmp_path, server, 1, setup) as program:
        assert program.wait() == 0
        assert "brockman: " not in program.text()
        assert_exact(program, server)


def test_no_script_with_a_spool_is_warned(server: RecordingServer, tmp_path: Path) -> None:
    """Its triggers are on disk, however it ends."""
    with run_loop(tmp_path, server, 1, FL_SPOOL_DIR=str(tmp_path / "spool")) as program:
        assert program.wait() == 0
        assert "brockman: " not in program.text()
        assert_exact(program, server)


def test_a_short_script_is_not_warned(server: RecordingServer, tmp_path: Path) -> None:
    """Although SIGTERM would end it: it ends by itself."""
    (tmp_path / "script.py").write_text(CLIENT + "record(client, 'first')\nclient.flush(20)\n")
    with running([PYTHON, "script.py"], tmp_path, server, PYTEST_CURRENT_TEST="") as program:
        assert program.wait() == 0
        assert_exact(program, server)
    assert "brockman: " not in program.text()
