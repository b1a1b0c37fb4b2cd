"""Processes that record into one spool and are killed: which are running, what each has recorded, and what has
arrived of each.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.spool.recording_process import BROKEN, THREADS, Task, line_of, open_report, place_of
from tests.support.server import Reply, Request, reset

_REPORT_BYTES = 4 * 1024 * 1024  # a hole, but for what is written
Arrived = tuple[int, int]  # the place in the report of the thread that recorded a trigger, and its number there


class Arrivals:
    """Answers the requests that it accepts with 201, and knows which process each trigger came from.

    That is in the path of the process's endpoint.
    """

    def __init__(self) -> None:
        self.accepted: list[tuple[int, list[Arrived]]] = []
        self.ids: dict[Arrived, set[str]] = defaultdict(set)
        self.trouble: Callable[[], Reply | None] = lambda: None  # answers instead, and nothing is accepted then

    def __call__(self, request: Request) -> Reply:
        if len(request.body) < int(request.headers["content-length"]):  # killed while it sent
            return Reply(act=reset)
        trouble = self.trouble()
        if trouble is not None:
            return trouble
        came = [((int(one["actor_id"]), int(one["variables"]["n"])), one["id"]) for one in request.triggers]
        for arrived, trigger_id in came:
            self.ids[arrived].add(trigger_id)
        self.accepted.append((int(request.path.split("/")[1]), [arrived for arrived, _ in came]))
        return Reply()

    def of(self, number: int) -> list[list[Arrived]]:
        """Return the batches that came from a process."""
        return [batch for sender, batch in self.accepted if sender == number]


class Processes:
    """Starts and kills processes by way of `tests.spool.recording_process`."""

    def __init__(self, folder: Path, server_url: str) -> None:
        self.spool = folder / "spool"
        self.started = 0
        self.dead: list[int] = []  # numbers, in the order in which they died
        self._url = server_url
        self._pids: dict[int, int] = {}
        self._errors = folder / "errors"
        self._report_path = folder / "report"
        self._report_path.write_bytes(b"")
        with self._report_path.open("r+b") as file:
            file.truncate(_REPORT_BYTES)
        self._report = open_report(str(self._report_path))
        with self._errors.open("wb") as errors:
            self._program = subprocess.Popen(
                [sys.executable, "-m", "tests.spool.recording_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def endpoint(self, number: int) -> str:
        """Return the endpoint for a process, which the server knows it by."""
        return f"{self._url}/{number}/api/v1/"

    def reserve(self) -> int:
        """Return a number that no process has."""
        self.started += 1
        return self.started - 1

    def start(self, **task: Any) -> int:
        """Start a process; return its number."""
        number = self.reserve()
        asked = Task(number, self.endpoint(number), str(self.spool), str(self._report_path))
        self._pids[number] = self._ask(line_of(replace(asked, **task)))
        return number

    def kill(self, number: int) -> int:
        """Kill a process at once, and return how it ended."""
        return self._end("kill", number)

    def wait(self, number: int) -> int:
        """Wait for the end of a process, and return how it ended."""
        return self._end("wait", number)

    def _end(self, how: str, number: int) -> int:
        status = self._ask(f"{how} {self._pids.pop(number)}\n")
        if status:  # else it has closed its client
            self.dead.append(number)
        return status

    def _ask(self, line: str) -> int:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(line)
        self._program.stdin.flush()
        return int(self._program.stdout.readline())

    def taken(self, number: int, thread: int = 0) -> int:
        """Return of how many triggers of a thread `record_trigger` has returned True."""
        return self._report[place_of(number, thread)]

    @property
    def miscounts(self) -> int:
        """How often the counts of a process were not what it had recorded."""
        return self._report[BROKEN]

    @property
    def errors(self) -> str:
        """The standard error of the processes."""
        return self._errors.read_text(errors="replace")

    def stop(self) -> None:
        """Kill what still lives."""
        self._program.communicate(timeout=30)

    def check_arrived(self, arrivals: Arrivals, since: int = 0) -> None:
        """Fail unless what the processes from a number on have recorded has arrived, and nothing else."""
        places = {
            place_of(number, thread): self.taken(number, thread)
            for number in range(since, self.started)
            for thread in range(THREADS)
        }
        arrived = arrivals.ids.keys()
        lost = [(place, n) for place, count in places.items() for n in range(count) if (place, n) not in arrived]
        assert not lost, f"{len(lost)} were lost, {lost[:5]} among them"
        # Of each thread one may have been recorded, and the process killed before that was reported.
        unknown = [(place, n) for place, n in arrived if n > places[place]]
        assert not unknown, f"never recorded: {unknown[:5]}"
        assert all(len(ids) == 1 for ids in arrivals.ids.values())

    def check_twice(self, arrivals: Arrivals) -> int:
        """Fail if more was sent again than the last batch of one that was killed; return how many were."""
        senders: dict[Arrived, list[int]] = defaultdict(list)
        last: dict[tuple[int, int], int] = {}
        for sender, batch in arrivals.accepted:
            for arrived in batch:
                place, n = arrived
                assert last.get((sender, place), -1) < n, f"{sender} has sent {arrived} again, or out of order"
                last[sender, place] = n
                senders[arrived].append(sender)
        died = {number: order for order, number in enumerate(self.dead)}
        again: dict[int, set[Arrived]] = defaultdict(set)  # by the process that had sent it before, and was killed
        for arrived, several in senders.items():
            for sender in sorted(several, key=lambda number: died.get(number, len(died)))[:-1]:
                again[sender].add(arrived)
        for sender, sent in again.items():
            assert sender in died, f"{sender} was not killed, and {len(sent)} of its triggers were sent again"
            assert sent <= set(arrivals.of(sender)[-1]), f"more than the last batch of {sender} was sent again"
        return sum(map(len, again.values()))


@contextmanager
def start_processes(folder: Path, server_url: str) -> Iterator[Processes]:
    """Have processes for the length of a block."""
    started = Processes(folder, server_url)
    try:
        yield started
    finally:
        started.stop()


def points_of(path: Path) -> dict[str, int]:
    """Return the points that a process came to, and how often."""
    return dict(json.loads(path.read_text()))
