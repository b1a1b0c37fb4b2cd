"""The exit of a process: every trigger is delivered, or counted, within shutdown_timeout."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

import pytest

from tests.support.client import KEY
from tests.support.programs import free_port
from tests.support.server import Reply, drip, silence
from tests.support.waiting import quick

SCRIPT = """
import logging, sys, time
from brockman.client import FocusLabClient

client = FocusLabClient(api_key=sys.argv[1], endpoint=sys.argv[2], shutdown_timeout=float(sys.argv[3]),
                        max_queue_size=20_000)
for n in range(int(sys.argv[4])):
    client.record_trigger("actor", "viewed", "page", variables={"n": n})
print("stop", flush=True)
"""
WATCHDOG = "import faulthandler; faulthandler.dump_traceback_later(45, exit=True)\n"
REPORT = """
import atexit
def report():
    s = client.stats()
    assert s.recorded == s.delivered + s.rejected + sum(s.dropped.values()) + s.queued + s.in_flight
    print(s.recorded, s.delivered, dict(s.dropped), s.queued, s.in_flight)
"""


def run(endpoint: str, timeout: float, count: int, more: str = "") -> tuple[float, str, str, int]:
    """Run the script; return the seconds from its last line to its end, its output, its log and its status."""
    script = SCRIPT.replace("client =", REPORT + "atexit.register(report)\nclient =", 1) + more
    return run_script(script, KEY, endpoint, str(timeout), str(count))


def run_script(script: str, *arguments: str) -> tuple[float, str, str, int]:
    """Run a script that prints "stop" at its end; return as `run` does."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", WATCHDOG + script, *arguments], stdout=subprocess.PIPE, stderr=log, text=True
        )
        assert process.stdout is not None
        with process.stdout as printed:
            assert printed.readline() == "stop\n"
            started = time.monotonic()
            rest = printed.read()
        process.wait(60)
        took = time.monotonic() - started
        log.seek(0)
        return took, rest.strip(), log.read(), process.returncode


@pytest.mark.parametrize(
    ("more", "status"), [("", 0), ("sys.exit(3)", 3), ("raise ZeroDivisionError", 1)], ids=["end", "exit", "error"]
)
def test_a_script_that_just_ends_delivers_everything(server, more, status):
    """No flush, no close: everything is received once, however the script ends, and its status stays."""
    _, out, _, code = run(server.endpoint, 20, 5000, more)
    assert code == status
    assert out == "5000 5000 {} 0 0"
    assert set(server.ids().values()) == {1}
    assert len(server.ids()) == 5000


@pytest.mark.parametrize("kind", ["refused", "silence", "drip", "503"])
def test_a_dead_endpoint_does_not_hold_the_exit(server, kind):
    """Over within shutdown_timeout + 1 s with 10 000 triggers waiting; the log says how many were lost."""
    replies = {"silence": Reply(act=silence), "drip": Reply(act=drip), "503": Reply(503)}
    endpoint = server.endpoint
    if kind == "refused":
        endpoint = f"http://127.0.0.1:{free_port()}/"
    else:
        server.respond = lambda request: replies[kind]
    _, out, err, code = quick(lambda: run(endpoint, 0.5, 10_000), 0.5 + 1)
    assert code == 0
    assert out == "10000 0 {'shutdown': 10000} 0 0"
    assert "10000 triggers not delivered" in err
    assert "Traceback" not in err


def test_all_clients_share_one_deadline(server):
    """Five clients with dead endpoints take no longer than one."""
    server.respond = lambda request: Reply(act=silence)
    more = (
        "\nclients = [FocusLabClient(api_key=sys.argv[1], endpoint=sys.argv[2], flush_interval=n,"
        " shutdown_timeout=0.5) for n in range(1, 6)]\n"
        "for c in clients: c.record_trigger('a', 'b', 'c')\n"
    )
    script = SCRIPT.replace('print("stop", flush=True)', "") + more + 'print("stop", flush=True)'
    quick(lambda: run_script(script, KEY, server.endpoint, "0.5", "10"), 0.5 + 1)


def test_an_idle_client_does_not_delay_the_exit(server):
    """A client that has delivered everything, or recorded nothing, takes no time to close."""
    for count in (0, 1):
        took, out, err, code = run(server.endpoint, 30, count, "client.flush()")
        assert took < 10
        assert (out, err, code) == (f"{count} {count} {{}} 0 0", "", 0)


def test_a_client_first_used_in_an_exit_hook_delivers(server):
    """So it does in a hook that runs before ours, and in one that runs after it."""
    script = (
        "import atexit, sys\n"
        "from brockman.client import FocusLabClient\n"
        "@atexit.register\n"
        "def last():\n"
        "    client = FocusLabClient(api_key=sys.argv[1], endpoint=sys.argv[2])\n"
        "    print(client.record_trigger('a', 'made', 'hook'), early.record_trigger('a', 'kept', 'hook'))\n"
        "early = FocusLabClient(api_key=sys.argv[1], endpoint=sys.argv[2])\n"
        'print("stop", flush=True)'
    )
    _, out, err, _ = run_script(script, KEY, server.endpoint)
    assert (out, err) == ("True True", "")
    assert sorted(trigger["action"] for trigger in server.triggers) == ["kept", "made"]


def test_a_client_whose_close_fails_does_not_affect_the_others(server):
    """A transport that raises on close is logged; every other client delivers."""
    script = (
        "import sys\n"
        "from brockman.client import FocusLabClient\n"
        "from brockman.transport.memory import MemoryTransport\n"
        "class Bad(MemoryTransport):\n"
        "    def close(self): raise OSError('bad close')\n"
        "clients = []\n"
        "for n in range(6):\n"
        "    clients.append(FocusLabClient(api_key=sys.argv[1], transport=Bad()))\n"
        "    clients.append(FocusLabClient(api_key=sys.argv[1], endpoint=sys.argv[2]))\n"
        "for client in clients: client.record_trigger('a', 'viewed', 'page')\n"
        'print("stop", flush=True)'
    )
    _, _, err, code = run_script(script, KEY, server.endpoint)
    assert len(server.triggers) == 6
    assert code == 0
    assert "Traceback" not in err
    assert "closing the transport raised OSError" in err


@pytest.mark.parametrize("timeout", ["0.5", "0.9"])
def test_a_short_shutdown_timeout_is_enough_for_a_healthy_server(server, timeout):
    """A script that records and ends delivers also when it may take only half a second for it.

    Once in a few times at least: a busy machine may not answer within half a second.
    """
    assert any(run(server.endpoint, float(timeout), 1)[1] == "1 1 {} 0 0" for _ in range(5))


def test_a_finalizer_that_runs_last_crashes_nothing():
    """record_trigger, stats, flush and close in a __del__ that runs last: the exit status stays."""
    script = (
        "import sys, builtins\n"
        "from brockman.client import FocusLabClient\n"
        "from brockman.transport.memory import MemoryTransport\n"
        "client = FocusLabClient(api_key='k', transport=MemoryTransport())\n"
        "class Last:\n"
        "    def __init__(self): self.client = client\n"
        "    def __del__(self):\n"
        "        self.client.record_trigger(1, 'a', 'b'); self.client.stats(); repr(self.client)\n"
        "        self.client.flush(1); self.client.close(1)\n"
        "builtins.last = Last()\n"
        'print("stop", flush=True)'
    )
    _, _, err, code = run_script(script)
    assert code == 0
    assert "Traceback" not in err


def test_triggers_of_a_dropped_client_without_a_thread_are_delivered_at_exit(server):
    """No thread can be started, and the client is gone: the exit of the process still delivers."""
    script = (
        "import _thread, gc, sys\n"
        "from brockman.client import FocusLabClient\n"
        "def none(*arguments): raise RuntimeError('no more threads')\n"
        "_thread.start_new_thread = none\n"
        "client = FocusLabClient(api_key=sys.argv[1], endpoint=sys.argv[2])\n"
        "for n in range(3): client.record_trigger('a', 'viewed', 'page')\n"
        "del client; gc.collect()\n"
        'print("stop", flush=True)'
    )
    _, _, err, code = run_script(script, KEY, server.endpoint)
    assert (len(server.triggers), err, code) == (3, "", 0)


def test_a_ctrl_c_during_the_first_use_does_not_cost_the_exit_hooks(server):
    """A child of multiprocessing whose first client was interrupted delivers at exit what the second records."""
    script = (
        "import multiprocessing, sys\n"
        "from brockman.client import FocusLabClient\n"
        "from brockman.process import registry\n"
        "def interrupt():\n"
        "    registry.first_use_hooks.remove(interrupt)\n"
        "    raise KeyboardInterrupt\n"
        "def work():\n"
        "    registry.first_use_hooks.insert(0, interrupt)\n"
        "    try: FocusLabClient(api_key=sys.argv[1], endpoint=sys.argv[2])\n"
        "    except KeyboardInterrupt: pass\n"
        "    client = FocusLabClient(api_key=sys.argv[1], endpoint=sys.argv[2], flush_interval=60)\n"
        "    client.record_trigger('a', 'viewed', 'page')\n"
        "child = multiprocessing.get_context('fork').Process(target=work)\n"
        "child.start(); child.join()\n"
        'print("stop", flush=True)'
    )
    _, _, err, code = run_script(script, KEY, server.endpoint)
    assert (len(server.triggers), err, code) == (1, "", 0)
