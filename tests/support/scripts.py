"""Scripts under test: what they begin with, and running one to its end."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tests.support.endpoint import Endpoint
from tests.support.programs import Program, running
from tests.support.server import RecordingServer, Reply, Request
from tests.support.waiting import eventually

# Every application under test begins with this. `record` writes the name of each accepted trigger to a file, with
# one system call, so that the test knows what must arrive however the process ends.
RECORDING = """
import os
from brockman.client import FocusLabClient

_truth = os.open(os.environ["TRUTH"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

def record(client, name):
    if client.record_trigger(f"process {os.getpid()}", "viewed", str(name)):
        os.write(_truth, f"{name}\\n".encode())
"""

# A process that hangs prints its stacks and ends. Alarms are not inherited, so each process sets its own.
BEGIN = f'''
import contextlib, faulthandler, signal, sys, threading, time
{RECORDING}
faulthandler.register(signal.SIGALRM, chain=True)
signal.alarm(240)

def fork(child, *arguments, how=os.fork):
    pid = how()
    if pid == 0:
        signal.alarm(120)
        child(*arguments)
        sys.exit()
    return pid

def fork_in_c():
    """Fork as uWSGI does, without calling Python's hooks.

    Wait until no thread runs first: one that waits for the GIL during the fork would leave it broken in the child.
    """
    import ctypes
    wait_for(lambda: (switches(), time.sleep(0.1))[0] == switches())
    return ctypes.PyDLL(None).fork()

def switches():
    counts = []
    for task in set(os.listdir("/proc/self/task")) - {{str(threading.get_native_id())}}:
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            counts += [line for line in open(f"/proc/self/task/{{task}}/status") if "ctxt" in line]
    return counts

def join(*pids):
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0, pid

def wait_for(condition):
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)

def make(**options):
    settings = dict(flush_interval=0.02, backoff_base=0.01, backoff_cap=0.05, shutdown_timeout=30)
    return FocusLabClient(**(settings | options))
'''


# Records from a place in the end of a process: `python -c RECORD_AT_EXIT PLACE used|unused`. The recorder holds
# all it needs, because the names of modules are gone when the last finalizers run. Exits with EXIT_STATUS.
EXIT_STATUS = 7
AT_EXIT_COUNT = 3
RECORD_AT_EXIT = f"""
import atexit, sys, threading, weakref
PLACE, USED = sys.argv[1:3]
if PLACE == "first hook":
    atexit.register(lambda: late())
{RECORDING}
client = FocusLabClient(shutdown_timeout=20)
if USED == "used":
    record(client, "first")
    client.flush(20)

class RecordLate:
    def __init__(self):
        self.client, self.write, self.truth = client, os.write, _truth

    def __call__(self):
        for n in range({AT_EXIT_COUNT}):
            if self.client.record_trigger("late", "viewed", f"late {{n}}"):
                self.write(self.truth, f"late {{n}}\\n".encode())

class Finalized:
    def __init__(self, call):
        self.call = call

    def __del__(self):
        self.call()

def outlive():
    threading.main_thread().join()
    late()

late = RecordLate()
if PLACE == "hook":
    atexit.register(late)
elif PLACE == "thread":
    threading.Thread(target=outlive).start()
elif PLACE == "finalize":
    kept = Finalized(int)
    weakref.finalize(kept, late)
elif PLACE == "del":
    kept = Finalized(late)
elif PLACE == "del of a module":
    import application
    application.kept = Finalized(late)
sys.exit({EXIT_STATUS})
"""


def accept_two_of_three(server: RecordingServer) -> Endpoint:
    """Have a server answer every third request with 503."""
    count, lock = itertools.count(1), threading.Lock()

    def answer(request: Request) -> int:
        with lock:
            return 503 if next(count) % 3 == 0 else 201

    return Endpoint(server, answer)


def hold_until(server: RecordingServer, file: Path, size: int, others: int) -> Callable[[Request], Reply]:
    """Make a `respond` that creates a file when a batch of a size arrives, and answers after `others` triggers."""

    def respond(request: Request) -> Reply:
        if len(request.triggers) == size:
            file.touch()
            eventually(lambda: len(server.triggers) >= others, 30)
        return Reply()

    return respond


def run(folder: Path, server: RecordingServer, script: str) -> Program:
    """Run a script that begins with `BEGIN`; fail unless its exit status is 0."""
    (folder / "script.py").write_text(BEGIN + script)
    with running([sys.executable, "script.py"], folder, server) as program:
        assert program.wait(240) == 0, program.text()
    return program
