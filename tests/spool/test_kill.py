"""`kill -9`, at any moment: what `record_trigger` returned True for arrives, and little of it twice."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from brockman.client import FocusLabClient
from brockman.stats import Stats
from tests.spool.processes import Arrivals, Processes, points_of, start_processes
from tests.support.server import RecordingServer, Reply
from tests.support.waiting import eventually

KILLS = 100
LIFE = 0.04  # seconds from the start of a process until it is killed, on average; some live much longer
SECONDS = float(os.environ.get("SPOOL_KILL_SECONDS", "5"))
IN_A_ROW = 3  # times that a process dies at the same point
# Where a process must be able to die; where else it can is found out. All are in `kill_points`.
NAMED = {
    *(
        "after mkdir hidden folder",
        "before rename hidden folder",
        "after rename hidden folder",
    ),  # a folder is made
    *("before send", "after send"),  # taken, sent
    *("before pwrite acknowledgement", "after pwrite acknowledgement"),
    *("before unlink segment", "after unlink segment", "after unlink acknowledgement"),
    *("before ftruncate", "after ftruncate"),  # another segment has been begun
    *("before flock", "after flock", "after pread"),  # adopted, when there is something to adopt
    *("after rename folder", "after unlink lock", "after rmdir hidden folder"),  # a folder is removed
}
MAPPED = {"before posix_fallocate", "after posix_fallocate", "amid copy frame", "after copy frame"}
WRITTEN = {"after pwrite header", "amid pwrite frame", "after pwrite frame"}
TORN_FRAME = {"amid copy frame", "amid pwrite frame"}
TORN_ACKNOWLEDGEMENT = "amid pwrite acknowledgement"  # nothing is lost then, but much may be sent again
MakeClient = Callable[..., FocusLabClient]


@pytest.fixture
def processes(server: RecordingServer, tmp_path: Path) -> Iterator[Processes]:
    with start_processes(tmp_path, f"http://127.0.0.1:{server.port}") as started:
        yield started


def _hang(server: RecordingServer, connection: socket.socket) -> None:
    connection.settimeout(0.02)
    connection.recv(1)


def works_fails_and_hangs() -> Callable[[], Reply | None]:
    """Return what gives a server's trouble: none for a while, then failures, then silence, and so on."""
    turns = itertools.cycle([None] * 15 + [Reply(503)] * 2 + [Reply(act=_hang)] * 2)
    return lambda: next(turns)


def finish(processes: Processes, make_client: MakeClient, arrivals: Arrivals) -> Stats:
    """Deliver what is left as the next process does, compare its counts with what came, and see the spool empty.

    A directory that a process was creating or removing when it died is hidden, and removed after a minute.
    """
    number = processes.reserve()
    client = make_client(spool_dir=str(processes.spool), endpoint=processes.endpoint(number))
    for hidden in processes.spool.glob(".*"):
        os.utime(hidden, (0, 0))
    # More than once: not all of these directories are adopted at once.
    assert eventually(lambda: bool(client.flush(60)) and set(os.listdir(processes.spool)) <= {"damaged"}, 60)
    client.close()
    s = client.stats()
    assert s.recovered == s.delivered + s.dropped.get("damaged", 0)
    assert s.delivered == sum(map(len, arrivals.of(number)))
    assert (s.recorded, s.rejected, s.queued, s.in_flight, s.spool_error) == (0, 0, 0, 0, None)
    assert s.dropped.keys() <= {"damaged"}
    return s


def check_all(processes: Processes, make_client: MakeClient, arrivals: Arrivals, threads: int) -> None:
    """Deliver what killed processes have left: all of it arrives, little twice, and their counts are right."""
    killed = processes.started
    s = finish(processes, make_client, arrivals)
    processes.check_arrived(arrivals)
    twice = processes.check_twice(arrivals)
    assert processes.miscounts == 0
    assert "Traceback" not in processes.errors
    taken = sum(processes.taken(number, thread) for number in range(killed) for thread in range(threads))
    assert s.delivered < taken, "they only record, and deliver nothing"
    print(f"{killed} killed, {taken} triggers were taken, {twice} came twice; {s}")


def test_what_was_taken_survives_100_kills(
    processes: Processes, server: RecordingServer, make_client: MakeClient
) -> None:
    """Eight threads record while the endpoint works, fails and hangs, and the process is killed at any moment,
    again and again: each trigger for which `record_trigger` returned True arrives, what arrives twice is at most
    the last batch of a process that was killed, and none dies of what another one has left.
    """
    server.respond = arrivals = Arrivals()
    arrivals.trouble = works_fails_and_hangs()
    moment = threading.Event()  # nobody sets it
    for life in range(KILLS):
        number = processes.start(threads=8, is_mapped=random.random() < 0.7)
        if life % 5 == 0:  # else a slow machine might let none of them come that far
            assert eventually(lambda: arrivals.of(number))  # noqa: B023
        moment.wait(random.expovariate(1 / LIFE))
        assert processes.kill(number) == -signal.SIGKILL
    check_all(processes, make_client, arrivals, threads=8)


def test_processes_that_share_a_spool_are_killed_and_started(
    processes: Processes, server: RecordingServer, make_client: MakeClient
) -> None:
    """Eight processes record into one spool; now one, now another is killed, and a new one started in its place:
    what it has left is taken over by exactly one of those that live, and no trigger is lost.
    """
    server.respond = arrivals = Arrivals()
    arrivals.trouble = works_fails_and_hangs()
    moment = threading.Event()  # nobody sets it
    alive = [processes.start(threads=2) for _ in range(8)]
    assert eventually(lambda: arrivals.accepted)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        moment.wait(random.expovariate(1 / LIFE))
        which = random.randrange(8)
        assert processes.kill(alive[which]) == -signal.SIGKILL
        alive[which] = processes.start(threads=2)
    for number in alive:
        assert processes.kill(number) == -signal.SIGKILL
    arrivals.trouble = lambda: None
    check_all(processes, make_client, arrivals, threads=2)


@pytest.mark.parametrize("is_mapped", [True, False], ids=["mapped", "written"])
def test_dying_at_any_point(
    processes: Processes, server: RecordingServer, make_client: MakeClient, tmp_path: Path, is_mapped: bool
) -> None:
    """Wherever a process dies, also when the next ones die there as well, the one after them delivers everything:
    none is kept from starting, and torn frames are counted and kept in the quarantine.
    """
    life = {"work": "live", "segment_bytes": 4096, "is_mapped": is_mapped}
    server.respond = Arrivals()
    assert processes.wait(processes.start(**life, points=str(tmp_path / "points"))) == 0
    points = points_of(tmp_path / "points")
    assert points.keys() >= NAMED | (MAPPED if is_mapped else WRITTEN)
    for point, times in points.items():
        if not is_mapped and "pwrite" not in point:  # the same as with mapped files
            continue
        for nth, deaths in {times: 1, times // 2 + 1: 1, 1: IN_A_ROW}.items():
            server.respond = arrivals = Arrivals()
            first = processes.started
            ends = [processes.wait(processes.start(**life, point=point, nth=nth)) for _ in range(deaths)]
            assert set(ends) == {-signal.SIGKILL} or nth > 1  # how often it comes there is not always the same
            print(nth, point, ends)  # seen when it fails
            s = finish(processes, make_client, arrivals)
            processes.check_arrived(arrivals, first)
            if point != TORN_ACKNOWLEDGEMENT:
                processes.check_twice(arrivals)
            if point in TORN_FRAME and nth == 1:
                assert s.dropped == {"damaged": 1}  # the others were counted by who died next
                kept = [file.stat().st_size for file in (processes.spool / "damaged").iterdir()]
                assert len(kept) == IN_A_ROW
                assert max(kept) < 1000  # the torn frame, without the room behind it
            shutil.rmtree(processes.spool / "damaged", ignore_errors=True)
    assert "Traceback" not in processes.errors
