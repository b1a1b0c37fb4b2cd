"""Real programs for the tests: started on a free port, driven by concurrent clients, stopped, and read."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

import brockman
from tests.conftest import KEY, eventually
from tests.support.server import RecordingServer

# The brockman that the test itself imports, wherever another one may be installed.
PYTHONPATH = os.pathsep.join([".", str(Path(brockman.__file__).parents[1])])
CLIENTS = 8  # concurrent HTTP clients

# What every application under test begins with. `record` writes down each trigger that `record_trigger` took, in
# one call of the system, so that the test knows what must arrive however the process ends.
RECORDING = """
import os
from brockman.client import FocusLabClient

_truth = os.open(os.environ["TRUTH"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

def record(client, name):
    if client.record_trigger(f"process {os.getpid()}", "viewed", str(name)):
        os.write(_truth, f"{name}\\n".encode())
"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def program(name: str) -> str:
    """Return the path of a program beside this Python or on the PATH; see `missing` for when there is none."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or missing(f"{name} is not installed")


def missing(reason: str) -> NoReturn:
    """Skip the test; with `REQUIRE_PROGRAMS` in the environment, as in CI, fail it."""
    if os.environ.get("REQUIRE_PROGRAMS"):
        pytest.fail(reason)
    pytest.skip(reason)


class Running:
    """A program that runs in a folder of its own, its output in a file there."""

    def __init__(self, command: Sequence[str], folder: Path, server: RecordingServer, **environment: str) -> None:
        """Start it, with `FL_ENDPOINT` set to the recording server and `TRUTH` to the file of what is recorded."""
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
        """Wait until somebody listens."""

        def listens() -> bool:
            assert self.process.poll() is None, self.text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        assert eventually(listens, 60), self.text()

    def stop(self, number: int = signal.SIGTERM, within: float = 30.0) -> int:
        """Send a signal, wait for the end, and return the exit status."""
        self.process.send_signal(number)
        return self.wait(within)

    def wait(self, within: float = 60.0) -> int:
        """Wait for the end, and return the exit status; fail when it does not come in time."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it has not ended within {within} s:\n{self.text()}") from None

    def text(self) -> str:
        """Return what it has printed until now."""
        return self.log.read_text(errors="replace")

    def recorded(self) -> Counter[str]:
        """Return the names of the triggers that `record_trigger` took, and how often."""
        return Counter(self.truth.read_text().split("\n")[:-1])

    def kill(self) -> None:
        """End it and all its children by force, if they are there."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


@contextlib.contextmanager
def running(
    command: Sequence[str], folder: Path, server: RecordingServer, port: int | None = None, **environment: str
) -> Iterator[Running]:
    """Run a program for the length of a block; wait until it listens on the port, if one is given."""
    started = Running(command, folder, server, **environment)
    try:
        if port is not None:
            started.wait_for_port(port)
        yield started
    finally:
        started.kill()


def drive(port: int, count: int, start: int = 0, path: str = "/") -> int:
    """Send GET requests with n=start, start + 1, ... from concurrent clients; return how many were answered 200.

    A request that a server which recycles its workers hangs up on is made once more.
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
        time.sleep(0.02)  # between two tries, not for a thread
        return False
    finally:
        connection.close()


def assert_exact(program: Running, server: RecordingServer, at_least: int = 1, timeout: float = 20.0) -> None:
    """Every trigger that was recorded is received once, none lost, none double."""
    recorded = program.recorded()
    eventually(lambda: len(server.triggers) >= sum(recorded.values()), timeout)
    received = Counter(trigger["object"] for trigger in server.triggers)
    lost, extra = recorded - received, received - recorded
    assert (lost, extra) == (Counter(), Counter()), program.text()
    assert set(server.ids().values()) <= {1}
    assert sum(recorded.values()) >= at_least, program.text()
