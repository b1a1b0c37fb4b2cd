"""A program that starts processes which record into a spool, and kills them. Run as a child of the tests.

It has imported everything, and forks: a process is there in a few milliseconds. On its standard input come `start`
with a `Task` as JSON, which it answers with a process id, and `kill PID` and `wait PID`, which it answers with how
the process ended: by a signal, as a number below zero, or with an exit status.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from brockman.buffer.spool.buffer import SpoolBuffer
from brockman.client import FocusLabClient
from tests.spool import kill_points

LONGEST_LIFE = 120  # seconds; a process that hangs ends by SIGALRM
MAX_BATCH = 50
KEY = "da9dcaa0364541498d4ae6b4865cf395"
THREADS = 8  # at most; each process has this many places in the report
BROKEN = 0  # where the report says how often the counts of a process were wrong
_FIRST = 8
_BURST = 3


@dataclass(frozen=True)
class Task:
    """The task of a process. Its `number` is its own among all that use the report.

    Attributes:
        work: "record", which goes on until it is killed, or "live", which has an end.
        threads: How many record.
        segment_bytes: Small, so that segments are begun and removed all the time.
        is_mapped: Whether files may be mapped into memory.
        point: For "live": where it is to die, see `kill_points`; empty for nowhere.
        nth: At which time that it comes there.
        points: A file for the points that it came to, and how often.
    """

    number: int
    endpoint: str
    spool_dir: str
    report: str
    work: str = "record"
    threads: int = 1
    segment_bytes: int = 16 * 1024
    is_mapped: bool = True
    point: str = ""
    nth: int = 1
    points: str = ""


def place_of(number: int, thread: int) -> int:
    """Return where in the report a thread of a process says how many of its triggers were taken."""
    return _FIRST + number * THREADS + thread


def open_report(path: str) -> memoryview:
    """Return the numbers in a file that is mapped, so that they outlive the process."""
    with open(path, "r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("I")  # one store each: none is ever half written


def record(client: FocusLabClient, report: memoryview, place: int, count: int) -> None:
    """Record a number of triggers, and report each that was taken before the next."""
    for _ in range(count):
        number = report[place]
        if client.record_trigger(str(place), "viewed", "page", variables={"n": number}):
            report[place] = number + 1


def _record_until_killed(task: Task, client: FocusLabClient, report: memoryview) -> None:
    tick = threading.Event()  # of load: nobody waits for anything
    places = [place_of(task.number, thread) for thread in range(task.threads)]

    def run(place: int) -> None:
        while True:
            record(client, report, place, _BURST)
            tick.wait(random.random() * 0.01)

    for place in places:
        threading.Thread(target=run, args=(place,), daemon=True).start()
    while True:
        before = sum(report[place] for place in places)
        s = client.stats()
        after = sum(report[place] for place in places) + len(places)  # those that are taken and not reported yet
        counted = s.delivered + s.rejected + sum(s.dropped.values()) + s.queued + s.in_flight
        if s.recorded + s.recovered != counted or not before <= s.recorded <= after:
            report[BROKEN] += 1
        tick.wait(0.005)


def _live(task: Task, client: FocusLabClient, report: memoryview) -> None:
    place = place_of(task.number, 0)
    client.flush(60)  # takes over what others have left
    for _ in range(3):  # the second time into another segment
        record(client, report, place, 11)
        client.flush(60)
    client.close(60)


def _run(task: Task) -> None:
    report = open_report(task.report)
    SpoolBuffer.segment_bytes = task.segment_bytes
    if not task.is_mapped:
        del os.posix_fallocate
    points = kill_points.Points(task.point, task.nth)
    if task.work == "live":
        points.install()
    client = FocusLabClient(
        KEY,
        endpoint=task.endpoint,
        spool_dir=task.spool_dir,
        max_batch_size=MAX_BATCH if task.work == "record" else 4,
        flush_interval=0.005,
        backoff_base=0.002,
        backoff_cap=0.01,
    )
    work: dict[str, Callable[[Task, FocusLabClient, memoryview], None]]
    work = {"record": _record_until_killed, "live": _live}
    work[task.work](task, client, report)
    if task.points:
        with open(task.points, "w", encoding="utf-8") as file:
            json.dump(points.seen, file)


def _start(task: Task) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.alarm(LONGEST_LIFE)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        _run(task)
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def main() -> None:
    """Do what comes in by lines, until there are no more."""
    alive: set[int] = set()
    for line in sys.stdin:
        command, _, rest = line.partition(" ")
        if command == "start":
            pid = _start(Task(**json.loads(rest)))
            alive.add(pid)
            answer = pid
        else:
            pid = int(rest)
            if command == "kill":
                os.kill(pid, signal.SIGKILL)
            answer = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            alive.discard(pid)
        print(answer, flush=True)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def line_of(task: Task) -> str:
    """Return the line that has a process started."""
    return f"start {json.dumps(dataclasses.asdict(task))}\n"


if __name__ == "__main__":
    main()
