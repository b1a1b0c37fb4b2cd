"""Parts of the tests of a failing disk: small file systems, children of other users, threads that count."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from brockman.client import FocusLabClient
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport

NOBODY = 65534
MakeClient = Callable[..., FocusLabClient]
PAD = "x" * 1000  # so that little recording fills much disk

# What a child begins with: a client whose endpoint is away, unless it says otherwise; its log as JSON.
_PREAMBLE = """
import errno, glob, json, logging, os, resource, shutil, sys, threading
heard = []
class Lines(logging.Handler):
    def emit(self, record):
        heard.append(record.levelname)
        say(level=record.levelname, line=record.getMessage())
logging.getLogger("brockman").addHandler(Lines())
logging.getLogger("brockman").setLevel("INFO")
def say(**facts):
    os.write(1, json.dumps(facts).encode() + b"\\n")  # at once: threads speak too
def make(spool, **more):
    from brockman.client import FocusLabClient
    from brockman.transport.memory import MemoryTransport
    from brockman.transport import Answer
    settings = dict(api_key="da9dcaa0364541498d4ae6b4865cf395", flush_interval=0.02, backoff_base=0.01,
                    backoff_cap=0.05, spool_dir=spool, transport=MemoryTransport(lambda body: Answer(503)))
    return FocusLabClient(**{**settings, **more})
def become(uid):
    # perhaps not to be read by that user
    import brockman.buffer.spool.buffer
    make(None).close()
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
def record(client, count, start=0, pad=""):
    return sum(client.record_trigger("a", "b", "c", variables={"n": n, "pad": pad})
               for n in range(start, start + count))
def until(condition, seconds=20.0):
    import time
    end, tick = time.monotonic() + seconds, threading.Event()
    while not condition():
        assert time.monotonic() < end
        tick.wait(0.005)
"""


@contextmanager
def mounted(kind: str, path: Path, options: str = "") -> Iterator[Path]:
    """Mount a file system for the length of a block; skip the test where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    path.mkdir(exist_ok=True)
    command = ["mount", "-t", kind, *(["-o", options] if options else []), kind, str(path)]
    mount = subprocess.run(command, capture_output=True, text=True, check=False)
    if mount.returncode:
        pytest.skip(f"{kind} cannot be mounted: {mount.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def run_child(code: str, *arguments: object, uid: int | None = None) -> list[dict[str, Any]]:
    """Run code in a process of its own, also as another user; return the lines it wrote, each a JSON object."""
    code = textwrap.dedent(code) if uid is None else f"become({uid})\n{textwrap.dedent(code)}"
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", _PREAMBLE + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def facts(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a child said, apart from its log."""
    return {name: value for line in lines if "level" not in line for name, value in line.items()}


def logged(lines: list[dict[str, Any]], level: str) -> list[str]:
    """Return what a child wrote on its log at a level."""
    return [line["line"] for line in lines if line.get("level") == level]


def log_lines(caplog: pytest.LogCaptureFixture, text: str, level: int = logging.NOTSET) -> list[str]:
    """Return the lines of the log of this process that hold a text."""
    return [r.getMessage() for r in caplog.records if text in r.getMessage() and r.levelno >= level]


class Producers:
    """Threads that record until they are stopped, and remember which trigger was answered by True."""

    def __init__(self, client: FocusLabClient, threads: int, pad: str = PAD) -> None:
        self.kept: list[list[int]] = [[] for _ in range(threads)]
        self.tried = [0] * threads
        self._client = client
        self._pad = pad
        self._stopped = threading.Event()
        self._pause = 0.0
        self._threads = [threading.Thread(target=self._run, args=(t,), daemon=True) for t in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self, thread: int) -> None:
        number = thread * 10_000_000
        while not self._stopped.wait(self._pause):
            number += 1
            self.tried[thread] += 1
            if self._client.record_trigger("a", "b", "c", variables={"n": number, "pad": self._pad}):
                self.kept[thread].append(number)

    def slow_down(self, seconds: float) -> None:
        """Have each thread wait so long between two triggers."""
        self._pause = seconds

    @property
    def count(self) -> int:
        """How many were answered by True."""
        return sum(map(len, self.kept))

    def stop(self) -> set[int]:
        """End the threads, and return what was answered by True."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()
        return {number for numbers in self.kept for number in numbers}

    def check_law(self) -> None:
        """Hold the counts of the client against what the threads saw, while they go on."""
        kept = self.count
        stats = self._client.stats()
        tried = sum(self.tried)
        dropped = sum(stats.dropped.values())
        assert stats.recorded == stats.delivered + stats.rejected + dropped + stats.queued + stats.in_flight
        assert kept + dropped <= tried
        assert kept <= stats.recorded - dropped
        assert stats.recorded <= tried


def away() -> MemoryTransport:
    """Return what is away at once: no attempt is on its way any more when a client is closed."""
    return MemoryTransport(lambda body: Answer(503))


def is_settled(client: FocusLabClient, recorded: int = 0) -> bool:
    """Return whether everything is settled, and the law holds for what the caller has recorded."""
    s = client.stats()
    done = s.delivered + s.rejected + sum(s.dropped.values())
    return recorded + s.recovered == done and s.queued == s.in_flight == 0


def files_in(folder: Path) -> list[Path]:
    """Return all files in a spool that are there at the moment."""
    return [path for path in folder.rglob("*") if not path.is_dir()]


def open_below(folder: Path) -> int:
    """Return how many descriptors this process has open of what is or was in a folder."""
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile
            found += os.readlink(f"/proc/self/fd/{descriptor}").startswith(f"{folder}/")
    return found


def fill(path: Path) -> None:
    """Leave no room on the file system of a file."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (65536, 4096):
            with suppress(OSError):
                while file.write(b"\1" * size):
                    pass
