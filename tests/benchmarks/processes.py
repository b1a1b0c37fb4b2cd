"""Processes that benchmarks start, and what they use: time, CPU and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.support.postgresql import Postgresql
from tests.support.programs import environment

TICKS = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """Seconds that a run took: by the clock, of CPU in Python, and of CPU in PostgreSQL."""

    wall: float
    python: float
    engine: float


class Meter:
    """Measures from its creation to `stop`: this process, or others in its place."""

    def __init__(self, server: Postgresql | None = None, collectors: Sequence[int] = ()) -> None:
        self._server = server
        self._collectors = collectors
        self._begin = self._now()

    def stop(self) -> Cost:
        return Cost(*(now - then for now, then in zip(self._now(), self._begin, strict=True)))

    def _now(self) -> Cost:
        python = sum(map(cpu_of, self._collectors)) if self._collectors else time.process_time()
        return Cost(time.perf_counter(), python, sum(map(cpu_of, self._server.processes())) if self._server else 0)


def cpu_of(process: int) -> float:
    """Return the seconds of CPU that a process has used; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def precise_cpu_of(process: int) -> float:
    """Return the seconds of CPU that the threads of a process have used which still run, to the microsecond."""
    nanoseconds = 0
    for task in Path(f"/proc/{process}/task").glob("*/schedstat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            nanoseconds += int(task.read_text().split()[0])
    return nanoseconds / 1e9


def memory_of(process: int) -> int:
    """Return the resident bytes of a process now."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


class MemoryWatch:
    """The most memory that a process has at a time within a block, without what it had before the block."""

    def __init__(self, process: int) -> None:
        self.most = 0
        self._process = process
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.most = max(self.most, memory_of(self._process))
            if self._end.wait(0.01):
                return


class Collectors(NamedTuple):
    """Collectors that run."""

    processes: list[int]
    ports: list[int]

    def url(self, path: str = "/api/v1/") -> str:
        """Return an address at the first one."""
        return f"http://127.0.0.1:{self.ports[0]}{path}"


@contextmanager
def running_collectors(location: str, number: int = 1) -> Iterator[Collectors]:
    """Run collectors on a store without a key, each `brockman serve` as a user starts it."""
    command = [sys.executable, "-m", "brockman", "serve", "--port", "0", "--store", location]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(FL_API_KEY=""))
        for _ in range(number)
    ]
    try:
        lines = [process.stdout.readline() for process in processes if process.stdout is not None]
        ports = [urlsplit(line.removeprefix("listening on ").strip()).port or 0 for line in lines]
        yield Collectors([process.pid for process in processes], ports)
    finally:
        for process in processes:
            process.terminate()
            process.communicate()
