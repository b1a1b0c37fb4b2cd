"""Where files are not mapped into memory, a checked write takes the place of the copy: with the same promises."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from brockman.client import FocusLabClient
from tests.spool.disks import Producers, away, facts, files_in, mounted, run_child
from tests.support.client import record
from tests.support.endpoint import Endpoint
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

Make = Callable[..., FocusLabClient]


@pytest.fixture(params=["overlay", "ramfs", "no posix_fallocate"])
def disk(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk whose files are not to be mapped, as of a network."""
    if request.param == "no posix_fallocate":  # as of macOS
        monkeypatch.delattr(os, "posix_fallocate")
        yield tmp_path
        return
    options = ""
    if request.param == "overlay":
        for name in ("lower", "upper", "work"):
            (tmp_path / name).mkdir()
        options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    with mounted(request.param, tmp_path / "disk", options) as path:
        yield path


def test_threads_and_delivery_are_exact(disk: Path, server: RecordingServer, make_client: Make) -> None:
    """Threads record while batches are sent, over many segments: each once, in the order of its thread."""
    endpoint = Endpoint(server)
    client = make_client(spool_dir=str(disk / "spool"), max_spool_bytes=2**20, max_batch_size=50)
    producers = Producers(client, threads=3)
    assert eventually(lambda: producers.check_law() is None and producers.count > 1500)
    kept = producers.stop()
    assert client.flush(20)
    assert Counter(endpoint.numbers()) == Counter(kept)
    for numbers in producers.kept:
        mine = set(numbers)
        assert [number for number in endpoint.numbers() if number in mine] == numbers
    assert not any(mapped.startswith(str(disk / "spool")) for mapped in _maps())
    client.close()
    assert files_in(disk / "spool") == []


def _maps() -> list[str]:
    return [line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines()]


def test_the_next_process_delivers_what_was_left(disk: Path, server: RecordingServer, make_client: Make) -> None:
    """Triggers that waited when the client was closed are adopted; settled ones are not sent again."""
    endpoint = Endpoint(server, 503)
    client = make_client(spool_dir=str(disk / "spool"), max_batch_size=10, transport=away())
    record(client, 30)
    client.close(0)
    assert client.stats().queued == 30
    assert client.stats().queued == sum(path.read_bytes().count(b"\x1e") for path in disk.glob("spool/*/0*1"))
    endpoint.answer = 201
    later = make_client(spool_dir=str(disk / "spool"))
    record(later, 1, start=30)
    assert eventually(lambda: len(endpoint.triggers) == 31)
    assert Counter(endpoint.numbers()) == Counter(range(31))
    later.close()
    assert files_in(disk / "spool") == []


def test_what_is_written_survives_a_kill(tmp_path: Path, server: RecordingServer, make_client: Make) -> None:
    """kill -9 right after True, and a frame cut in its middle.

    All that came before is delivered, and no half one.
    """
    kept = facts(
        run_child(
            """
            del os.posix_fallocate
            pid = os.fork()
            if pid == 0:
                client = make(sys.argv[1])
                kept = record(client, 200)
                say(kept=kept)
                os.kill(os.getpid(), 9)
            os.waitpid(pid, 0)
            """,
            tmp_path / "spool",
        )
    )["kept"]
    segment = next(tmp_path.glob("spool/*/00000001"))
    assert segment.stat().st_size < 2**18  # no room is taken in advance
    with segment.open("ab") as file:
        file.write(b'\x1e12345 {"half')
    client = make_client(spool_dir=str(tmp_path / "spool"))
    record(client, 1, start=kept)
    assert client.flush(20)
    assert eventually(lambda: len(server.triggers) == 201)
    client.close()
    assert server.ids().most_common(1)[0][1] == 1
    assert client.stats().dropped == {"damaged": 1}
    assert {trigger["variables"]["n"] for trigger in server.triggers} == set(range(201))
