"""Programs that tests start: on a free port, driven by concurrent clients, stopped, their output read."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

import brockman
from tests.support.client import KEY
from tests.support.endpoint import Endpoint
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

# The brockman that the test itself imports, even if another one is installed.
ROOT = Path(brockman.__file__).parents[1]
PYTHONPATH = os.pathsep.join([".", str(ROOT)])
CLIENTS = 8  # concurrent HTTP clients
_PORTS = range(20_000, 32_768)  # below those that the system gives to any connection


def free_port() -> int:
    """Return a port on which no process listens, and that no other test gets while this process runs."""
    while True:
        port = random.choice(_PORTS)
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            claim.close()
            continue
        claim.detach()  # stays bound, as a sign to the other processes that run tests
        return port


def find_program(name: str) -> str:
    """Return the path of a program, looked for beside this Python first; call `missing` if it is not installed."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or missing(f"{name} is not installed")


def missing(reason: str) -> NoReturn:
    """Skip the test; with `REQUIRE_PROGRAMS` in the environment, as in CI, fail it."""
    if os.environ.get("REQUIRE_PROGRAMS"):
        pytest.fail(reason)
    pytest.skip(reason)


class Program:
    """A running program, in a folder of its own, its output in a file there."""

    def __init__(self, command: Sequence[str], folder: Path, server: RecordingServer, **environment: str) -> None:
        """Start it with `FL_ENDPOINT` set to the recording server, and `TRUTH` to the file of recorded names."""
        self.folder = folder
        self.log = folder / "log"
        self.truth = folder / "truth"
        self.truth.touch()
        settings = {
            "FL_API_KEY": KEY,
            "FL_ENDPOINT": server.endpoint,
            "TRUTH": str(self.truth),
            "PYTHONPATH": PYTHONPATH,
        }
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **settings, **environment},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_for_port(self, port: int) -> None:
        """Wait until a process listens on a port."""

        def listens() -> bool:
            assert self.process.poll() is None, self.text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        assert eventually(listens, 120), self.text()

    def stop(self, number: int = signal.SIGTERM, within: float = 60.0) -> int:
        """Send a signal, wait for the end, and return the exit status."""
        self.process.send_signal(number)
        return self.wait(within)

    def wait(self, within: float = 120.0) -> int:
        """Wait for the end, and return the exit status; fail after `within` seconds."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it has not ended within {within} s:\n{self.text()}") from None

    def text(self) -> str:
        """Return its output up to now."""
        return self.log.read_text(errors="replace")

    def recorded(self) -> Counter[str]:
        """Return how often `record_trigger` accepted a trigger of each name."""
        return Counter(self.truth.read_text().split("\n")[:-1])

    def kill(self) -> None:
        """Kill it and its children, if they still run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


@contextlib.contextmanager
def running(
    command: Sequence[str], folder: Path, server: RecordingServer, port: int | None = None, **environment: str
) -> Iterator[Program]:
    """Run a program for the length of a block; wait until it listens on the port, if one is given."""
    started = Program(command, folder, server, **environment)
    try:
        if port is not None:
            started.wait_for_port(port)
        yield started
    finally:
        started.kill()


def drive(port: int, count: int, start: int = 0, path: str = "/") -> int:
    """Send GET requests with n=start, start + 1, ... from concurrent clients; return how many were answered 200.

    A request is made again if the server closes the connection, as it does when it replaces a worker.
    """
    numbers = iter(range(start, start + count))
    lock, answered = threading.Lock(), Counter[bool]()

    def work() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            good = any(_get(port, f"{path}?n={number}") for _ in range(20))
            with lock:
                answered[good] += 1

    threads = [threading.Thread(target=work, name="http-client") for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answered[True]


def _get(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status == 200
    except (OSError, http.client.HTTPException):
        time.sleep(0.02)  # a pause between two tries
        return False
    finally:
        connection.close()


def assert_exact(
    program: Program, server: RecordingServer | Endpoint, at_least: int = 1, timeout: float = 60.0
) -> None:
    """Wait for the recorded triggers; fail unless each was received exactly once, and `at_least` were recorded."""
    recorded = program.recorded()
    eventually(lambda: len(server.triggers) >= sum(recorded.values()), timeout)
    received = Counter(trigger["object"] for trigger in server.triggers)
    lost, extra = recorded - received, received - recorded
    assert (lost, extra) == (Counter(), Counter()), program.text()
    assert set(server.ids().values()) <= {1}
    assert sum(recorded.values()) >= at_least, program.text()


@dataclass
class Ended:
    """The exit status and output of a process that has ended."""

    status: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """Return an environment for a process that runs in another folder and imports from this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


@contextlib.contextmanager
def started(arguments: Sequence[str], *, limit: float = 120.0, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a process with its output in pipes, wait for its end after the block; kill it after `limit` seconds.

    `options` are those of `subprocess.Popen`; the environment is `environment()` by default.
    """
    defaults = {"env": environment(), "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(arguments, text=True, **{**defaults, **options}) as process:
        watchdog = threading.Timer(limit, process.kill)
        watchdog.start()
        try:
            yield process
            process.wait()
        finally:
            watchdog.cancel()
            watchdog.join()
            process.kill()


def ran(arguments: Sequence[str], **options: Any) -> Ended:
    """Run a process to its end."""
    with started(arguments, stdin=subprocess.DEVNULL, **options) as process:
        out, err = process.communicate()
    return Ended(process.returncode, out, err)


def ran_python(code: str, *arguments: str, **options: Any) -> Ended:
    """Run code in a Python of its own, to its end."""
    return ran([sys.executable, "-c", code, *arguments], **options)
