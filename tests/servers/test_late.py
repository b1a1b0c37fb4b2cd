"""The very end of a process: what is recorded when nearly nothing works any more, and how long that takes."""

from __future__ import annotations

import json
import socket
import sys

import pytest

from tests.servers.running import RECORDING, Running, assert_exact, running
from tests.support.server import RecordingServer, Reply, Request, silence

EACH = 3
STATUS = 7

# `late` holds all that it needs: names of modules are gone when the last finalizers run.
LATE = f"""
import atexit, sys, threading, weakref
PLACE, USED = sys.argv[1:3]
if PLACE == "first hook":
    atexit.register(lambda: late())
{RECORDING}
client = FocusLabClient(shutdown_timeout=20)
if USED == "used":
    record(client, "first")
    client.flush(20)

class Late:
    def __init__(self):
        self.client, self.write, self.truth = client, os.write, _truth

    def __call__(self):
        for n in range({EACH}):
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

late = Late()
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
sys.exit({STATUS})
"""


@pytest.mark.parametrize("used", ["used", "unused"])
@pytest.mark.parametrize("place", ["first hook", "hook", "thread", "finalize", "del", "del of a module"])
def test_what_is_recorded_late_leaves(server, tmp_path, place, used):
    """In an exit hook registered before or after ours, a thread that outlives the main one, a finalizer: exact.

    With a client that had sent before and with one that had not; nothing is printed, and the exit status stays.
    """
    (tmp_path / "application.py").touch()
    with running([sys.executable, "-c", LATE, place, used], tmp_path, server) as program:
        assert program.wait() == STATUS, program.text()
        assert program.text() == ""
        assert_exact(program, server, EACH)


FITTED = """
import sys
from decimal import Decimal
from brockman.client import FocusLabClient

class Finalized:
    def __init__(self):
        self.client, self.price, self.modules = FocusLabClient(), Decimal("2.5"), sys.modules

    def __del__(self):
        found = f"{len(self.modules)} modules"
        self.client.record_trigger("late", "bought", found, variables={"price": self.price})

import application
application.kept = Finalized()
"""


def test_a_decimal_is_one_until_the_last_finalizer(server, tmp_path):
    """A price recorded when the table of modules is empty arrives, as it would have at any other time."""
    (tmp_path / "application.py").touch()
    with running([sys.executable, "-c", FITTED], tmp_path, server) as program:
        assert program.wait() == 0
        assert program.text() == ""
    (trigger,) = server.triggers
    assert (trigger["object"], trigger["variables"]) == ("0 modules", {"price": 2.5})


# The first hook that is registered runs last: it says how long the end has taken until then, and what is counted.
ENDING = f"""
import atexit, json, sys
from time import monotonic

@atexit.register
def say():
    stats = [client.stats() for client in clients]
    counts = [(s.recorded, s.delivered, sum(s.dropped.values()), s.queued + s.in_flight) for s in stats]
    with open("end", "x") as out:  # where no thread that logs writes at the same time
        json.dump([monotonic() - started, counts], out)

LATE, TIMEOUT = int(sys.argv[1]), float(sys.argv[2])
for number in range(LATE):
    atexit.register(lambda number=number: late(number))
{RECORDING}
def late(number):
    record(clients[number % len(clients)], f"late {{number}}")
"""


def ending(program: Running) -> tuple[float, list[list[int]]]:
    """Return what a script with ENDING said."""
    said = program.folder / "end"
    took, counts = json.loads(said.read_text())
    said.unlink()  # so that nobody takes it for that of the next one
    return took, counts


def test_all_late_hooks_share_one_deadline(server, tmp_path):
    """A silent endpoint, 40 hooks that record with 3 clients: out within shutdown_timeout + 1 s, all counted."""
    server.respond = lambda request: Reply(act=silence)
    script = ENDING + (
        "clients = [FocusLabClient(shutdown_timeout=TIMEOUT, flush_interval=n) for n in (1, 2, 3)]\n"
        "for n in range(5): record(clients[0], f'early {n}')\n"
        "for n in range(LATE): atexit.register(late, n)\n"
        "started = monotonic()\n"
    )
    with running([sys.executable, "-c", script, "20", "1.0"], tmp_path, server) as program:
        assert program.wait() == 0
        took, counts = ending(program)
        assert took < 1.0 + 1
        assert sum(recorded for recorded, *_ in counts) == 5 + 2 * 20
        assert all(recorded == dropped for recorded, _, dropped, _ in counts)
        assert len(program.text().splitlines()) <= 2 * 3 + 2, program.text()  # two for all the late ones
        assert "Traceback" not in program.text()


def test_a_script_that_ends_with_its_only_trigger_is_gone_in_half_a_second(server, tmp_path):
    """The trigger is received, and the end takes no longer than 0.5 s, in the best of five runs."""
    script = ENDING + (
        "clients = [FocusLabClient()]\n"
        "started = monotonic()\n"
        'clients[0].record_trigger(42, "viewed", "blog post")\n'
    )
    took = []
    for _ in range(5):
        with running([sys.executable, "-c", script, "0", "5"], tmp_path, server) as program:
            assert program.wait() == 0
            seconds, counts = ending(program)
            assert counts == [[1, 1, 0, 0]]
            took.append(seconds)
    assert min(took) < 0.5
    assert len(server.triggers) == 5


def loris(server: RecordingServer, connection: socket.socket) -> None:
    """Send a byte of an answer each second."""
    for byte in b"HTTP/1.1 201 Created\r\n" * 100:
        connection.sendall(bytes([byte]))
        if server.stopped.wait(1):
            return


NO_NAMES = """
import socket, threading
def getaddrinfo(*arguments, **keywords):
    threading.Event().wait()
socket.getaddrinfo = getaddrinfo
"""


@pytest.mark.parametrize(("early", "late"), [(1000, 0), (1000, 20), (0, 20)], ids=["early", "both", "late"])
@pytest.mark.parametrize("kind", ["loris", "dns"])
def test_what_never_answers_does_not_hold_the_exit(server, tmp_path, kind, early, late):
    """A byte a second, or a name that is never resolved: out within shutdown_timeout + 0.5 s, and all is counted.

    Also what is recorded after our exit hook.
    """
    if (kind, early) == ("dns", 0) and (3, 12, 0) <= sys.version_info < (3, 12, 2):
        pytest.skip(
            "this Python starts no thread in an exit hook, and nothing bounds the resolver in the caller's"
        )
    server.respond = lambda request: Reply(act=loris)
    script = ENDING + (
        (NO_NAMES if kind == "dns" else "")
        + "clients = [FocusLabClient(shutdown_timeout=TIMEOUT)]\n"
        + f"for n in range({early}): record(clients[0], f'early {{n}}')\n"
        + "started = monotonic()\n"
    )
    with running([sys.executable, "-c", script, str(late), "1.0"], tmp_path, server) as program:
        assert program.wait(20) == 0
        took, counts = ending(program)
    assert took < 1.0 + 0.5 + 1  # the last for a machine that others use too
    assert counts == [[early + late, 0, early + late, 0]]
    assert "Traceback" not in program.text()


def test_a_thread_that_dies_in_a_request_says_nothing(server, tmp_path):
    """Twenty ends, each at another moment of a request that is not waited for: no traceback and no warning."""

    def respond(request: Request) -> Reply:
        server.stopped.wait(0.003 * len(server.requests))
        return Reply()

    server.respond = respond
    script = (
        "import logging, os, requests, sys, threading\n"
        "logging.basicConfig(level=logging.DEBUG)\n"
        f"{RECORDING}\n"
        "for _ in range(20):\n"  # each a fork, which is spared the imports
        "    pid = os.fork()\n"
        "    if not pid: break\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n"
        "else: sys.exit()\n"
        "begun = threading.Event()\n"
        "def note(entry): begun.set(); return True\n"
        "logging.getLogger('urllib3.connectionpool').addFilter(note)\n"
        "client = FocusLabClient(shutdown_timeout=0.001, flush_interval=0.001)\n"
        "record(client, 'only')\n"
        "begun.wait()\n"
    )
    with running([sys.executable, "-X", "dev", "-c", script], tmp_path, server) as program:
        assert program.wait() == 0, program.text()
        text = program.text()
    assert program.recorded() == {"only": 20}
    assert text.count("Starting new HTTP connection") == 20
    assert not any(word in text for word in ("Traceback", "Exception", "Warning", "Fatal")), text
