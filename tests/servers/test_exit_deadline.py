"""The time a process takes to exit: bounded by `shutdown_timeout`, whatever records or fails meanwhile."""

from __future__ import annotations

import json
import re
import socket
import sys

import pytest

from tests.support.programs import Program, assert_exact, running
from tests.support.scripts import RECORDING
from tests.support.server import RecordingServer, Reply, silence
from tests.support.waiting import quick

# The hook registered first runs last: it writes down how long the exit has taken until then, and the counts.
TIMED_EXIT = f"""
import atexit, json, sys
from time import monotonic

@atexit.register
def say():
    stats = [client.stats() for client in clients]
    counts = [(s.recorded, s.delivered, sum(s.dropped.values()), s.queued + s.in_flight) for s in stats]
    with open("end", "x") as out:  # not on the output: threads that log write there
        json.dump([monotonic() - started, counts], out)

LATE, TIMEOUT = int(sys.argv[1]), float(sys.argv[2])
for number in range(LATE):
    atexit.register(lambda number=number: late(number))
{RECORDING}
def late(number):
    record(clients[number % len(clients)], f"late {{number}}")
"""


def exit_of(program: Program) -> tuple[float, list[list[int]]]:
    """Return the seconds that the exit of a script with TIMED_EXIT took, and the counts of its clients."""
    written = program.folder / "end"
    took, counts = json.loads(written.read_text())
    written.unlink()  # the next program in this folder writes its own
    return took, counts


def test_all_hooks_that_record_share_one_deadline(server, tmp_path):
    """A silent endpoint, 40 hooks that record with 3 clients: over within shutdown_timeout + 1 s, all counted."""
    server.respond = lambda request: Reply(act=silence)
    script = TIMED_EXIT + (
        "clients = [FocusLabClient(shutdown_timeout=TIMEOUT, flush_interval=n) for n in (1, 2, 3)]\n"
        "for n in range(5): record(clients[0], f'early {n}')\n"
        "for n in range(LATE): atexit.register(late, n)\n"
        "started = monotonic()\n"
    )

    def leave() -> tuple[float, list[list[int]], str]:
        with running([sys.executable, "-c", script, "20", "1.0"], tmp_path, server) as program:
            assert program.wait() == 0
            return *exit_of(program), program.text()

    _, counts, text = quick(leave, 1.0 + 1)
    assert sum(recorded for recorded, *_ in counts) == 5 + 2 * 20
    assert all(recorded == dropped for recorded, _, dropped, _ in counts)
    assert len(text.splitlines()) <= 2 * 3 + 2, text  # two for all the hooks
    assert "Traceback" not in text


def test_a_script_that_ends_with_its_only_trigger_exits_within_half_a_second(server, tmp_path):
    """The trigger is received, and the exit takes no longer than 0.5 s."""
    script = TIMED_EXIT + (
        "clients = [FocusLabClient()]\n"
        "started = monotonic()\n"
        'clients[0].record_trigger(42, "viewed", "blog post")\n'
    )

    def leave() -> tuple[float, list[list[int]]]:
        server.requests.clear()
        with running([sys.executable, "-c", script, "0", "5"], tmp_path, server) as program:
            assert program.wait() == 0
            return exit_of(program)

    _, counts = quick(leave, 0.5)
    assert counts == [[1, 1, 0, 0]]
    assert len(server.triggers) == 1


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
def test_an_endpoint_that_never_answers_does_not_hold_the_exit(server, tmp_path, kind, early, late):
    """A byte a second, or a name that is never resolved: over within shutdown_timeout + 0.5 s, all counted.

    So is what is recorded after our exit hook.
    """
    if (kind, early) == ("dns", 0) and (3, 12, 0) <= sys.version_info < (3, 12, 2):
        pytest.skip(
            "this Python starts no thread in an exit hook, and nothing bounds the resolver in the caller's"
        )
    server.respond = lambda request: Reply(act=loris)
    script = TIMED_EXIT + (
        (NO_NAMES if kind == "dns" else "")
        + "clients = [FocusLabClient(shutdown_timeout=TIMEOUT)]\n"
        + f"for n in range({early}): record(clients[0], f'early {{n}}')\n"
        + "started = monotonic()\n"
    )

    def leave() -> tuple[float, list[list[int]], str]:
        with running([sys.executable, "-c", script, str(late), "1.0"], tmp_path, server) as program:
            assert program.wait(20) == 0
            return *exit_of(program), program.text()

    _, counts, text = quick(leave, 1.0 + 0.5)
    assert counts == [[early + late, 0, early + late, 0]]
    assert "Traceback" not in text


def test_the_clients_share_the_time_for_on_drop(server: RecordingServer, tmp_path) -> None:
    """Twenty clients with a slow `on_drop` take no longer than one."""
    server.respond = lambda request: Reply(503)
    script = f"""

import atexit, time
@atexit.register  # the first hook runs last
def say():
    print("took", time.monotonic() - started, flush=True)
{RECORDING}
def slow(reason, body): time.sleep(0.01)
clients = [FocusLabClient(shutdown_timeout=0.5, on_drop=slow, max_queue_size=1000 + n) for n in range(20)]
for n in range(2000): record(clients[n % 20], n)
started = time.monotonic()
"""

    def leave() -> tuple[float, str]:
        with running([sys.executable, "-c", script], tmp_path, server) as program:
            assert program.wait(60) == 0
            (took,) = (float(seconds) for seconds in re.findall(r"^took ([\d.]+)$", program.text(), re.M))
            return took, program.text()

    _, text = quick(leave, 0.5 + 0.25 + 1)  # a quarter of a second for each client would make five
    assert "on_drop was not called for" in text


@pytest.mark.parametrize("first", ["dead", "healthy"])
def test_a_dead_endpoint_leaves_time_for_a_healthy_one(server: RecordingServer, tmp_path, first: str) -> None:
    """An exit hook records with a client of each: the healthy one delivers, whichever comes first."""
    script = f"""
import atexit
def late():
    for client in (clients if "{first}" == "dead" else clients[::-1]):
        if client is clients[1]: record(client, "late")
        else: client.record_trigger("a", "viewed", "lost")
atexit.register(late)
{RECORDING}
clients = [FocusLabClient(endpoint="http://127.0.0.1:9/", shutdown_timeout=4), FocusLabClient(shutdown_timeout=4)]
"""
    with running([sys.executable, "-c", script], tmp_path, server) as program:
        assert program.wait(60) == 0, program.text()
        assert_exact(program, server)
