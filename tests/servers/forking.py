"""What the tests of forks share: how a script begins, and servers that refuse or wait."""

from __future__ import annotations

import itertools
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import eventually
from tests.servers.running import RECORDING, Running, running
from tests.support.server import RecordingServer, Reply, Request

# A process that hangs says on the log where, and ends: the alarm is not inherited, so each sets its own.
BEGIN = f'''
import contextlib, faulthandler, signal, sys, threading, time
{RECORDING}
faulthandler.register(signal.SIGALRM, chain=True)
signal.alarm(90)

def fork(child, *arguments, how=os.fork):
    pid = how()
    if pid == 0:
        signal.alarm(40)
        child(*arguments)
        sys.exit()
    return pid

def fork_in_c():
    """Fork as uWSGI does, without calling Python's hooks.

    A thread that waits for the interpreter's lock meanwhile would leave that useless in the child: so none does.
    """
    import ctypes
    wait_for(lambda: (switches(), time.sleep(0.1))[0] == switches())
    return ctypes.PyDLL(None).fork()

def switches():
    counts = []
    for task in set(os.listdir("/proc/self/task")) - {{str(threading.get_native_id())}}:
        with contextlib.suppress(OSError):  # that one has just ended
            counts += [line for line in open(f"/proc/self/task/{{task}}/status") if "ctxt" in line]
    return counts

def join(*pids):
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0, pid

def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)

def make(**options):
    settings = dict(flush_interval=0.02, backoff_base=0.01, backoff_cap=0.05, shutdown_timeout=30)
    return FocusLabClient(**(settings | options))
'''


class Taking:
    """Answers as a function says, and keeps apart what it took: what is refused comes once more."""

    def __init__(self, status_of: Callable[[Request], int]) -> None:
        self._status_of = status_of
        self._taken: list[Request] = []

    def __call__(self, request: Request) -> Reply:
        status = self._status_of(request)
        if status == 201:
            self._taken.append(request)
        return Reply(status)

    @property
    def triggers(self) -> list[dict[str, Any]]:
        return [trigger for request in self._taken for trigger in request.triggers]

    def ids(self) -> Counter[str]:
        return Counter(trigger["id"] for trigger in self.triggers)


def taking_two_of_three() -> Taking:
    count, lock = itertools.count(1), threading.Lock()

    def status_of(request: Request) -> int:
        with lock:
            return 503 if next(count) % 3 == 0 else 201

    return Taking(status_of)


def hold_until(server: RecordingServer, file: Path, size: int, others: int) -> Callable[[Request], Reply]:
    """Answer a batch of this size, and tell in a file that it came, only when so many other triggers are there."""

    def respond(request: Request) -> Reply:
        if len(request.triggers) == size:
            file.touch()
            eventually(lambda: len(server.triggers) >= others, 30)
        return Reply()

    return respond


def run(folder: Path, server: RecordingServer, script: str) -> Running:
    """Run a script, which must end well."""
    (folder / "script.py").write_text(BEGIN + script)
    with running([sys.executable, "script.py"], folder, server) as program:
        assert program.wait(120) == 0, program.text()
    return program
