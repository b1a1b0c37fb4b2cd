"""A trigger on disk that the API refuses by a web page keeps no other trigger from being delivered."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from brockman.buffer.spool.buffer import SpoolBuffer
from brockman.client import FocusLabClient
from tests.spool.disks import away, files_in
from tests.support.client import KEY, record
from tests.support.endpoint import Endpoint
from tests.support.server import RecordingServer, Reply, Request
from tests.support.waiting import eventually

Make = Callable[..., FocusLabClient]
PAGE = Reply(400, b"<html><body><h1>Bad Request</h1></body></html>", {"Content-Type": "text/html"})


@pytest.fixture(autouse=True)
def _alone_in_its_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trigger is in a segment of its own."""
    monkeypatch.setattr(SpoolBuffer, "segment_bytes", 1)


def refuse(*poison: int) -> Callable[[Request], int | Reply]:
    """Return answers that refuse each request with one of these triggers by page."""
    return lambda request: PAGE if set(numbers(request)) & set(poison) else 201


def numbers(request: Request) -> list[int]:
    """Return the variable `n` of each trigger of a request."""
    return [trigger["variables"]["n"] for trigger in request.triggers]


def leave(make_client: Make, spool: Path, *found: int) -> None:
    """Leave triggers on disk, as of one process each that is gone."""
    for n in found:
        client = make_client(spool_dir=str(spool), transport=away())
        record(client, 1, start=n)
        client.close(0)


@pytest.mark.parametrize("poison", [{0}, {0, 1, 2}, set(range(7)), {3, 7}, {19}, {0, 19}], ids=str)
def test_others_of_the_same_process_are_delivered(
    poison: set[int], server: RecordingServer, make_client: Make, tmp_path: Path
) -> None:
    """At once, without a wait, though each one is in a segment of its own; and the refused are rejected."""
    endpoint = Endpoint(server, refuse(*poison))
    client = make_client(spool_dir=str(tmp_path / "spool"), flush_interval=60)
    record(client, 20)
    client.flush(20)
    stats = client.stats()
    assert sorted(endpoint.numbers()) == [n for n in range(20) if n not in poison]
    assert (stats.delivered, stats.rejected, stats.queued, stats.in_flight) == (
        20 - len(poison),
        len(poison),
        0,
        0,
    )
    client.close()
    assert files_in(tmp_path / "spool") == []


def test_many_refused_triggers_in_a_row_keep_none_back(
    server: RecordingServer, make_client: Make, tmp_path: Path
) -> None:
    """With more of them than are tried before a wait, waits come between; all others are delivered."""
    endpoint = Endpoint(server, refuse(*range(30)))
    client = make_client(spool_dir=str(tmp_path / "spool"))
    record(client, 40)
    assert eventually(lambda: client.flush(0.1))  # each cuts one wait short
    assert sorted(endpoint.numbers()) == list(range(30, 40))
    assert client.stats().rejected == 30


def test_what_dead_processes_left_is_delivered(server: RecordingServer, make_client: Make, tmp_path: Path) -> None:
    """Of four, three left one refused trigger each: the fourth's, and those recorded now, are delivered."""
    endpoint = Endpoint(server, refuse(0, 1, 2))
    leave(make_client, tmp_path / "spool", 0, 1, 2, 3)
    client = make_client(spool_dir=str(tmp_path / "spool"))
    record(client, 2, start=4)
    assert client.flush(20)
    client.close()
    assert sorted(endpoint.numbers()) == [3, 4, 5]
    assert (client.stats().recovered, client.stats().rejected) == (4, 3)
    assert files_in(tmp_path / "spool") == []


def test_a_trigger_recorded_later_lets_the_one_before_go(
    server: RecordingServer, make_client: Make, tmp_path: Path
) -> None:
    """A single refused trigger waits; it is rejected as soon as another one is recorded and accepted."""
    endpoint = Endpoint(server, refuse(0))
    leave(make_client, tmp_path / "spool", 0)
    client = make_client(spool_dir=str(tmp_path / "spool"))
    assert not client.flush(0.3)
    assert client.stats().rejected == 0
    record(client, 1, start=1)
    assert client.flush(20)
    assert (endpoint.numbers(), client.stats().rejected) == ([1], 1)


def test_damage_between_them_changes_nothing(server: RecordingServer, make_client: Make, tmp_path: Path) -> None:
    """A damaged segment between the refused trigger and the others: counted once, and the others are delivered."""
    endpoint = Endpoint(server, refuse(0))
    client = make_client(spool_dir=str(tmp_path / "spool"), transport=away())
    record(client, 6)
    client.close(0)
    for name in ("00000002", "00000003"):
        (segment,) = (tmp_path / "spool").glob(f"*/{name}")
        segment.write_bytes(segment.read_bytes().replace(b"viewed", b"VIEWED"))
    lost: list[str] = []
    client = make_client(spool_dir=str(tmp_path / "spool"), on_drop=lambda reason, body: lost.append(reason))
    assert client.flush(20)
    client.close()
    assert endpoint.numbers() == [3, 4, 5]
    stats = client.stats()
    assert (stats.delivered, stats.rejected, stats.dropped) == (3, 1, {"damaged": 2})
    assert lost == ["damaged", "damaged"]
    assert {path.parent.name for path in files_in(tmp_path / "spool")} == {"damaged"}


@pytest.mark.parametrize("begin", range(5))
def test_a_maintenance_page_loses_nothing(
    begin: int, server: RecordingServer, make_client: Make, tmp_path: Path
) -> None:
    """Whenever it begins and ends: each trigger arrives once, and none is rejected."""
    turn = itertools.count()
    endpoint = Endpoint(server, lambda request: PAGE if begin <= next(turn) < begin + 7 else 201)
    leave(make_client, tmp_path / "spool", 0, 1)
    client = make_client(spool_dir=str(tmp_path / "spool"))
    record(client, 10, start=2)
    assert eventually(lambda: client.flush(0.1))  # each cuts one wait short
    client.close()
    assert sorted(endpoint.numbers()) == list(range(12))
    assert client.stats().rejected == 0


def test_the_oldest_make_room_while_all_are_refused(
    server: RecordingServer, make_client: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a full spool whose oldest triggers are held, what is dropped is counted, and the rest is delivered."""
    monkeypatch.setattr(SpoolBuffer, "segment_bytes", 16 * 1024)
    endpoint = Endpoint(server, lambda request: PAGE)
    client = make_client(spool_dir=str(tmp_path / "spool"), max_spool_bytes=2**20, overflow="drop_oldest")
    recorded = record(client, 1, pad="x" * 8000)
    assert eventually(lambda: endpoint.arrived)
    recorded += record(client, 300, start=1, pad="x" * 8000)
    assert not client.flush(0.2)
    recorded += record(client, 100, start=301, pad="x" * 8000)
    endpoint.answer = 201
    assert eventually(lambda: client.flush(0.1))
    stats = client.stats()
    assert recorded == 401 == stats.delivered + stats.dropped["overflow"]
    assert endpoint.numbers()[-1] == 400
    assert len(set(endpoint.numbers())) == len(endpoint.numbers()) == stats.delivered


_RECORDS = """
import sys
from brockman.buffer.spool.buffer import SpoolBuffer
from brockman.client import FocusLabClient
SpoolBuffer.segment_bytes = 1
client = FocusLabClient(sys.argv[1], sys.argv[2], spool_dir=sys.argv[3])
for n in range(10):
    assert client.record_trigger("a", "b", "c", variables={"n": n})
print("recorded", flush=True)
client.flush(60)
"""


@pytest.mark.parametrize("at", [1, 2, 3, 5, 8, 11, 14])
def test_a_process_killed_in_the_middle_loses_nothing(
    at: int, server: RecordingServer, make_client: Make, tmp_path: Path
) -> None:
    """`kill -9` at any request while others vouch for a refused trigger: the next process delivers the rest."""
    endpoint = Endpoint(server)
    arrived = itertools.count(1)

    def answer(request: Request) -> int | Reply:
        if next(arrived) == at:
            os.kill(child.pid, signal.SIGKILL)
            child.wait(20)
        return refuse(0, 4)(request)

    endpoint.answer = answer
    endpoint.hold()
    command = [sys.executable, "-c", _RECORDS, KEY, server.endpoint, str(tmp_path / "spool")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"recorded\n"
        endpoint.release()
        assert child.wait(30) == -signal.SIGKILL
    client = make_client(spool_dir=str(tmp_path / "spool"))
    assert client.flush(20)
    client.close()
    assert sorted(set(endpoint.numbers())) == [1, 2, 3, 5, 6, 7, 8, 9]
    assert files_in(tmp_path / "spool") == []
