"""What threads, closes and signal handlers may do to a spool at the worst moment."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from brockman.buffer.spool.directory import SpoolDir
from brockman.buffer.spool.process_dir import make_process_dir, process_dir_names
from brockman.buffer.spool.quota import measure
from brockman.buffer.spool.segment import Segment
from brockman.client import FocusLabClient
from brockman.process.clock import monotonic
from brockman.stats import FlushResult
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport
from tests.conftest import eventually

KEY = "da9dcaa0364541498d4ae6b4865cf395"
PAD = "x" * 1000


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., FocusLabClient]]:
    """Make clients of one spool, whose transport accepts everything unless another one is given."""
    made: list[FocusLabClient] = []

    def make_client(**options: Any) -> FocusLabClient:
        settings = {
            "transport": MemoryTransport(),
            "flush_interval": 0.05,
            "backoff_base": 0.01,
            "backoff_cap": 0.05,
            "spool_dir": str(tmp_path / "spool"),
            **options,
        }
        made.append(FocusLabClient(KEY, **settings))
        return made[-1]

    yield make_client
    for client in made:
        client.close(0.5)


class Gate:
    """A transport that holds the first batch until it is told to let go, and the next one for a moment."""

    def __init__(self) -> None:
        self.first = threading.Event()
        self.accepted: list[int] = []

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        """Wait, and accept."""
        content = json.loads(body)
        if self.accepted:
            threading.Event().wait(0.05)
        else:
            self.first.wait(20)
        self.accepted.append(len(content) if isinstance(content, list) else 1)
        return Answer(201)

    def close(self) -> None:
        """Do nothing."""


def test_a_flush_that_says_all_is_delivered_is_right(make: Callable[..., FocusLabClient]) -> None:
    """What was recorded before a true `flush` is delivered, also if a batch is settled while it begins."""
    gate = Gate()
    client = make(transport=gate, max_batch_size=1)
    client.record_trigger("a", "b", "c")
    assert eventually(lambda: client.stats().in_flight == 1)
    for _ in range(5):
        client.record_trigger("a", "b", "c")

    def settle_in_between(frame: FrameType, event: str, argument: object) -> None:
        if frame.f_code.co_name == "in_flight" and frame.f_back and frame.f_back.f_code.co_name == "<lambda>":
            gate.first.set()
            assert eventually(lambda: client.stats().delivered >= 1)

    sys.settrace(settle_in_between)
    try:
        flushed = client.flush(20)
    finally:
        sys.settrace(None)
    assert flushed
    assert sum(gate.accepted) == 6


def test_a_close_in_the_middle_of_a_sync(
    make: Callable[..., FocusLabClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`interval`: closing while segments are being synced raises nothing, and tells of no failing disk."""
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
    client = make(spool_fsync="interval", transport=MemoryTransport(lambda body: Answer(503)))
    for _ in range(8000):
        client.record_trigger("a", "b", "c", variables={"pad": PAD})
    assert is_syncing.wait(20)
    client.close(0)
    assert eventually(lambda: threading.active_count() <= before)
    assert not failed
    assert client.stats().spool_error is None


def _once(name: str, call: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have something called where the main thread next calls a function of `os`: a signal handler, say."""
    real = getattr(os, name)

    def called(*arguments: Any, **more: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            monkeypatch.setattr(os, name, real)
            call()
        return real(*arguments, **more)

    monkeypatch.setattr(os, name, called)


@pytest.mark.parametrize("name", ["listdir", "makedirs"])
def test_a_handler_that_flushes_in_the_middle_of_a_flush(
    name: str, make: Callable[..., FocusLabClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A signal handler may flush while the program looks for what others have left, or opens the spool anew."""
    client = make()
    client.record_trigger("a", "b", "c")
    assert client.flush(20)
    results: list[FlushResult] = []

    def handler() -> None:
        client.record_trigger("a", "b", "c")
        client._pipeline.buffer._next_adoption = -1.0  # type: ignore[attr-defined]  # half a minute is over
        results.append(client.flush(8))

    if name == "makedirs":
        shutil.rmtree(tmp_path / "spool")
    _once(name, handler, monkeypatch)
    assert client.flush(20)
    assert [bool(result) for result in results] == [True]


def test_a_flush_keeps_to_its_time_while_another_one_looks(
    make: Callable[..., FocusLabClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`timeout` holds too while another thread counts what others have left, on a disk that does not answer."""
    client = make()
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
    make: Callable[..., FocusLabClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`aflush` counts what others have left in a thread: that may be much, and the loop has other things to do."""
    client = make()
    loops, real = [], os.listdir

    def listdir(path: Any) -> list[str]:
        loops.append(asyncio._get_running_loop())
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    asyncio.run(client.aflush(20))
    assert loops
    assert not any(loops)


def test_the_flusher_sleeps_while_a_thread_waits_for_a_disk(make: Callable[..., FocusLabClient]) -> None:
    """A disk that does not answer costs no processor time: the flusher tries again now and then."""
    client = make()
    client.record_trigger("a", "b", "c")
    assert client.flush(20)
    buffer: Any = client._pipeline.buffer
    tries = []

    class Hung:
        """The lock, held by a thread that waits for the disk."""

        def acquire(self, blocking: bool = True) -> bool:
            tries.append(1)
            return False

    buffer._notice.fail(OSError(errno.EIO, "it fails"))
    buffer._writer.changing, real = Hung(), buffer._writer.changing
    client._pipeline.request_flush()
    threading.Event().wait(0.5)
    buffer._writer.changing = real
    assert 0 < len(tries) < 20


def test_a_segment_that_cannot_be_renewed_goes_on(make: Callable[..., FocusLabClient]) -> None:
    """Where no new file can be made, but the old one has room, what is recorded still goes to disk."""
    client = make(transport=MemoryTransport(lambda body: Answer(503)))
    client.record_trigger("a", "b", "c")
    buffer: Any = client._pipeline.buffer
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # too many open files, from now on
    try:
        buffer._writer.started -= 10_000.0
        assert eventually(lambda: bool(monotonic() - buffer._writer.started < 5000.0 or client.stats().spool_error))
        error, is_direct = client.stats().spool_error, buffer._disk.is_direct
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert error is None
    assert is_direct


def test_a_handler_that_flushes_in_the_middle_of_an_eviction(
    make: Callable[..., FocusLabClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`drop_oldest`: what is delivered while a file is being dropped is not counted, or told, as dropped too."""
    is_up = threading.Event()
    transport = MemoryTransport(lambda body: Answer(201 if is_up.is_set() else 503))
    dropped: list[object] = []
    client = make(
        transport=transport,
        overflow="drop_oldest",
        max_spool_bytes=2**20,
        on_drop=lambda reason, body: dropped.append(body),
    )
    flushed: list[FlushResult] = []

    def handler() -> None:
        is_up.set()
        flushed.append(client.flush(20))

    _once("pread", handler, monkeypatch)
    count = 0
    while not flushed:
        client.record_trigger("a", "b", "c", variables={"n": count, "pad": PAD})
        count += 1
    assert client.flush(20)
    stats = client.stats()
    assert stats.delivered + len(dropped) == stats.recorded == count
    assert stats.dropped.get("overflow", 0) == len(dropped)


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


def test_a_client_that_nobody_holds_ends_while_the_disk_fails(
    make: Callable[..., FocusLabClient], tmp_path: Path
) -> None:
    """A client that is garbage-collected leaves no thread behind, also where nothing can be left on disk."""
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


@pytest.mark.parametrize("overflow", ["drop_oldest", "block"])
def test_a_trigger_that_never_fits_drops_no_other(overflow: str, make: Callable[..., FocusLabClient]) -> None:
    """What is larger than the whole spool is dropped at once, and nothing to make room for it."""
    client = make(
        transport=MemoryTransport(lambda body: Answer(503)),
        overflow=overflow,
        block_timeout=60,
        max_spool_bytes=2**20,
        max_trigger_bytes=2**22,
        max_batch_bytes=2**22,
    )
    for _ in range(500):
        assert client.record_trigger("a", "b", "c", variables={"pad": PAD})
    begun = monotonic()
    assert not client.record_trigger("a", "b", "c", variables={"pad": "x" * 2**21})
    assert monotonic() - begun < 30
    assert client.stats().dropped == {"overflow": 1}


def test_a_segment_that_is_sealed_is_closed_by_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the program's is never cut short, if it gets the number of a segment that was closed just then."""
    spool = SpoolDir(str(tmp_path / "spool"))
    spool.open()
    folder = make_process_dir(spool, os.urandom)
    segment = Segment(folder, "00000001")
    segment.create(65536, mapped=spool.may_map)
    number, real = segment.descriptor, os.ftruncate
    other = tmp_path / "other"
    other.write_bytes(b"x" * 1000)
    opened = []

    def ftruncate(descriptor: int, length: int) -> None:
        segment.remove()  # the flusher, that has read all of it
        opened.append(os.open(other, os.O_RDWR))
        real(descriptor, length)

    monkeypatch.setattr(os, "ftruncate", ftruncate)
    segment.seal()
    assert opened == [number]
    os.close(number)
    folder.remove_if_empty()
    spool.close()
    assert other.stat().st_size == 1000


def test_threads_that_look_into_the_spool_at_once_see_each_folder_once(tmp_path: Path) -> None:
    """A spool seems never to be fuller than it is, and no orphan is overlooked, while another thread looks too."""
    spool = SpoolDir(str(tmp_path / "spool"))
    spool.open()
    folders = [make_process_dir(spool, os.urandom) for _ in range(50)]
    expected = sorted(folder.name for folder in folders)
    found: list[list[str]] = []

    def look() -> None:
        for _ in range(200):
            found.append(sorted(name for name, _ in measure(spool)))
            found.append(sorted(process_dir_names(spool)))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for folder in folders:
        folder.remove_if_empty()
    spool.close()
    assert len(found) == 1200
    assert all(names == expected for names in found)
