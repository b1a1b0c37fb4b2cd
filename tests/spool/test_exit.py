"""The end of a process with a spool, and several clients on one: what is left waits for the next process."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.spool.test_fork import DEAD, SPOOL, end
from tests.support.programs import Program, running
from tests.support.scripts import BEGIN, EXIT_STATUS, RECORD_AT_EXIT, run
from tests.support.server import RecordingServer

SILENT = """
import socket
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
silent = dict(endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}/", shutdown_timeout=1)
"""


def ends(folder: Path, server: RecordingServer, script: str, status: int) -> Program:
    (folder / "script.py").write_text(BEGIN + SPOOL + DEAD + script)
    with running([sys.executable, "script.py"], folder, server) as program:
        assert program.wait() == status, program.text()
    return program


@pytest.mark.parametrize(
    ("place", "used"),
    [
        *[(place, "used") for place in ("first hook", "hook", "thread", "finalize", "del", "del of a module")],
        *[(place, "unused") for place in ("first hook", "del of a module")],
    ],
)
def test_what_is_recorded_late_waits_on_disk(server, tmp_path, place, used):
    """In an exit hook, a thread that outlives the main one, a finalizer: nobody answers, and nothing is lost."""
    (tmp_path / "application.py").touch()
    spool = {"FL_SPOOL_DIR": str(tmp_path / "spool"), "FL_ENDPOINT": "http://127.0.0.1:9/"}
    script = RECORD_AT_EXIT.replace("shutdown_timeout=20", "shutdown_timeout=0.2").replace(
        "client.flush(20)", "client.flush(0)"
    )
    with running([sys.executable, "-c", script, place, used], tmp_path, server, **spool) as program:
        assert program.wait() == EXIT_STATUS, program.text()
        assert "Traceback" not in program.text(), program.text()
    assert not server.triggers
    end(tmp_path, server, program)
    assert len(program.recorded()) == 3 + (used == "used")


@pytest.mark.parametrize("place", ["hook", "del of a module"])
def test_what_is_recorded_late_is_delivered_where_the_disk_takes_nothing(server, tmp_path, place):
    """The endpoint answers: a spool that cannot be used loses nothing at the end of a process either."""
    (tmp_path / "application.py").touch()
    (tmp_path / "file").touch()
    spool = {"FL_SPOOL_DIR": str(tmp_path / "file" / "spool"), "FL_ENDPOINT": server.endpoint}
    with running([sys.executable, "-c", RECORD_AT_EXIT, place, "used"], tmp_path, server, **spool) as program:
        assert program.wait() == EXIT_STATUS, program.text()
    received = Counter(trigger["object"] for trigger in server.triggers)
    assert received == program.recorded(), program.text()
    assert sum(received.values()) == 4


@pytest.mark.parametrize("endpoint", ["dead", "silent"])
def test_an_exit_while_nobody_answers(server, tmp_path, endpoint):
    """It takes little longer than shutdown_timeout, and the log says how many wait on disk."""
    script = f"""
client = spooled(**{endpoint} | dict(shutdown_timeout=1))
import logging; logging.basicConfig(level=logging.INFO)
for n in range(250):
    record(client, n)
started = time.monotonic()
"""
    # The hook that is registered first runs last.
    hook = """
import atexit, time
atexit.register(lambda: print("took", time.monotonic() - started, flush=True))
"""
    (tmp_path / "script.py").write_text(hook + BEGIN + SPOOL + DEAD + SILENT + script)
    with running([sys.executable, "script.py"], tmp_path, server) as program:
        assert program.wait() == 0, program.text()
    took = float(program.text().split("took ")[1].split()[0])
    assert took < 1 + 5  # a connection and an answer may take 13
    assert "250 triggers on disk" in program.text()
    end(tmp_path, server, program)


@pytest.mark.parametrize(
    ("way", "status"),
    [
        ("os._exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGTERM)", -15),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("os.abort()", -6),
        ("os.execv(sys.executable, [sys.executable, '-c', 'raise SystemExit(4)'])", 4),
    ],
    ids=["_exit", "SIGTERM", "SIGKILL", "abort", "execv"],
)
def test_an_end_without_exit_hooks(server, tmp_path, way, status):
    """A trigger recorded a moment before is there for the next process."""
    script = f"""
import faulthandler, resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
client = spooled(**dead)
for n in range(20):
    record(client, n)
{way}
"""
    program = ends(tmp_path, server, script, status)
    assert not server.triggers
    end(tmp_path, server, program)
    assert len(program.recorded()) == 20
    assert set(server.ids().values()) == {1}


def test_clients_of_one_process(server, tmp_path):
    """With the same settings they share a folder, with others they do not; one adopts what another has left."""
    script = """
one, same, other = spooled(**dead), spooled(**dead), spooled(flush_interval=60)
for n in range(10):
    record(one, f"one {n}"); record(same, f"same {n}"); record(other, f"other {n}")
assert len(folders(os.getpid())) == 2
assert other.flush(20) and other.stats().recovered == 0 and other.stats().delivered == 10
assert [s.queued + s.in_flight for s in (one.stats(), same.stats())] == [20, 20]
same.close(0)
assert other.flush(20) and other.stats().recovered == 0
one.close(0)
assert one.stats().queued == 20 and not one.stats().dropped
assert other.flush(20)
stats = other.stats()
assert (stats.recovered, stats.delivered, stats.recorded, stats.queued) == (20, 30, 10, 0), stats
assert one.record_trigger(1, "viewed", "closed") is False
record(spooled(**dead), "afresh")
"""
    program = run(tmp_path, server, SPOOL + DEAD + script)
    assert len(server.triggers) == 30
    end(tmp_path, server, program)
    assert set(server.ids().values()) == {1}
    assert Counter(name.split()[0] for name in program.recorded()) == {
        "one": 10,
        "same": 10,
        "other": 10,
        "afresh": 1,
    }
