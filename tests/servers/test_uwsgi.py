"""uWSGI: what the application records arrives exactly once, however the workers are forked, run and stopped.

Threads are always on since uWSGI 2.0.27. `UWSGI_WITHOUT_THREADS` names a folder with an older one, made by
`pip install --no-deps --target FOLDER pyuwsgi==2.0.26`; there is none for Python 3.13.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import PYTHONPATH, Program, assert_exact, drive, find_program, free_port, running
from tests.support.scripts import RECORDING
from tests.support.server import RecordingServer, Reply, silence
from tests.support.waiting import eventually

APP = (
    RECORDING
    + """
import time
import uwsgi

client = FocusLabClient()
for number in range(int(os.environ["AT_IMPORT"])):
    record(client, f"import {number}")

def application(environ, start_response):
    if environ["PATH_INFO"] != "/quiet":
        record(client, environ["QUERY_STRING"])
    if environ["PATH_INFO"] == "/daemon" and os.fork() == 0:
        if os.fork() == 0:
            while os.getppid() != uwsgi.masterpid():
                time.sleep(0.01)
            record(client, "daemon")
            client.flush(10)
        os._exit(0)
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""
)
# A master that is process 1, as in a container, becomes the parent of every daemon. So does one that asks for it:
# prctl(2), PR_SET_CHILD_SUBREAPER, which an exec keeps.
AS_PROCESS_1 = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1); os.execv(sys.argv[1], sys.argv[1:])"
NO_EXIT = "uWSGI runs with --skip-atexit, so"
NO_THREADS = "uWSGI runs without threads, so"
REQUESTS = 200  # in each of two rounds
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into what only Linux has")


class Server:
    """A running uWSGI, with the state of its workers."""

    def __init__(self, running: Program, port: int, stats_port: int, processes: int) -> None:
        self.running = running
        self.port = port
        self._stats_port = stats_port
        self._processes = processes

    def workers(self) -> list[dict[str, Any]]:
        """Return the state of the workers as the master reports it; [] while it does not answer."""
        try:
            with (
                socket.create_connection(("127.0.0.1", self._stats_port), 5) as connection,
                connection.makefile() as answer,
            ):
                return list(json.load(answer)["workers"])
        except (OSError, ValueError):
            return []

    def are_ready(self) -> bool:
        """Return whether all workers are up and have ended their requests, the hook after them included."""
        workers = self.workers()
        return len(workers) == self._processes and all(w["accepting"] and w["status"] == "idle" for w in workers)

    def drive(self, count: int, start: int = 0, path: str = "/") -> None:
        """Make requests, and wait until the workers are ready for the next ones."""
        assert drive(self.port, count, start, path) == count, self.running.text()
        assert eventually(self.are_ready), self.workers()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop it by a signal; fail when that takes half a minute: uWSGI kills after one."""
        self.running.stop(number, within=30)


@contextlib.contextmanager
def uwsgi(
    folder: Path,
    server: RecordingServer,
    *arguments: str,
    old: bool = False,
    as_process_1: bool = False,
    processes: int = 2,
    **more: str,
) -> Iterator[Server]:
    """Run the application with a master for the length of a block; wait until all workers can answer."""
    (folder / "app.py").write_text(APP)
    port, stats_port = free_port(), free_port()
    environment = {"AT_IMPORT": "1", "FL_FLUSH_INTERVAL": "0.2", **more}
    if not old:
        command = [find_program("uwsgi")]
    elif place := os.environ.get("UWSGI_WITHOUT_THREADS"):
        command = [sys.executable, f"{place}/bin/uwsgi"]
        environment["PYTHONPATH"] = f"{PYTHONPATH}:{place}"
    else:
        pytest.skip("UWSGI_WITHOUT_THREADS names no uWSGI that is older than 2.0.27")
    if as_process_1:
        command = [sys.executable, "-c", AS_PROCESS_1, *command]
    command += ["--http-socket", f"127.0.0.1:{port}", "--stats", f"127.0.0.1:{stats_port}", "--module", "app"]
    command += ["--virtualenv", sys.prefix, "--master", "--processes", str(processes), "--need-app"]
    command += ["--die-on-term", *arguments]
    with running(command, folder, server, port, **environment) as started:
        here = Server(started, port, stats_port, processes)
        assert eventually(here.are_ready), f"{here.workers()}\n{started.text()}"
        yield here


def received_all(here: Server, server: RecordingServer) -> bool:
    """Wait until as many triggers were received as were recorded; return whether they were."""
    return eventually(lambda: len(server.triggers) >= sum(here.running.recorded().values()))


@pytest.mark.parametrize(
    ("old", "switches"),
    [
        (False, "--enable-threads"),
        (False, "--enable-threads --lazy-apps"),
        (False, "--enable-threads --py-call-uwsgi-fork-hooks"),
        (False, "--enable-threads --skip-atexit-teardown"),
        (False, "--threads 2"),
        (True, "--enable-threads"),
        (True, "--enable-threads --lazy-apps"),
    ],
)
def test_with_threads_triggers_leave_in_the_background_and_at_exit(server, tmp_path, old, switches):
    """Exact, the triggers recorded before the fork included; nothing is logged."""
    with uwsgi(tmp_path, server, *switches.split(), old=old) as here:
        here.drive(REQUESTS)
        assert received_all(here, server), "the thread of a worker, or what the master had recorded"
        here.drive(REQUESTS, start=REQUESTS)
        here.stop(signal.SIGINT if "--threads" in switches else signal.SIGTERM)
        assert_exact(here.running, server, at_least=2 * REQUESTS + 1)
        assert "uWSGI runs with" not in here.running.text()


@pytest.mark.parametrize("switches", ["", "--lazy-apps", "--py-call-uwsgi-fork-hooks"])
def test_no_switch_is_needed_where_threads_are_always_on(server, tmp_path, switches):
    """Without --enable-threads a current uWSGI is as exact as with it, and nothing is logged."""
    with uwsgi(tmp_path, server, *switches.split(), FL_FLUSH_INTERVAL="60") as here:
        here.drive(REQUESTS)
        here.stop()
        assert_exact(here.running, server, at_least=REQUESTS + 1)
        assert "uWSGI runs with" not in here.running.text()


@pytest.mark.parametrize("switches", ["", "--lazy-apps", "--py-call-uwsgi-fork-hooks"])
def test_without_threads_triggers_leave_at_exit(server, tmp_path, switches):
    """Exact, and each process that loads the application logs the missing switch, once."""
    with uwsgi(tmp_path, server, *switches.split(), old=True, FL_FLUSH_INTERVAL="60") as here:
        here.drive(REQUESTS)
        assert not server.triggers
        here.stop()
        assert_exact(here.running, server, at_least=REQUESTS + 1)
        said = [line for line in here.running.text().splitlines() if NO_THREADS in line]
        assert len(said) == (2 if "--lazy-apps" in switches else 1)
        assert "--enable-threads" in said[0]


def test_without_threads_a_full_batch_leaves_at_once(server, tmp_path):
    """26 triggers and a batch size of 10: 20 are received while uWSGI runs, the rest when it stops."""
    with uwsgi(tmp_path, server, old=True, processes=1, FL_FLUSH_INTERVAL="60", FL_MAX_BATCH_SIZE="10") as here:
        here.drive(25)
        assert len(server.triggers) == 20
        here.stop()
        assert_exact(here.running, server, at_least=26)


def test_without_threads_the_end_of_a_request_delivers_what_is_due(server, tmp_path):
    """After flush_interval any request does it, also one that records nothing itself."""
    with uwsgi(tmp_path, server, old=True, processes=1, AT_IMPORT="0") as here:
        here.drive(1)
        assert eventually(lambda: drive(here.port, 1, path="/quiet") == 1 and len(server.triggers) == 1)
        here.stop()
        assert_exact(here.running, server)


def test_without_threads_a_silent_endpoint_does_not_hold_the_requests(server, tmp_path):
    """No request takes as long as an attempt may, nor does the exit."""
    server.respond = lambda request: Reply(act=silence)
    with uwsgi(tmp_path, server, old=True, processes=1, FL_MAX_BATCH_SIZE="5", FL_SHUTDOWN_TIMEOUT="1") as here:
        slowest = 0.0
        for number in range(40):
            started = time.monotonic()
            here.drive(1, start=number)
            slowest = max(slowest, time.monotonic() - started)
        assert slowest < 10  # connect_timeout + read_timeout are 13 s
        here.stop()
        assert "not delivered" in here.running.text()


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
@pytest.mark.parametrize("switches", ["", "--lazy-apps", "--py-call-uwsgi-fork-hooks"])
def test_without_exit_hooks_triggers_leave_after_each_request(server, tmp_path, switches, old):
    """Under --skip-atexit all are received before the end, and each process that loads logs the switch, once."""
    with uwsgi(tmp_path, server, "--skip-atexit", *switches.split(), old=old, FL_FLUSH_INTERVAL="60") as here:
        here.drive(REQUESTS)
        assert received_all(here, server)
        here.stop()
        assert_exact(here.running, server, at_least=REQUESTS + 1)
        assert here.running.text().count(NO_EXIT) == (2 if "--lazy-apps" in switches else 1)


def test_a_master_with_a_backlog_does_not_block_its_workers(server, tmp_path):
    """All workers start, although the master holds triggers, and Python is not notified when uWSGI forks."""
    with uwsgi(tmp_path, server, processes=8, AT_IMPORT="300", FL_MAX_BATCH_SIZE="1") as here:
        here.drive(REQUESTS)
        here.stop()
        assert_exact(here.running, server, at_least=REQUESTS + 300)


def test_a_worker_that_replaces_another_delivers_nothing_twice(server, tmp_path):
    """The first worker is killed and started again: what the master had recorded is not sent again."""
    with uwsgi(tmp_path, server) as here:
        here.drive(REQUESTS)
        assert received_all(here, server)
        killed = here.workers()[0]["pid"]
        os.kill(killed, signal.SIGKILL)
        assert eventually(lambda: here.are_ready() and killed not in [w["pid"] for w in here.workers()])
        here.drive(REQUESTS, start=REQUESTS)
        here.stop()
        assert_exact(here.running, server, at_least=2 * REQUESTS + 1)


@needs_linux
def test_a_daemon_of_the_first_worker_gets_no_trigger_of_the_master(server, tmp_path):
    """A process that ends up as a child of the master, but was forked by a worker, sends its own triggers only."""
    with uwsgi(tmp_path, server, as_process_1=True, processes=1, FL_FLUSH_INTERVAL="60") as here:
        here.drive(1, path="/daemon")
        assert eventually(lambda: "daemon" in [trigger["object"] for trigger in server.triggers])
        here.stop()
        assert_exact(here.running, server, at_least=3)


@needs_linux
def test_no_thread_of_ours_handles_a_signal_to_a_worker(server, tmp_path):
    """uWSGI ends a worker in the thread that got the signal; in any but the main one it would wait for ever."""
    with uwsgi(tmp_path, server, processes=1) as here:
        here.drive(REQUESTS)
        assert received_all(here, server)
        worker = here.workers()[0]["pid"]
        threads = [place for place in Path(f"/proc/{worker}/task").iterdir() if place.name != str(worker)]
        masks = [re.search(r"SigBlk:\s*(\w+)", (place / "status").read_text())[1] for place in threads]
        assert masks
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            assert all(int(mask, 16) >> (number - 1) & 1 for mask in masks), masks
