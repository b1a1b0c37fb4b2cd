"""`spool_fsync`: when what was recorded has reached the disk itself, and what a disk that fails at it does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport
from tests.spool.disks import PAD, MakeClient, facts, logged, run_child
from tests.support.waiting import eventually

# Syncs are counted, and may fail. A file is known by its inode: each sync may use a descriptor of its own.
_COUNTING = """
from time import monotonic
synced, failing, real = [], [False], os.fdatasync
def fdatasync(descriptor):
    if failing[0]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    real(descriptor)
    synced.append((os.fstat(descriptor).st_ino, monotonic()))
os.fdatasync = fdatasync
def segments():
    return sorted(glob.glob(sys.argv[1] + "/*/0*[0-9]"))
"""


def _run(code: str, *arguments: object) -> list[dict[str, Any]]:
    return run_child(_COUNTING + code, *arguments)


def test_never_asks_for_no_sync(tmp_path: Path) -> None:
    """The default leaves it to the system: recording, rotating and closing never wait for the disk."""
    said = facts(
        _run(
            """
client = make(sys.argv[1], max_spool_bytes=2**20)
record(client, 300, 0, "x" * 1000)
client.close(0)
say(synced=len(synced), left=client.stats().queued)
""",
            tmp_path / "spool",
        )
    )
    assert said == {"synced": 0, "left": 300}


@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "written"])
def test_always_syncs_before_it_says_true(mapped: bool, tmp_path: Path) -> None:
    """Each True comes after a sync of the file that the trigger is in, also over many segments and threads."""
    said = facts(
        _run(
            """
if sys.argv[2] == "False":
    del os.posix_fallocate
client = make(sys.argv[1], spool_fsync="always", max_spool_bytes=2**20)
early = []
for n in range(200):
    before = len(synced)
    record(client, 1, n, "x" * 2000)
    if os.stat(segments()[-1]).st_ino not in [inode for inode, _ in synced[before:]]:
        early.append(n)
say(early=early, segments=len(segments()))
before = len(synced)
threads = [threading.Thread(target=record, args=(client, 20)) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
say(more=len(synced) - before)
client.close(0)
""",
            tmp_path / "spool",
            mapped,
        )
    )
    assert said["early"] == []
    assert said["segments"] > 3
    assert said["more"] >= 80


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace")
def test_always_is_a_system_call(tmp_path: Path) -> None:
    """The kernel sees it.

    As many calls of fdatasync as triggers, at least, before the process says that it is done.
    """
    code = (
        "import os, sys; from brockman.client import FocusLabClient as F;"
        "from brockman.transport.memory import MemoryTransport as M;"
        "c = F(api_key='x' * 32, spool_dir=sys.argv[1], spool_fsync='always', transport=M());"
        "[c.record_trigger('a', 'b', 'c') for _ in range(25)]; os.write(1, b'done'); c.close()"
    )
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=fdatasync,write", "-o", str(trace)]
    done = subprocess.run(
        [*command, sys.executable, "-c", code, str(tmp_path / "spool")],
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip("tracing is not allowed")
    assert done.stdout == "done", done.stderr
    before, said, _ = trace.read_text().partition('write(1, "done"')
    assert said
    assert before.count("fdatasync(") >= 25


def test_interval_syncs_in_time_while_the_endpoint_hangs(tmp_path: Path) -> None:
    """`interval`.

    What was recorded reaches the disk about half a second later, though no answer comes, in one sync.
    """
    said = facts(
        _run(
            """
hang = threading.Event()
class Hangs:
    def send(self, body, timeout=None):
        hang.wait()
        raise SystemExit
    def close(self):
        pass
client = make(sys.argv[1], spool_fsync="interval", transport=Hangs())
begun = monotonic()
record(client, 1)
until(lambda: client.stats().in_flight)
until(lambda: synced)
first = synced[0][1] - begun
count = len(synced)
begun = monotonic()
record(client, 500)
took = monotonic() - begun
until(lambda: len(synced) > count)
say(first=first, second=synced[count][1] - begun, took=took, idle=threading.active_count(),
    same=os.stat(segments()[0]).st_ino in [inode for inode, _ in synced[count:]])
until(lambda: threading.active_count() == 2)  # this one and the worker: none while nothing is recorded
count = len(synced)
record(client, 1)
before = monotonic()
hang.set()
client.close(0)
say(at_close=len(synced) - count)
""",
            tmp_path / "spool",
        )
    )
    assert 0.4 < said["first"] < 10
    assert said["second"] < 10
    assert said["same"]
    assert said["at_close"] >= 1


def test_interval_syncs_every_segment_that_was_written(tmp_path: Path) -> None:
    """A segment that was full before the half second was over is synced too."""
    said = facts(
        _run(
            """
client = make(sys.argv[1], spool_fsync="interval", max_spool_bytes=2**20)
record(client, 400, 0, "x" * 1000)
inodes = {os.stat(path).st_ino for path in segments()}
until(lambda: inodes <= {inode for inode, _ in synced})
say(segments=len(inodes))
client.close(0)
""",
            tmp_path / "spool",
        )
    )
    assert said["segments"] > 2


@pytest.mark.parametrize("policy", ["interval", "always"])
def test_a_sync_that_fails_is_logged_once_and_a_new_segment_is_begun(policy: str, tmp_path: Path) -> None:
    """EIO.

    Pages that failed once are not trusted again; nothing is counted twice, and all is delivered in the end.
    """
    lines = _run(
        """
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport
accepts = [False]
transport = MemoryTransport(lambda body: Answer(201 if accepts[0] else 503))
client = make(sys.argv[1], spool_fsync=sys.argv[2], transport=transport)
record(client, 10)
until(lambda: synced)
old = segments()[-1]
failing[0] = True
kept = 10 + record(client, 10, 10)
until(lambda: client.stats().spool_error)
say(error=client.stats().spool_error)
kept += record(client, 10, 20)
failing[0] = False
until(lambda: not client.stats().spool_error)
kept += record(client, 10, 30)
say(new=segments()[-1] != old, kept=kept, recorded=client.stats().recorded)
del transport.bodies[:]
accepts[0] = True
client.flush(20)
client.close()
found = sorted(trigger["variables"]["n"] for trigger in transport.triggers)
say(delivered=client.stats().delivered, dropped=client.stats().dropped, found=sorted(set(found)))
""",
        tmp_path / "spool",
        policy,
    )
    said = facts(lines)
    assert said["error"] == "Input/output error"
    assert said["new"]
    assert said["kept"] == said["recorded"] == said["delivered"] == 40
    assert said["dropped"] == {}
    assert said["found"] == list(range(40))
    assert len([line for line in logged(lines, "ERROR") if "Input/output error" in line]) == 1
    assert len([line for line in logged(lines, "ERROR") if "again after" in line]) == 1
    assert json.dumps(said)
    assert os.listdir(tmp_path / "spool") == []


def test_a_close_in_the_middle_of_a_sync(make_spooled: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """`interval`: closing while segments are being synced raises nothing, and reports no failing disk."""
    failed: list[object] = []
    before = threading.active_count()
    monkeypatch.setattr(threading, "excepthook", failed.append)
    slow, is_syncing, real = threading.Event(), threading.Event(), os.fdatasync

    def fdatasync(descriptor: int) -> None:
        is_syncing.set()
        if not slow.wait(0.05) and threading.current_thread() is threading.main_thread():
            slow.wait(0.05)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    client = make_spooled(spool_fsync="interval", transport=MemoryTransport(lambda body: Answer(503)))
    for _ in range(8000):
        client.record_trigger("a", "b", "c", variables={"pad": PAD})
    assert is_syncing.wait(20)
    client.close(0)
    assert eventually(lambda: threading.active_count() <= before)
    assert not failed
    assert client.stats().spool_error is None
