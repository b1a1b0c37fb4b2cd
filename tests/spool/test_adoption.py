"""Adoption of the triggers of processes that are gone: how long it may take, and what it leaves to the program."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from brockman.process.clock import monotonic
from tests.spool.disks import MakeClient


def test_a_flush_keeps_to_its_time_while_another_one_looks(
    make_spooled: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`timeout` holds too while another thread counts what it adopts, on a disk that does not answer."""
    client = make_spooled()
    looks, goes_on, real = threading.Event(), threading.Event(), os.listdir

    def listdir(path: Any) -> list[str]:
        if threading.current_thread() is not threading.main_thread():
            looks.set()
            goes_on.wait(20)
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    other = threading.Thread(target=client.flush)
    other.start()
    assert looks.wait(20)
    begun = monotonic()
    client.flush(0.1)
    took = monotonic() - begun
    goes_on.set()
    other.join()
    assert took < 10


def test_an_event_loop_goes_on_while_an_aflush_looks(
    make_spooled: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`aflush` counts what it adopts in a thread, and does not block the loop."""
    client = make_spooled()
    loops, real = [], os.listdir

    def listdir(path: Any) -> list[str]:
        loops.append(asyncio._get_running_loop())
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    asyncio.run(client.aflush(20))
    assert loops
    assert not any(loops)


def test_adoption_leaves_descriptors_to_the_program(tmp_path: Path) -> None:
    """Many processes have left something, and descriptors are few: the program can still open its own files."""
    spool = tmp_path / "spool"
    code = """
import os, resource, sys
from brockman.client import FocusLabClient
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport
spool = sys.argv[1]
def make():
    return FocusLabClient("k", spool_dir=spool, transport=MemoryTransport(lambda body: Answer(503)))
for _ in range(100):
    client = make()
    client.record_trigger("a", "b", "c")
    client.close(0)
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
client = make()
assert client.record_trigger("a", "b", "c")
client.flush(1)
assert client.stats().recovered
files = [open("/dev/null") for _ in range(64)]
for file in files:
    file.close()
print("opened", len(files))
client.close(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(spool)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "opened 64\n", done.stderr
