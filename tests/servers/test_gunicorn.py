"""A WSGI application under gunicorn: workers that are forked, recycled, reloaded and stopped while they record."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import brockman
from tests.support.programs import Program, assert_exact, drive, find_program, free_port, running
from tests.support.scripts import RECORDING
from tests.support.server import RecordingServer, Reply, Request
from tests.support.tls import TlsServer, make_certificates
from tests.support.waiting import eventually

HALF = 200  # requests before the reload, and while it goes on: ten times what a worker answers
LAST = 100  # requests between the reload and the stop
GRACEFUL = 30.0  # seconds: gunicorn's default, after which it kills a worker
WORKERS = 2

# Two clients take turns: one with the settings that everybody has, and one that sends full batches while a worker
# lives and holds the rest for longer than a worker lives, so that only the end of the worker can deliver it.
APP = (
    RECORDING
    + """
clients = [FocusLabClient(), FocusLabClient(flush_interval=600, max_batch_size=4)]

for client in clients:
    record(client, f"import by {os.getpid()}")

def app(environ, start_response):
    number = environ["QUERY_STRING"].removeprefix("n=")
    record(clients[int(number) % 2], number)
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""
)

# Gunicorn reads this in its own process.
CONFIG = """
def post_worker_init(worker):
    worker.log.info("Worker is up")
"""

# Slow to import and not ours: imported once, not by each worker. Gevent has to patch it first.
EARLY = "import requests\n"


class Gunicorn:
    """A running gunicorn; the state of its workers is read from its log."""

    def __init__(self, started: Program, port: int) -> None:
        self.started = started
        self.port = port

    def booted(self) -> set[int]:
        """Return the process ids of all workers started until now."""
        return self._pids(r"Booting worker with pid: (\d+)")

    def _pids(self, pattern: str) -> set[int]:
        return {int(pid) for pid in re.findall(pattern, self.started.text())}

    def drive(self, count: int, start: int = 0) -> None:
        """Make requests, and wait until the workers that they used up have been replaced.

        A signal between the fork of a worker and its first lines is lost, or ends it at once.
        """
        assert drive(self.port, count, start) == count, self.started.text()
        assert eventually(self._is_settled, 60), self.started.text()

    def _is_settled(self) -> bool:
        leaving = self._pids(r"\[(\d+)\] \[INFO\] Autorestarting worker")
        staying = {pid for pid in self.booted() - leaving if not is_gone(pid)}
        return len(staying) == WORKERS and staying <= self._pids(r"\[(\d+)\] \[INFO\] Worker is up")

    def imports(self) -> dict[int, int]:
        """Return how many triggers each process recorded while it imported the application."""
        named = self.started.recorded().items()
        return {int(name.split()[-1]): count for name, count in named if name.startswith("import by ")}


@contextlib.contextmanager
def gunicorn(folder: Path, server: RecordingServer, *options: str, **environment: str) -> Iterator[Gunicorn]:
    """Run the application for the length of a block."""
    if "--worker-class=gevent" in options and find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    (folder / "site_app.py").write_text(APP)
    early = "" if "--worker-class=gevent" in options else EARLY
    (folder / "gunicorn.conf.py").write_text(early + CONFIG)
    port = free_port()
    command = [
        find_program("gunicorn"),
        f"--workers={WORKERS}",
        f"--bind=127.0.0.1:{port}",
        *options,
        "site_app:app",
    ]
    environment["XDG_RUNTIME_DIR"] = str(folder)  # for its control socket
    with running(command, folder, server, port, **environment) as started:
        yield Gunicorn(started, port)


def is_gone(pid: int) -> bool:
    """Return whether there is no such process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("preload", [False, True], ids=["plain", "preload"])
@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
def test_each_trigger_arrives_once(server: RecordingServer, tmp_path: Path, worker: str, preload: bool) -> None:
    """From workers that are recycled, reloaded and stopped, and from the import of the application."""
    options = [f"--worker-class={worker}", "--max-requests=20"]
    options += ["--threads=4"] * (worker == "gthread") + ["--preload"] * preload
    with gunicorn(tmp_path, server, *options) as site:
        site.drive(HALF)
        assert "Autorestarting worker" in site.started.text()
        before = site.booted()
        site.started.process.send_signal(signal.SIGHUP)
        site.drive(HALF, start=HALF)
        assert eventually(lambda: all(is_gone(pid) for pid in before), 60), site.started.text()
        site.drive(LAST, start=2 * HALF)
        assert site.started.stop(within=GRACEFUL) == 0
        assert_exact(site.started, server, at_least=2 * HALF + LAST)
        assert site.imports() == dict.fromkeys({site.started.process.pid} if preload else site.booted(), 2)
        # No line and no traceback of ours is on the log.
        assert "brockman:" not in site.started.text()
        assert str(Path(brockman.__file__).parent) not in site.started.text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_signal_to_the_group_of_gevent_workers_loses_nothing(
    server: RecordingServer, tmp_path: Path, number: signal.Signals
) -> None:
    """Each worker gets it twice, from the terminal and from the master: the second strikes its exit hook."""
    group = []

    def respond(request: Request) -> Reply:
        if group:
            eventually(lambda: is_gone(group[0]), 0.3)  # time for the second one
        return Reply()

    server.respond = respond
    with gunicorn(tmp_path, server, "--worker-class=gevent", FL_FLUSH_INTERVAL="60") as site:
        site.drive(LAST)
        group.append(site.started.process.pid)
        os.killpg(group[0], number)
        site.started.wait(GRACEFUL)
        assert_exact(site.started, server, at_least=LAST)


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[TlsServer]:
    """A server that accepts everything over TLS."""
    make_certificates(tmp_path)
    recording = TlsServer(tmp_path)
    yield recording
    recording.stop()


def test_workers_that_gevent_patches_late_speak_tls(tls_server: TlsServer, tmp_path: Path) -> None:
    """With --preload, gevent patches `ssl` when it was imported already, and triggers arrive all the same."""
    options = ["--worker-class=gevent", "--preload"]
    with gunicorn(tmp_path, tls_server, *options, REQUESTS_CA_BUNDLE=str(tmp_path / "ca.pem")) as site:
        site.drive(LAST)
        assert site.started.stop(within=GRACEFUL) == 0
        assert_exact(site.started, tls_server, at_least=LAST)
