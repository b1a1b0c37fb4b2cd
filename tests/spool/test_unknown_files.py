"""Unknown, replaced and damaged files in a spool: none is fatal, and intact triggers are delivered beside them."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from brockman.buffer.spool.frame import HEADER, make_frame
from brockman.client import FocusLabClient
from brockman.exceptions import ConnectionFailed
from brockman.stats import Stats
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport
from tests.spool.disks import is_settled
from tests.spool.parts import SpoolParts, leave, triggers
from tests.support.client import KEY
from tests.support.waiting import eventually

LATER = b"brockman-spool 2 %d\nwhat nobody knows yet" % zlib.crc32(b"brockman-spool 2")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., FocusLabClient]]:
    """Make clients of the spool in `tmp_path` that send to memory; they are closed at the end."""
    made: list[FocusLabClient] = []

    def make(transport: MemoryTransport, **options: Any) -> FocusLabClient:
        settings = {"spool_dir": str(tmp_path), "flush_interval": 0.01, "backoff_base": 0.01, "backoff_cap": 0.02}
        made.append(FocusLabClient(KEY, transport=transport, **{**settings, **options}))
        return made[-1]

    yield make
    for client in made:
        client.close(0.5)


def ids(bodies: list[bytes]) -> list[str]:
    """Return the ids of triggers, in order."""
    return [json.loads(body)["id"] for body in bodies]


def sent(transport: MemoryTransport) -> list[str]:
    """Return the ids of what was sent, in order."""
    return [trigger["id"] for trigger in transport.triggers]


def _directory(path: Path) -> None:
    (path / "inner").mkdir(parents=True)


def _symlink(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)  # the path may be too long for a socket
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def _later(path: Path) -> None:
    path.write_bytes(LATER)


NOT_SEGMENTS = {
    "directory": _directory,
    "FIFO": os.mkfifo,
    "symbolic link": _symlink,
    "socket": _socket,
    "sparse file of 1 GB": _sparse,
    "later format": _later,
}


@pytest.mark.parametrize("kind", NOT_SEGMENTS)
@pytest.mark.parametrize("name", ["00000000", "00000002"])
def test_what_is_not_a_segment_is_ignored_and_logged_once(
    make: Callable[..., FocusLabClient],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    name: str,
) -> None:
    """It is still there afterwards; the triggers of the folder that it lies in are delivered all the same."""
    bodies = triggers(3)
    folder = leave(tmp_path, bodies)
    NOT_SEGMENTS[kind](folder / name)
    before = (folder / name).lstat()
    transport = MemoryTransport()
    client = make(transport)
    for _ in range(3):
        assert client.flush(20)
        assert sent(transport) == ids(bodies)
    assert is_settled(client)
    assert (folder / name).lstat().st_ino == before.st_ino
    assert not (folder / "00000001").exists()
    client.close(5)
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([line for line in lines if f"{folder.name}/{name}" in line and "ignored" in line]) == 1, lines


def test_thousands_of_files_of_others_are_one_line(
    make: Callable[..., FocusLabClient], quick_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Folders and files, with different reasons and more at each look: one example, and how many there are."""
    bodies = triggers(3)
    folder = leave(quick_path, bodies)
    for number in range(300):
        (folder / f"1{number:07d}").mkdir()

    def plant(start: int) -> None:
        for number in range(start, start + 400):
            (quick_path / f"{number}-{number:016x}").mkdir(mode=0o700)
            (quick_path / f"{number}-{number:016x}").chmod(0o702 + number % 8 * 8)

    transport = MemoryTransport()
    client = make(transport, spool_dir=str(quick_path))
    for start in range(1, 1600, 400):
        plant(start)
        assert client.flush(20)
    assert sent(transport) == ids(bodies)
    client.close(5)
    lines = [r.getMessage() for r in caplog.records if "ignored" in r.getMessage()]
    assert len(lines) == 1
    assert lines[0].endswith("; ignored (and 699 more)")


@pytest.mark.parametrize("kind", NOT_SEGMENTS)
def test_something_else_in_the_place_of_a_segment_that_is_read(
    make: Callable[..., FocusLabClient], tmp_path: Path, kind: str
) -> None:
    """The triggers there are lost and counted; those behind them are delivered."""
    bodies = triggers(60)
    folder = leave(tmp_path, bodies, segment_bytes=4096)  # some segments
    assert (folder / "00000003").exists()
    count_of_first, count = ((folder / f"0000000{number}").read_bytes().count(b"\x1e") for number in (1, 2))
    dropped: list[tuple[str, bytes | None]] = []

    def replace(body: bytes) -> Any:
        if len(transport.bodies) == 1:  # the first batch is under way, all are adopted
            (folder / "00000002").unlink()
            NOT_SEGMENTS[kind](folder / "00000002")
        return Answer(201)

    transport = MemoryTransport(replace)
    client = make(transport, max_batch_size=5, on_drop=lambda reason, body: dropped.append((reason, body)))
    assert client.flush(20)
    assert client.stats().dropped == {"damaged": count}
    assert eventually(lambda: dropped == [("damaged", None)] * count)
    assert is_settled(client)
    assert sent(transport) == ids(bodies[:count_of_first] + bodies[count_of_first + count :])


@pytest.mark.parametrize("name", ["2024", "²", "0000000²", "notes.txt", "00000001~", "00000001.bak", "\udcff"])
def test_files_of_other_names_are_not_touched(
    make: Callable[..., FocusLabClient], tmp_path: Path, name: str
) -> None:
    bodies = triggers(2)
    folder = leave(tmp_path, bodies)
    (folder / name).write_bytes(HEADER + b"mine")
    transport = MemoryTransport()
    client = make(transport)
    assert client.flush(20)
    assert sent(transport) == ids(bodies)
    assert is_settled(client)
    assert (folder / name).read_bytes() == HEADER + b"mine"


@pytest.mark.parametrize("name", ["backup", "1-abc", "4711-0123456789ABCDEF", ".hidden", "lost+found"])
def test_folders_of_other_names_are_not_touched(
    make: Callable[..., FocusLabClient], tmp_path: Path, name: str
) -> None:
    """Somebody's copy of a folder waits until it is given a name of the spool."""
    bodies = triggers(2)
    shutil.move(leave(tmp_path, bodies), tmp_path / name)
    transport = MemoryTransport()
    client = make(transport)
    assert client.flush(20)
    assert sent(transport) == []
    assert (tmp_path / name / "00000001").exists()
    (tmp_path / name).rename(tmp_path / "4711-0123456789abcdef")
    assert client.flush(20)
    assert sent(transport) == ids(bodies)
    assert is_settled(client)


@pytest.mark.parametrize("content", [b"", HEADER, bytes(5000), HEADER + bytes(5000), HEADER[:7], b"\n", b"\0\0"])
def test_segments_with_nothing_in_them_are_removed(
    make: Callable[..., FocusLabClient], tmp_path: Path, content: bytes
) -> None:
    """Empty files, and room that was never written: nothing is lost, so nothing is counted."""
    folder = leave(tmp_path, triggers(2))
    (folder / "00000001").write_bytes(content)
    transport = MemoryTransport()
    client = make(transport)
    assert client.flush(20)
    assert sent(transport) == []
    assert client.stats().dropped == {}
    assert client.stats().recovered == 0
    assert not folder.exists()


@pytest.mark.parametrize("kind", ["missing", "FIFO", "zeros", "directory", "symbolic link", "socket"])
def test_a_lock_that_is_none(
    make: Callable[..., FocusLabClient], tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Directories that can be locked are adopted; others wait for a person, logged once, and delay nothing."""
    bodies = triggers(4)
    broken, whole = leave(tmp_path, bodies[:2]), leave(tmp_path, bodies[2:])
    assert whole.exists()
    (broken / "lock").unlink()
    if kind == "zeros":
        (broken / "lock").write_bytes(bytes(100))
    elif kind != "missing":
        NOT_SEGMENTS[kind](broken / "lock")
    transport = MemoryTransport()
    client = make(transport)
    assert client.flush(20)
    assert client.flush(20)
    assert is_settled(client)
    client.close(5)
    if kind in ("missing", "FIFO", "zeros"):
        assert sorted(sent(transport)) == sorted(ids(bodies))
        return
    assert sent(transport) == ids(bodies[2:])
    assert [line for line in caplog.messages if broken.name in line and "cannot be adopted" in line], (
        caplog.messages
    )
    shutil.rmtree(broken / "lock") if kind == "directory" else (broken / "lock").unlink()
    assert make(transport).flush(20)
    assert sorted(sent(transport)) == sorted(ids(bodies))


def test_the_folder_of_a_living_process_whose_lock_is_removed_is_its_own(
    make: Callable[..., FocusLabClient], tmp_path: Path
) -> None:
    """As by a job that tidies up old files: no other process sends the same, or removes what is being written."""
    away = MemoryTransport(lambda body: ConnectionFailed("away"))
    living = make(away)
    for _ in range(5):
        living.record_trigger("a", "viewed", "page")
    assert eventually(lambda: bool(away.bodies))  # it has looked for what others have left
    (lock,) = tmp_path.glob("*/lock")
    lock.unlink()
    transport = MemoryTransport()
    other = make(transport)
    assert other.flush(20)
    assert not living.flush(0)
    assert sent(transport) == []
    assert other.stats().recovered == living.stats().recovered == 0
    living.close(0)
    assert other.flush(20)
    assert len(sent(transport)) == 5
    assert is_settled(other)


def _swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def _partly_sent(path: Path, bodies: list[bytes], count: int) -> Path:
    """Leave some segments; of the first, a number of triggers are settled."""
    gone = SpoolParts(path, segment_bytes=4096)
    gone.record(bodies)
    folder = path / gone.writer.process_dirs[-1].name
    batch = gone.writer.take_more(count, 1 << 20)
    gone.writer.settle(len(batch), delivered=True)
    gone.writer.acknowledge()
    gone.close()
    return folder


@pytest.mark.parametrize("content", [None, b"", b"\0" * 12, b"\xff" * 12, b"x" * 11, b"x" * 5000])
def test_an_acknowledgement_that_cannot_be_read_costs_duplicates_and_no_trigger(
    make: Callable[..., FocusLabClient], tmp_path: Path, content: bytes | None
) -> None:
    bodies = triggers(10)
    note = _partly_sent(tmp_path, bodies, 4) / "00000001.ack"
    note.unlink() if content is None else note.write_bytes(content)
    transport = MemoryTransport()
    client = make(transport)
    assert client.flush(20)
    assert sent(transport) == ids(bodies)
    assert is_settled(client)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", NOT_SEGMENTS)
def test_something_else_in_the_place_of_an_acknowledgement(
    make: Callable[..., FocusLabClient], tmp_path: Path, kind: str
) -> None:
    bodies = triggers(10)
    note = _partly_sent(tmp_path, bodies, 4) / "00000001.ack"
    note.unlink()
    NOT_SEGMENTS[kind](note)
    transport = MemoryTransport()
    client = make(transport)
    for _ in range(2):
        assert client.flush(20)
        assert sent(transport) == ids(bodies)
    assert is_settled(client)


def test_an_acknowledgement_is_believed(make: Callable[..., FocusLabClient], tmp_path: Path) -> None:
    bodies = triggers(10)
    _partly_sent(tmp_path, bodies, 4)
    transport = MemoryTransport()
    client = make(transport)
    assert client.flush(20)
    assert sent(transport) == ids(bodies[4:])


@pytest.mark.parametrize("how", ["acks", "segments", "segments of two folders", "a copy of an ack"])
def test_an_acknowledgement_of_another_segment_costs_duplicates_and_no_trigger(
    make: Callable[..., FocusLabClient], tmp_path: Path, how: str
) -> None:
    """The same offset stands for another trigger there: what was not sent is not taken for settled."""
    bodies = triggers(80)
    one, other = _partly_sent(tmp_path, bodies[:40], 7), _partly_sent(tmp_path, bodies[40:], 3)
    first, second = one / "00000001", one / "00000002"
    assert second.exists()
    if how == "acks":
        _swap(one / "00000001.ack", other / "00000001.ack")
    elif how == "segments":
        _swap(first, second)
    elif how == "segments of two folders":
        _swap(first, other / "00000001")
    else:
        shutil.copy(one / "00000001.ack", one / "00000002.ack")
    transport = MemoryTransport()
    client = make(transport)
    assert client.flush(20)
    assert set(ids(bodies[7:40] + bodies[43:])) <= set(sent(transport)) <= set(ids(bodies))
    assert len(sent(transport)) == len(set(sent(transport)))
    assert is_settled(client)


@pytest.mark.parametrize("name", ["00000001.ack", "00000009.ack"])
def test_an_acknowledgement_without_a_segment_is_removed(
    make: Callable[..., FocusLabClient], tmp_path: Path, name: str
) -> None:
    """A process that died between the two, or a segment that somebody removed: no folder stays for it."""
    folder = _partly_sent(tmp_path, triggers(5), 2)
    (folder / "00000001.ack").rename(folder / name)
    (folder / "00000001").unlink()
    client = make(MemoryTransport())
    assert client.flush(20)
    assert list(tmp_path.iterdir()) == []
    assert is_settled(client)


def test_another_file_in_the_place_of_the_one_that_is_written(
    make: Callable[..., FocusLabClient], tmp_path: Path
) -> None:
    """Triggers recorded before and after are delivered; the other file waits for the next process."""
    bodies, others = triggers(6), triggers(3)
    folder = leave(tmp_path / "elsewhere", others)
    transport = MemoryTransport()
    client = make(transport)
    client.record_encoded(bodies[0])
    assert client.flush(20)
    (own,) = tmp_path.glob("*-*/00000001")
    for body in bodies[1:3]:
        client.record_encoded(body)
    (folder / "00000001").rename(own)
    for body in bodies[3:]:
        client.record_encoded(body)
    assert client.flush(20)
    assert sent(transport) == ids(bodies)
    assert is_settled(client, len(bodies))


def test_files_with_the_next_names_do_not_stop_a_process(
    make: Callable[..., FocusLabClient], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As by a copy of a segment in the folder of a living process: that is no trouble of the disk."""
    transport = MemoryTransport()
    client = make(transport, max_spool_bytes=1 << 20)  # segments of 128 KiB
    bodies = triggers(60, variables={"text": "x" * 4000})
    client.record_encoded(bodies[0])
    assert client.flush(20)
    (own,) = tmp_path.glob("*-*/00000001")
    for number in range(2, 5):
        shutil.copy(own, own.with_name(f"{number:08d}"))
    for body in bodies[1:]:
        client.record_encoded(body)
    assert client.stats().spool_error is None
    assert client.flush(20)
    assert sent(transport) == ids(bodies)
    client.close(5)
    assert [line for line in caplog.messages if "cannot write to" in line] == []


def _cut_tail(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5)


def test_damage_is_counted_reported_kept_and_logged_once(
    make: Callable[..., FocusLabClient], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`on_drop` may look at the counts and record; one line on the log says where the rest of it is."""
    bodies = triggers(3)
    segment = leave(tmp_path, bodies) / "00000001"
    _cut_tail(segment)
    torn = make_frame(bodies[2])[:-5]
    dropped: list[tuple[str, bytes | None]] = []
    seen: list[Stats] = []

    def on_drop(reason: str, body: bytes | None) -> None:
        dropped.append((reason, body))
        seen.append(client.stats())
        client.record_trigger("a", "noticed", "damage")

    transport = MemoryTransport()
    client = make(transport, on_drop=on_drop)
    assert client.flush(20)
    assert eventually(lambda: bool(dropped) and client.flush(20) and is_settled(client, 1))
    assert sent(transport)[:2] == ids(bodies[:2])
    assert [trigger["action"] for trigger in transport.triggers] == ["viewed", "viewed", "noticed"]
    assert dropped == [("damaged", None)]
    assert client.stats().dropped == seen[0].dropped == {"damaged": 1}
    assert seen[0].recorded == 0
    client.close(5)
    (kept,) = (tmp_path / "damaged").iterdir()
    assert kept.read_bytes() == torn
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    lines = [line for line in caplog.messages if "damaged" in line]
    assert len(lines) == 1, lines
    assert f"1 damaged (the last one: kept in {tmp_path}/damaged)" in lines[0]


@pytest.mark.parametrize("where", ["at the start", "at the end", "all of it", "no frame at all"])
def test_on_drop_is_called_for_damage_with_no_lock_held(
    make: Callable[..., FocusLabClient], tmp_path: Path, where: str
) -> None:
    """It may wait for another thread that reads the counts, or makes room in a full spool."""
    segment = leave(tmp_path, triggers(3)) / "00000001"
    content = segment.read_bytes()
    start, stop, count = {
        "at the start": (len(HEADER) + 20, len(HEADER) + 25, 1),
        "at the end": (len(content) - 20, len(content), 1),
        "all of it": (len(HEADER), len(content), 3),
        "no frame at all": (len(HEADER), len(content), 1),
    }[where]
    wiped = content[start:stop].replace(b"{", b"?") if where == "all of it" else b"?" * (stop - start)
    segment.write_bytes(content[:start] + wiped + content[stop:])
    held: list[bool] = []

    def on_drop(reason: str, body: bytes | None) -> None:
        buffer: Any = client._pipeline.buffer

        def ask() -> None:
            is_free = buffer._seqlock._lock.acquire(timeout=0)
            if is_free:
                buffer._seqlock._lock.release()
            held.append(not is_free or buffer.version % 2 == 1)

        asking = threading.Thread(target=ask)
        asking.start()
        asking.join(20)

    client = make(MemoryTransport(), on_drop=on_drop)
    assert client.flush(20)
    assert eventually(lambda: len(held) == count), held
    assert client.stats().dropped == {"damaged": count}
    assert not any(held)
    assert is_settled(client)


@pytest.mark.parametrize("what", ["segment", "folder", "spool"])
@pytest.mark.parametrize("whose", ["own", "adopted"])
def test_files_removed_in_the_middle_of_a_delivery(
    make: Callable[..., FocusLabClient], tmp_path: Path, what: str, whose: str
) -> None:
    """Triggers that are gone before they were read are counted as damaged; recording continues, on disk again."""
    bodies = triggers(100, variables={"text": "x" * 4000})  # some segments of 128 KiB
    spool = tmp_path / "spool"
    if whose == "adopted":
        leave(spool, bodies, segment_bytes=1 << 17)

    all_are_there = threading.Event()

    def remove(body: bytes) -> Answer:
        if len(transport.bodies) == 1:
            all_are_there.wait(20)
            if what == "segment":
                next(spool.glob("*-*/00000002")).unlink()
            else:
                shutil.rmtree(spool if what == "spool" else next(spool.glob("*-*/00000002")).parent)
        return Answer(201)

    transport = MemoryTransport(remove)
    client = make(transport, spool_dir=str(spool), max_batch_size=5, max_spool_bytes=1 << 20, flush_interval=5.0)
    if whose == "own":
        for body in bodies:
            assert client.record_encoded(body)
    all_are_there.set()
    assert client.flush(20)
    own = len(bodies) if whose == "own" else 0
    assert eventually(lambda: is_settled(client, own))
    lost = client.stats().dropped.get("damaged", 0)
    assert len(sent(transport)) == len(bodies) - lost
    assert lost > 0
    later = triggers(2)
    for body in later:
        assert client.record_encoded(body)
    assert client.flush(20)
    assert sent(transport)[-2:] == ids(later)
    assert eventually(lambda: is_settled(client, own + len(later)))
    assert client.stats().spool_error is None


def test_a_copy_of_a_folder_costs_duplicates(make: Callable[..., FocusLabClient], tmp_path: Path) -> None:
    """The same ids: the receiver drops the second ones."""
    bodies = triggers(3)
    folder = leave(tmp_path, bodies)
    shutil.copytree(folder, tmp_path / "1-0123456789abcdef")
    shutil.copy(folder / "00000001", folder / "00000002")
    transport = MemoryTransport()
    client = make(transport)
    assert client.flush(20)
    assert sorted(sent(transport)) == sorted(ids(bodies) * 3)
    assert client.stats().recovered == 9
    assert is_settled(client)


def test_a_spool_that_was_searched_first_is_written_in_the_same_way(
    make: Callable[..., FocusLabClient], tmp_path: Path
) -> None:
    """Mapping depends on the disk, not on who opened the directory."""
    sizes = []
    for is_searched in (False, True):
        spool = tmp_path / str(is_searched)
        client = make(MemoryTransport(lambda body: ConnectionFailed("away")), spool_dir=str(spool))
        if is_searched:
            client.flush(0)
        client.record_trigger("a", "viewed", "page")
        sizes += [file.stat().st_size for file in spool.glob("*-*/00000001")]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("body", [b"{}", b"[]", b"no JSON", b'{"recorded_at":1}', b'{"recorded_at":"yesterday"}'])
def test_stats_of_a_frame_of_another_program(
    make: Callable[..., FocusLabClient], tmp_path: Path, body: bytes
) -> None:
    """Its checksum is right, so it is sent for the server to judge; until then its age is not known."""
    (leave(tmp_path, triggers(1)) / "00000001").write_bytes(HEADER + make_frame(body))
    client = make(MemoryTransport(lambda body: ConnectionFailed("away")))
    client.flush(0)
    assert eventually(lambda: client.stats().in_flight == 1)
    assert client.stats().oldest_age is None
