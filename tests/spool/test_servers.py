"""Web servers with a spool, killed with -9: what they took is delivered, once by its id, and nothing stays."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from brockman.buffer.spool.directory import SpoolDir
from brockman.buffer.spool.frame import RS
from brockman.buffer.spool.process_dir import open_process_dir, process_dir_names
from brockman.buffer.spool.segment import Segment, is_segment
from tests.servers.test_gunicorn import gunicorn, is_gone
from tests.servers.test_uwsgi import REQUESTS, uwsgi
from tests.spool.test_fork import deliver
from tests.support.endpoint import Endpoint
from tests.support.programs import Program, drive
from tests.support.server import RecordingServer, Reply, Request
from tests.support.waiting import eventually

KILLS = 12


def works_and_fails(server: RecordingServer) -> Endpoint:
    """Accept two requests of three, and none whose sender was killed in the middle of it."""
    count, lock = itertools.count(1), threading.Lock()

    def answer(request: Request) -> int:
        is_whole = len(request.body) == int(request.headers["content-length"])
        with lock:
            return 201 if is_whole and next(count) % 3 else 503

    return Endpoint(server, answer)


def empty_spool(folder: Path, server: RecordingServer, killed: int = 0) -> None:
    """Have another process deliver all that waits in the spool and has no owner; then the spool is empty.

    But for torn frames: a process that is killed while it copies a frame has not returned True for that trigger.
    """
    deliver(folder, server)
    assert {name for name in os.listdir(folder / "spool") if not name.startswith(".")} <= {"damaged"}
    torn = [file.read_bytes() for file in (folder / "spool").glob("damaged/*")]
    assert len(torn) <= killed
    assert all(frame.count(RS) <= 1 for frame in torn), torn


def waiting(path: Path, pid: int) -> int:
    """Return how many triggers of a process lie in a spool that it has not noted as settled."""
    spool, count = SpoolDir(str(path)), 0
    spool.open()
    for name in process_dir_names(spool):
        if name.startswith(f"{pid}-"):
            folder = open_process_dir(spool, name)
            for file in filter(is_segment, folder.names()):
                segment = Segment(folder, file)
                with suppress(FileNotFoundError):  # settled meanwhile
                    segment.load()
                    count += segment.count
                segment.close()
            folder.close()
    spool.close()
    return count


def assert_all_arrived(program: Program, endpoint: Endpoint, kills: int, batch: int) -> None:
    """Everything recorded arrives; twice only with the same id, and at most one batch for each kill."""
    recorded = program.recorded()
    received = Counter({trigger["id"]: trigger["object"] for trigger in endpoint.triggers}.values())
    assert recorded - received == Counter(), program.text()
    # A process may die between the record and its note of that.
    assert sum(received.values()) - sum(recorded.values()) <= kills * 4, received - recorded
    assert sum(endpoint.ids().values()) - len(endpoint.ids()) <= kills * batch


def test_gunicorn_whose_workers_are_killed(server: RecordingServer, tmp_path: Path) -> None:
    """--preload, a master that records too, kill -9 at random: all that was answered for arrives."""
    endpoint = works_and_fails(server)
    options = ["--worker-class=gthread", "--threads=4", "--preload"]
    spool = {"FL_SPOOL_DIR": str(tmp_path / "spool"), "FL_MAX_BATCH_SIZE": "50", "FL_FLUSH_INTERVAL": "0.05"}
    moment = random.Random()
    with gunicorn(tmp_path, server, *options, **spool, FL_BACKOFF_BASE="0.01", FL_BACKOFF_CAP="0.05") as site:

        def alive() -> list[int]:
            return [pid for pid in site.booted() if not is_gone(pid)]

        def kill() -> None:
            for _ in range(KILLS):
                seen = len(site.started.truth.read_bytes())
                more = moment.randrange(1000)
                assert eventually(lambda: alive() and len(site.started.truth.read_bytes()) > seen + more)  # noqa: B023
                victim = moment.choice(alive())
                os.kill(victim, signal.SIGKILL)
                assert eventually(lambda: is_gone(victim))  # noqa: B023

        killer = threading.Thread(target=kill, name="killer")
        killer.start()
        answered, start = 0, 0
        while killer.is_alive():
            answered += drive(site.port, 500, start)
            start += 500
        killer.join()
        assert answered == start
        assert eventually(lambda: len(site.booted()) >= 2 + KILLS)  # the last one is replaced by now
        assert site.started.stop() == 0
    empty_spool(tmp_path, server, KILLS)
    assert {str(number) for number in range(start)} <= set(site.started.recorded())
    assert_all_arrived(site.started, endpoint, KILLS, 50)
    assert site.imports() == {site.started.process.pid: 2}


def test_gunicorn_that_is_killed_as_a_whole(server: RecordingServer, tmp_path: Path) -> None:
    """While the endpoint is away, master and workers die at once: the next start delivers what all left."""
    server.respond = lambda request: Reply(503)
    spool = {"FL_SPOOL_DIR": str(tmp_path / "spool"), "FL_FLUSH_INTERVAL": "0.05"}
    with gunicorn(tmp_path, server, "--preload", **spool) as site:
        site.drive(200)
        site.started.kill()
    assert len(os.listdir(tmp_path / "spool")) >= 3
    endpoint = Endpoint(server)
    empty_spool(tmp_path, server)
    assert_all_arrived(site.started, endpoint, 0, 0)
    assert site.imports() == {site.started.process.pid: 2}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("old", [False, True], ids=["new", "without threads"])
@pytest.mark.parametrize("switches", ["", "--py-call-uwsgi-fork-hooks"])
def test_the_first_worker_of_uwsgi_takes_over(
    server: RecordingServer, tmp_path: Path, switches: str, old: bool
) -> None:
    """Triggers of the master arrive once; no worker holds a file of the master's; nothing stays on disk.

    Then a worker is killed, and what it left is delivered once by the others.
    """
    spool = {"FL_SPOOL_DIR": str(tmp_path / "spool"), "FL_FLUSH_INTERVAL": "0.05", "AT_IMPORT": "300"}
    switches += "" if old else " --enable-threads"
    with uwsgi(tmp_path, server, *switches.split(), old=old, **spool) as here:
        here.drive(REQUESTS)
        master = f"/{here.running.process.pid}-"
        for worker in here.workers():
            names = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{worker['pid']}/fd")]
            assert not [name for name in names if master in name]
        killed = here.workers()[0]["pid"]

        def came() -> bool:
            drive(here.port, 2, path="/quiet")  # without threads, they leave when a request ends
            return len(server.triggers) >= 300 + REQUESTS and not waiting(tmp_path / "spool", killed)

        assert eventually(came), here.running.text()
        os.kill(killed, signal.SIGKILL)
        assert eventually(lambda: here.are_ready() and killed not in [w["pid"] for w in here.workers()])
        here.drive(REQUESTS, start=REQUESTS)
        here.stop()
    empty_spool(tmp_path, server)
    assert set(server.ids().values()) == {1}
    received = Counter(trigger["object"] for trigger in server.triggers)
    assert received == here.running.recorded()
    assert sum(received.values()) == 300 + 2 * REQUESTS
