"""Signals in the worker's thread: blocked, and not in what the user's code starts there."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from brockman.client import FocusLabClient
from brockman.exceptions import ConnectionFailed
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport
from tests.support.client import KEY, record, worker_threads
from tests.support.programs import running
from tests.support.scripts import RECORDING
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals are blocked on Linux only")


class Children:
    """Subprocesses, and one of a thread, that the user's code starts."""

    def __init__(self) -> None:
        self.ended: list[int] = []

    def start(self, *ignored: object) -> None:
        """Start two, and terminate them."""
        if not self.ended:
            self._run()
            thread = threading.Thread(target=self._run)
            thread.start()
            thread.join()

    def _run(self) -> None:
        child = subprocess.Popen(["sleep", "60"])
        child.terminate()
        try:
            self.ended.append(child.wait(10))
        except subprocess.TimeoutExpired:
            child.kill()
            self.ended.append(child.wait())


class Unreachable(MemoryTransport):
    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        raise ConnectionFailed("no answer")


class Starting(MemoryTransport):
    """Calls a function in one of its methods."""

    def __init__(self, method: str, call: Any) -> None:
        super().__init__(lambda body: (method == "send" and call()) or Answer(201))
        if method == "close":
            self.close = call  # type: ignore[method-assign]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("place", ["on_error", "on_drop", "before_record", "send", "close"])
def test_sigterm_ends_what_the_users_code_starts(place: str) -> None:
    """A subprocess from a callback or a transport, or from a thread of theirs, inherits no blocked signals."""
    children = Children()
    options: dict[str, Any] = {} if place in ("send", "close") else {place: children.start}
    transport = {
        "on_error": MemoryTransport(lambda body: Answer(400)),
        "on_drop": Unreachable(),
        "send": Starting("send", children.start),
        "close": Starting("close", children.start),
    }.get(place, MemoryTransport())
    client = FocusLabClient(KEY, transport=transport, flush_interval=0.01, **options)
    record(client, 1)
    client.close(1)
    assert eventually(lambda: len(children.ended) == 2, 25)
    assert children.ended == [-signal.SIGTERM] * 2


def test_sigterm_ends_what_a_handler_of_the_log_starts() -> None:
    """A handler runs in a thread of brockman too."""
    children = Children()
    handler, log = logging.Handler(), logging.getLogger("brockman")
    handler.emit = children.start  # type: ignore[assignment]
    log.addHandler(handler)
    try:
        client = FocusLabClient(KEY, transport=Unreachable())
        record(client, 1)
        client.close(1)
        assert eventually(lambda: len(children.ended) == 2, 25)
    finally:
        log.removeHandler(handler)
    assert children.ended == [-signal.SIGTERM] * 2


def test_the_waiting_worker_receives_no_signal() -> None:
    """Before and after a callback, signals are left to the main thread."""

    bit = 1 << (signal.SIGTERM - 1)

    def blocked() -> list[int]:
        """Return the signals blocked in each worker, as a set of bits."""
        statuses = [Path(f"/proc/self/task/{thread.native_id}/status").read_text() for thread in worker_threads()]
        return [int(text.split("SigBlk:")[1].split()[0], 16) for text in statuses]

    transport = MemoryTransport(lambda body: Answer(400))
    with FocusLabClient(KEY, transport=transport, on_error=lambda *ignored: None, flush_interval=0.01) as client:
        for _ in range(2):
            record(client, 1)
            assert client.flush(10)
            assert eventually(lambda: [mask & bit for mask in blocked()] == [bit])


def test_a_signal_that_the_main_thread_waits_for_reaches_it(server: Any, tmp_path: Path) -> None:
    """Also when the main thread blocks it after the worker has started: the process is not ended by it."""
    script = f"""
import signal
{RECORDING}
client = FocusLabClient(flush_interval=0.01)
record(client, "first")
client.flush(10)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.kill(os.getpid(), signal.SIGTERM)
assert signal.sigwait([signal.SIGTERM]) == signal.SIGTERM
"""
    with running([sys.executable, "-c", script], tmp_path, server) as program:
        assert program.wait(30) == 0, program.text()


def test_a_child_that_a_callback_forks_has_no_blocked_signals() -> None:
    """It can be terminated after the callback has returned in it, too."""
    masks: list[set[Any]] = []

    def fork(*ignored: object) -> None:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(1)
        masks.append({os.waitpid(pid, 0)[1]})

    transport = MemoryTransport(lambda body: Answer(400))
    with FocusLabClient(KEY, transport=transport, on_error=fork, flush_interval=0.01) as client:
        record(client, 1)
        client.flush(10)
    assert eventually(lambda: masks == [set(), {signal.SIGTERM}])
