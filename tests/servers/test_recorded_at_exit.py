"""Triggers recorded in exit hooks, threads that outlive the main one, and finalizers are delivered once."""

from __future__ import annotations

import sys

import pytest

from tests.support.programs import assert_exact, running
from tests.support.scripts import AT_EXIT_COUNT, EXIT_STATUS, RECORD_AT_EXIT, RECORDING
from tests.support.server import RecordingServer, Reply, Request


@pytest.mark.parametrize("used", ["used", "unused"])
@pytest.mark.parametrize("place", ["first hook", "hook", "thread", "finalize", "del", "del of a module"])
def test_triggers_recorded_during_exit_are_delivered(server, tmp_path, place, used):
    """In an exit hook that runs before or after ours, a thread that outlives the main one, a finalizer: exact.

    With a client that has sent before and with one that has not; nothing is printed, and the exit status stays.
    """
    (tmp_path / "application.py").touch()
    with running([sys.executable, "-c", RECORD_AT_EXIT, place, used], tmp_path, server) as program:
        assert program.wait() == EXIT_STATUS, program.text()
        assert program.text() == ""
        assert_exact(program, server, AT_EXIT_COUNT)


def test_a_hook_and_a_finalizer_both_record(server: RecordingServer, tmp_path) -> None:
    """A worker thread started in an exit hook does not hold up what a finalizer records after it."""
    script = f"""
import atexit
atexit.register(lambda: record(client, "hook"))
{RECORDING}
class Last:
    def __init__(self): self.client, self.write, self.truth = client, os.write, _truth
    def __del__(self):
        if self.client.record_trigger("late", "viewed", "del"):
            self.write(self.truth, b"del\\n")
client = FocusLabClient(shutdown_timeout=20)
record(client, "main")
kept = Last()
"""
    with running([sys.executable, "-c", script], tmp_path, server) as program:
        assert program.wait(60) == 0, program.text()
        assert_exact(program, server, 3)
        assert program.text() == ""


RECORD_A_DECIMAL = """
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


def test_a_decimal_is_encoded_as_a_number_in_the_last_finalizer(server, tmp_path):
    """A price recorded when `sys.modules` is empty arrives as a number, as it would at any other time."""
    (tmp_path / "application.py").touch()
    with running([sys.executable, "-c", RECORD_A_DECIMAL], tmp_path, server) as program:
        assert program.wait() == 0
        assert program.text() == ""
    (trigger,) = server.triggers
    assert (trigger["object"], trigger["variables"]) == ("0 modules", {"price": 2.5})


def test_an_exit_during_a_request_prints_nothing(server, tmp_path):
    """Twenty processes end, each at another moment of a request they do not wait for: no traceback, no warning."""

    def respond(request: Request) -> Reply:
        server.stopped.wait(0.003 * len(server.requests))
        return Reply()

    server.respond = respond
    script = (
        "import logging, os, requests, sys\n"
        "logging.basicConfig(level=logging.DEBUG)\n"
        f"{RECORDING}\n"
        "for _ in range(20):\n"  # a fork each, to save the imports
        "    pid = os.fork()\n"
        "    if not pid: break\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n"
        "else: sys.exit()\n"
        "client = FocusLabClient(shutdown_timeout=0.001, flush_interval=0.001)\n"
        "record(client, 'only')\n"
        "while not client.stats().batches + client.stats().in_flight: pass\n"
    )
    with running([sys.executable, "-X", "dev", "-c", script], tmp_path, server) as program:
        assert program.wait() == 0, program.text()
        text = program.text()
    assert program.recorded() == {"only": 20}
    assert not any(word in text for word in ("Traceback", "Exception", "Warning", "Fatal")), text
