"""Errors of the system: each is logged once, and triggers wait in memory until it is gone."""

from __future__ import annotations

import errno
import gc
import os
import resource
import threading
from pathlib import Path
from typing import Any

import pytest

from brockman.buffer.spool.buffer import SpoolBuffer
from brockman.client import FocusLabClient
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport
from tests.spool.disks import NOBODY, MakeClient, facts, fill, logged, mounted, run_child
from tests.support.client import KEY
from tests.support.waiting import eventually

# Records while the spool fails, says what became of it, has it work again where that can be, and says that too.
_FAILS = """
client = make(sys.argv[1])
kept = record(client, 20)
until(lambda: client.stats().spool_error)
error = client.stats().spool_error
kept += record(client, 20, 20)
stats = client.stats()
say(error=error, kept=kept, waiting=stats.queued + stats.in_flight, recorded=stats.recorded)
client.close(0)
say(dropped=client.stats().dropped, total=client.stats().recorded)
"""


@pytest.fixture
def open_path(tmp_path: Path) -> Path:
    """A folder of another user, who may get to it."""
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o011)
    mine = tmp_path / "mine"
    mine.mkdir()
    if os.geteuid() == 0:
        os.chown(mine, NOBODY, NOBODY)
    return mine


def _fails(path: object, *, error: str, uid: int | None = None) -> None:
    lines = run_child(_FAILS, path, uid=uid)
    said = facts(lines)
    assert error in said["error"]
    assert said["kept"] == said["waiting"] == said["recorded"] == said["total"] == 40
    assert said["dropped"] == {"shutdown": 40}
    errors = [line for line in logged(lines, "ERROR") if str(path) in line]
    assert len(errors) == 1
    assert error in errors[0]
    assert [line for line in logged(lines, "WARNING") if "spool" in line] == []


def test_a_read_only_mount(tmp_path: Path) -> None:
    """A spool on a file system that is mounted to be read only: triggers wait in memory, and one line says why."""
    with mounted("tmpfs", tmp_path / "disk", "size=4m,mode=700,ro") as disk:
        _fails(disk, error="Read-only file system; name a folder on a disk that can be written")
        _fails(disk / "spool", error="Read-only file system")


def test_a_full_disk(tmp_path: Path) -> None:
    """A disk without room for the first folder."""
    with mounted("tmpfs", tmp_path / "disk", "size=64k,mode=700") as disk:
        fill(disk / "foreign")
        _fails(disk / "spool", error="No space left on device; make room on that disk")


def test_no_inodes(tmp_path: Path) -> None:
    """A disk that takes no more files."""
    with mounted("tmpfs", tmp_path / "disk", "size=4m,mode=700,nr_inodes=3") as disk:
        _fails(disk / "spool", error="No space left on device")


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    """A path that names a file."""
    (tmp_path / "file").touch()
    _fails(tmp_path / "file", error="Not a directory")
    _fails(tmp_path / "file" / "spool", error="Not a directory")


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    """A name longer than file systems take."""
    _fails(tmp_path / ("x" * 300), error="File name too long")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_folder_without_permission(open_path: Path) -> None:
    """A folder that this user may not make, not enter, or not write into."""
    shut = open_path / "shut"
    shut.mkdir()
    _fails(shut / "spool", error="Permission denied; let this user write there", uid=NOBODY)
    os.chown(shut, NOBODY, NOBODY)
    shut.chmod(0o500)
    _fails(shut, error="Permission denied", uid=NOBODY)
    shut.chmod(0)
    _fails(shut, error="Permission denied", uid=NOBODY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_permission_that_is_taken_away_and_given_back(open_path: Path) -> None:
    """chmod while triggers are recorded.

    To memory, and by itself to disk again, without a loss or a second count.
    """
    lines = run_child(
        """
        client = make(sys.argv[1], max_spool_bytes=2**20)
        record(client, 10)
        os.chmod(glob.glob(sys.argv[1] + "/*-*")[0], 0)
        kept = 10
        while not client.stats().spool_error:
            kept += record(client, 10, kept, "x" * 1000)
        kept += record(client, 10, kept)
        say(error=client.stats().spool_error)
        os.chmod(glob.glob(sys.argv[1] + "/*-*")[0], 0o700)
        until(lambda: not client.stats().spool_error)
        client.close(0)
        say(kept=kept, recorded=client.stats().recorded, dropped=client.stats().dropped,
            left=client.stats().queued)
        """,
        open_path / "spool",
        uid=NOBODY,
    )
    said = facts(lines)
    assert "Permission denied" in said["error"]
    assert said["kept"] == said["recorded"] == said["left"]
    assert said["dropped"] == {}
    begun, ended = logged(lines, "ERROR")
    assert "cannot write to" in begun
    assert "again after" in ended


def test_too_many_open_files(tmp_path: Path) -> None:
    """No descriptor is left.

    Triggers wait in memory, and no litter is left of the attempts; then to disk by itself.
    """
    spool = tmp_path / "spool"
    lines = run_child(
        """
        client = make(sys.argv[1])
        record(client, 1)
        client.close(0)
        client = make(sys.argv[1], max_queue_size=200)
        spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(1)]
        from brockman.buffer.spool.fallback import DiskState
        DiskState.cooldown = 0.0  # each trigger tries
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        try:
            while True:
                spare.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        kept = record(client, 20)
        until(lambda: client.stats().spool_error)
        say(error=client.stats().spool_error)
        until(lambda: "ERROR" in heard)  # else it might be over before it was logged
        for free in (1, 1, 1):  # a little further at each try: the spool, the folder, the lock
            for descriptor in [spare.pop() for _ in range(free)]:
                os.close(descriptor)
            kept += record(client, 20, kept)
        while spare:
            os.close(spare.pop())
        until(lambda: not client.stats().spool_error)
        kept += record(client, 20, kept)
        say(kept=kept, names=sorted(os.listdir(sys.argv[1])))
        client.close(0)
        say(recorded=client.stats().recorded, dropped=client.stats().dropped, left=client.stats().queued)
        """,
        spool,
    )
    said = facts(lines)
    assert "Too many open files; raise the limit" in said["error"]
    assert [name for name in said["names"] if name.startswith(".")] == []
    assert said["dropped"] == {}
    assert said["kept"] == said["recorded"]
    assert said["kept"] <= said["left"] <= said["kept"] + 1
    assert len([line for line in logged(lines, "ERROR") if "cannot write to" in line]) == 1, lines


@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "written"])
def test_a_limit_on_the_size_of_files(mapped: bool, tmp_path: Path) -> None:
    """`ulimit -f`.

    A segment that cannot be made, or is cut in the middle of a frame, loses and doubles nothing.
    """
    lines = run_child(
        """
        if sys.argv[2] == "False":
            del os.posix_fallocate
        from brockman.buffer.spool.fallback import DiskState
        from brockman.transport.memory import MemoryTransport
        from brockman.transport import Answer
        DiskState.cooldown = DiskState.idle_cooldown = 0.2  # not to wait for seconds until it is tried again
        transport = MemoryTransport(lambda body: Answer(201 if is_open else 503))
        is_open = False
        client = make(sys.argv[1], max_spool_bytes=2**20, transport=transport)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_500, resource.RLIM_INFINITY))
        kept = record(client, 100, 0, "x" * 1000)
        until(lambda: client.stats().spool_error)
        say(error=client.stats().spool_error)
        kept += record(client, 20, kept, "x" * 1000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        until(lambda: not client.stats().spool_error)
        kept += record(client, 20, kept)
        is_open = True
        assert client.flush(20)
        stats = client.stats()
        say(kept=kept, delivered=stats.delivered, recorded=stats.recorded, dropped=stats.dropped)
        client.close()
        """,
        tmp_path / "spool",
        mapped,
    )
    said = facts(lines)
    assert said["error"] in ("File too large", "No space left on device; make room on that disk")
    assert said["kept"] == said["delivered"] == said["recorded"] == 140
    assert said["dropped"] == {}
    assert len([line for line in logged(lines, "ERROR") if "cannot write to" in line]) == 1


def test_a_disk_that_fails_for_long_leaks_nothing(tmp_path: Path) -> None:
    """Whatever step fails, again and again: no descriptor, thread or file is left of the attempts."""
    said = facts(
        run_child(
            """
            steps, at = ["posix_fallocate", "fdatasync", "fsync", "rename", "mkdir"], [0]
            real = {name: getattr(os, name) for name in steps}
            failing = None
            def make_failing(name):
                def step(*args, **more):
                    if failing == name:
                        at[0] += 1
                        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
                    return real[name](*args, **more)
                return step
            for name in steps:
                setattr(os, name, make_failing(name))
            from brockman.buffer.spool.fallback import DiskState
            from brockman.transport.memory import MemoryTransport
            DiskState.cooldown = 0.0  # as many attempts as else in an hour
            client = make(sys.argv[1], spool_fsync="always", max_spool_bytes=2**20, transport=MemoryTransport())
            record(client, 20, 0, "x" * 30_000)
            client.flush()
            before = [len(os.listdir("/proc/self/fd")), threading.active_count()]
            counts, left = {}, {}
            for step in steps:
                if step in ("rename", "mkdir"):  # a new folder is to be made
                    shutil.rmtree(sys.argv[1])
                    real["mkdir"](sys.argv[1], 0o700)
                at[0], failing = 0, step
                until(lambda: record(client, 1, 0, "x" * 30_000) and at[0] > 50)
                counts[step] = [len(os.listdir("/proc/self/fd")), threading.active_count()]
                client.flush()
                left[step] = [name for _, _, names in os.walk(sys.argv[1]) for name in names]
                left[step] += [name for name in os.listdir(sys.argv[1]) if name.startswith(".")]
                failing = None
                until(lambda: record(client, 1) and not client.stats().spool_error)
                client.flush()
            stats = client.stats()
            assert stats.recorded == stats.delivered, stats
            say(before=before, counts=counts, left=left)
            client.close()
            until(lambda: threading.active_count() == 1)
            say(after=len(os.listdir("/proc/self/fd")))
            """,
            tmp_path / "spool",
        )
    )
    descriptors, threads = said["before"]
    for step, (opened, running) in said["counts"].items():
        assert opened <= descriptors + 6, (step, said)
        assert running <= threads + 1, (step, said)
        assert len(said["left"][step]) < 6, (step, said)
    assert said["after"] <= descriptors


def test_a_close_leaves_no_folder_locked(tmp_path: Path) -> None:
    """Slow as locks may be: what a client has left can be had by the next one of the same process at once."""
    code = """
        import fcntl
        from time import sleep
        from brockman.transport.memory import MemoryTransport
        real = fcntl.flock
        def flock(descriptor, operation):  # as of a disk that is far away
            if threading.current_thread() is not threading.main_thread():
                sleep(0.03)
            real(descriptor, operation)
            if threading.current_thread() is not threading.main_thread():
                sleep(0.08)
        client = make(sys.argv[1])
        looking = threading.Event()
        fcntl.flock = lambda *a: (looking.set(), flock(*a))
        record(client, 10)
        looking.clear()
        looking.wait(1)
        client.close(0)
        transport = MemoryTransport()
        later = make(sys.argv[1], transport=transport)
        record(later, 1)
        until(lambda: len(transport.triggers) >= 11, 10)
        later.close()
    """
    run_child(code, tmp_path / "spool")


def test_the_worker_sleeps_while_a_thread_waits_for_a_disk(make_spooled: MakeClient) -> None:
    """A disk that does not answer costs no processor time: the worker tries again now and then."""
    client = make_spooled()
    client.record_trigger("a", "b", "c")
    assert client.flush(20)
    buffer: Any = client._pipeline.buffer
    tries, keep_up = [], buffer.keep_up

    def counted() -> None:
        tries.append(1)
        keep_up()

    buffer.keep_up = counted
    with buffer._writer.changing:  # as a thread does that waits for the disk
        buffer._log.fail(OSError(errno.EIO, "it fails"))
        client._pipeline.request_flush()
        threading.Event().wait(0.5)
    assert 0 < len(tries) < 20


def test_a_segment_that_cannot_be_renewed_goes_on(
    make_spooled: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no new file can be made, but the old one has room, what is recorded still goes to disk."""
    client = make_spooled(transport=MemoryTransport(lambda body: Answer(503)))
    client.record_trigger("a", "b", "c")
    buffer: Any = client._pipeline.buffer
    started = buffer._writer.started
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # too many open files, from now on
    try:
        monkeypatch.setattr(SpoolBuffer, "segment_max_age", 0.0)
        assert eventually(lambda: bool(buffer._writer.started > started or client.stats().spool_error))
        error = client.stats().spool_error
        assert client.record_trigger("a", "b", "c")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert error is None
    assert sum(file.read_bytes().count(b"\x1e") for file in tmp_path.glob("spool/*/0*[0-9]")) == 2


def test_a_client_that_nobody_holds_ends_while_the_disk_fails(
    tmp_path: Path,
) -> None:
    """A client that is garbage-collected leaves no thread behind, also where the disk takes nothing."""
    (tmp_path / "file").touch()
    before = threading.active_count()
    client = FocusLabClient(
        KEY, spool_dir=str(tmp_path / "file"), transport=MemoryTransport(), flush_interval=0.01
    )
    client.record_trigger("a", "b", "c")
    assert client.flush(20)
    assert client.stats().spool_error
    del client
    gc.collect()
    assert eventually(lambda: threading.active_count() == before, 8)
