"""gevent and eventlet: processes in which threads, locks and sockets have been replaced by those of greenlets."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from tests.support.programs import Program, assert_exact, running
from tests.support.scripts import RECORDING
from tests.support.server import RecordingServer, Reply, Request
from tests.support.waiting import eventually

GREENLETS, EACH, SENDERS = 200, 10, 5
TICKS = 20  # of another greenlet, while one waits for an answer

# Patches before or after the imports, and gives both libraries the same three names.
PATCHING = f"""
import os, sys
LIBRARY, WHEN = sys.argv[1:3]

def patch():
    if LIBRARY == "gevent":
        from gevent import monkey
        monkey.patch_all()
    else:
        import eventlet
        eventlet.monkey_patch()

if WHEN == "first":
    patch()
{RECORDING}
if WHEN == "imported":
    import requests, brockman.delivery.pipeline, brockman.transport.http
    patch()
client = FocusLabClient(shutdown_timeout=30)
from time import sleep
if LIBRARY == "gevent":
    from gevent import joinall, spawn
else:
    from eventlet import spawn
    def joinall(greenlets):
        for greenlet in greenlets:
            greenlet.wait()
"""
CROWD = f"""
def tick():
    while True:
        os.write(ticks, b".")
        sleep(0.001)

def work(number):
    for n in range({EACH}):
        record(client, f"{{number}}.{{n}}")
        sleep(0)

def send(number):
    client.send_trigger("a", "sent", f"sent {{number}}")
    os.write(_truth, f"sent {{number}}\\n".encode())

def flush():
    results.append(bool(client.flush(30)))

ticks = os.open("ticks", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
results = []
spawn(tick)
joinall([spawn(work, number) for number in range({GREENLETS})])
joinall([spawn(flush) for _ in range(3)])
joinall([spawn(send, number) for number in range({SENDERS})])
print("flushed", results, client.stats().queued, client.stats().in_flight, flush=True)
record(client, "last")
"""


class SlowServer:
    """Answers once another greenlet has run meanwhile; to `send_trigger`, once all senders wait."""

    def __init__(self, server: RecordingServer, folder: Path) -> None:
        """Answer the requests of a server; remember of each whether another greenlet ran meanwhile."""
        self.progress: list[bool] = []
        self._ticks = folder / "ticks"
        self._senders = threading.Barrier(SENDERS)
        server.respond = self._respond

    def _respond(self, request: Request) -> Reply:
        if request.triggers[0]["action"] == "sent":
            self._senders.wait(30)
        elif request.triggers[0]["object"] not in ("before", "last"):
            before = self._count()
            self.progress.append(eventually(lambda: self._count() >= before + TICKS))
        return Reply()

    def _count(self) -> int:
        return self._ticks.stat().st_size if self._ticks.exists() else 0


def finish(program: Program) -> str:
    """Wait for the end of a program, and return its output; fail if that holds an error or a log line of ours."""
    assert program.wait(90) == 0, program.text()
    text = program.text()
    assert "Traceback" not in text, text
    assert "brockman:" not in text, text
    return text


@pytest.mark.parametrize("when", ["first", "imported"])
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_greenlets_record_flush_and_send_while_others_go_on(server, tmp_path, library, when):
    """2000 triggers of 200 greenlets, 5 sent at once, one more at the end: exact, and the hub is never blocked.

    Patched before brockman is imported, or before the client is made.
    """
    slow = SlowServer(server, tmp_path)
    command = [sys.executable, "-c", PATCHING + CROWD, library, when]
    with running(command, tmp_path, server) as program:
        assert "flushed [True, True, True] 0 0" in finish(program)
        assert_exact(program, server, GREENLETS * EACH + SENDERS + 1)
    assert slow.progress
    assert all(slow.progress)


FORKS = f"""
if LIBRARY == "gevent":
    from gevent.os import fork
else:
    from os import fork

def fork_in_a_greenlet():
    pid = os.fork()
    if pid == 0:
        for n in range({EACH}):
            record(client, f"child b {{n}}")
        os._exit(0 if client.flush(30) else 1)
    statuses.append(os.waitpid(pid, 0)[1])

statuses = []
for n in range(100):
    record(client, f"parent {{n}}")
while not client.stats().in_flight:
    sleep(0.001)
for n in range(100):
    record(client, f"parent, behind {{n}}")
pid = fork()
if pid == 0:
    for n in range({EACH}):
        record(client, f"child a {{n}}")
    sys.exit()
joinall([spawn(fork_in_a_greenlet)])
statuses.append(os.waitpid(pid, 0)[1])
print("children", statuses, flush=True)
"""


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_a_fork_while_a_greenlet_sends_is_exact(server, tmp_path, library):
    """The children deliver theirs, by `flush` and at exit, while the parent waits for its answer."""

    last_of_children = {"child a 9", "child b 9"}

    def respond(request: Request) -> Reply:
        if request.triggers[0]["object"] == "parent 0":
            assert eventually(lambda: last_of_children <= {trigger["object"] for trigger in server.triggers})
        return Reply()

    server.respond = respond
    command = [sys.executable, "-c", PATCHING + FORKS, library, "first"]
    with running(command, tmp_path, server) as program:
        assert "children [0, 0]" in finish(program)
        assert_exact(program, server, 200 + 2 * EACH)


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_a_trigger_of_the_last_line_is_delivered(server, tmp_path, library):
    """A patched process in which no other greenlet has run delivers at exit."""
    command = [sys.executable, "-c", PATCHING + 'record(client, "only")\n', library, "first"]
    with running(command, tmp_path, server) as program:
        finish(program)
        assert_exact(program, server)
