"""Process 1 of a container, for which the kernel ignores a signal's default action."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.programs import Program, assert_exact, find_program, missing, running
from tests.support.scripts import RECORDING
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

# The main thread wakes up often: the kernel may hand a signal to a thread that runs no handler of Python.
BEGIN = f"""
import os, signal, sys, threading, time
{RECORDING}
assert os.getpid() == 1
"""
RECORD = """
client = FocusLabClient(handle_sigterm=True, flush_interval=60, shutdown_timeout=10)
for n in range(50):
    record(client, n)
"""
WAIT = """
print("holds", client.stats().queued, flush=True)
while True:
    time.sleep(0.05)
"""
Start = Callable[[str], AbstractContextManager[Program]]


@pytest.fixture
def start(server: RecordingServer, tmp_path: Path) -> Start:
    """Return a function that runs a script as process 1 of a new PID namespace, for the length of a block."""
    unshare = [find_program("unshare"), "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    tried = subprocess.run([*unshare, "true"], capture_output=True, text=True, timeout=30)
    if tried.returncode != 0:
        missing(f"no PID namespace can be made here: {tried.stderr.strip()}")
    return lambda script: running([*unshare, sys.executable, "-c", BEGIN + script], tmp_path, server)


def terminate(program: Program) -> int:
    """Send SIGTERM to the process 1 that `unshare` has started; return the exit status that it passes on."""
    assert eventually(lambda: "holds 50" in program.text(), 30), program.text()
    outer = program.process.pid
    child = int(Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])
    subprocess.run(["kill", "-TERM", str(child)], check=True, timeout=10)
    return program.wait(20)


BLOCKED = "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
THREAD = "threading.Thread(target=threading.Event().wait).start()\n"  # not a daemon
DEFAULT = "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"


@pytest.mark.parametrize("before", ["", DEFAULT, THREAD], ids=["plain", "default-again", "thread"])
def test_sigterm_delivers_and_ends_process_1(server: RecordingServer, start: Start, before: str) -> None:
    """Everything is delivered, and the status is 143, as a shell and a container engine say it."""
    with start(before + RECORD + WAIT) as program:
        assert terminate(program) == 128 + signal.SIGTERM, program.text()
    assert_exact(program, server, at_least=50)


def test_sigterm_ends_process_1_whose_main_thread_blocks_it(server: RecordingServer, start: Start) -> None:
    """Another thread receives the signal; the process delivers and ends."""
    receive = "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    with start(receive + BLOCKED + RECORD + WAIT) as program:
        assert terminate(program) == 128 + signal.SIGTERM, program.text()
    assert_exact(program, server, at_least=50)


def test_a_handler_of_process_1_is_called_and_keeps_its_status(server: RecordingServer, start: Start) -> None:
    """With a handler of the user's own, nothing else ends the process."""
    with start("signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n" + RECORD + WAIT) as program:
        assert terminate(program) == 7, program.text()
    assert_exact(program, server, at_least=50)


def test_a_child_of_process_1_shows_the_signal(server: RecordingServer, start: Start) -> None:
    """A forked child delivers what it recorded, and its status is that of SIGTERM."""
    script = """
if os.fork() == 0:
    record(client, "child")
    os.kill(os.getpid(), signal.SIGTERM)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGTERM
"""
    with start(RECORD + script + WAIT) as program:
        assert terminate(program) == 128 + signal.SIGTERM, program.text()
    assert_exact(program, server, at_least=51)
