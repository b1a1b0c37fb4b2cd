"""The bound on the bytes of a spool, for all its processes, and the overflow policies."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from brockman.client import FocusLabClient
from brockman.exceptions import BufferFull
from brockman.process.clock import monotonic
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport
from tests.spool.disks import PAD, MakeClient, files_in
from tests.support.endpoint import Endpoint
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

Make = Callable[..., FocusLabClient]
MAX = 2**20


def _fill(client: FocusLabClient) -> int:
    """Record until there is no room; return how many were accepted."""
    count = 0
    while _record(client, count):
        count += 1
    return count


def _record(client: FocusLabClient, number: int) -> bool:
    return client.record_trigger("a", "b", "c", variables={"n": number, "pad": PAD})


def _size(spool: Path) -> int:
    return sum(path.stat().st_size for path in files_in(spool))


def test_two_clients_share_one_bound(tmp_path: Path, server: RecordingServer, make_client: Make) -> None:
    """`max_spool_bytes` holds for the whole folder: what one client has written, another one has no room for."""
    endpoint = Endpoint(server, 503)
    first = make_client(spool_dir=str(tmp_path / "spool"), max_spool_bytes=MAX)
    second = make_client(spool_dir=str(tmp_path / "spool"), max_spool_bytes=MAX, flush_interval=0.06)
    for number in range(300):
        assert _record(first, number)
        assert _record(second, 1000 + number)
    more = _fill(first), _fill(second)
    assert MAX // 2 < _size(tmp_path / "spool") <= MAX + MAX // 8  # both may take the last room at once
    assert first.stats().dropped == second.stats().dropped == {"overflow": 1}
    endpoint.answer = 201
    assert first.flush(20)
    assert second.flush(20)
    assert len(endpoint.triggers) == 600 + sum(more)
    assert eventually(lambda: _record(second, 5000))  # how much lies there is looked at now and then
    assert first.stats().spool_error is second.stats().spool_error is None


def test_a_process_that_finds_the_spool_full_keeps_to_the_policy(
    tmp_path: Path, server: RecordingServer, make_client: Make
) -> None:
    """A spool that another process has filled is full here too: no call returns True for a trigger in memory."""
    Endpoint(server, 503)
    holder = make_client(spool_dir=str(tmp_path / "spool"), max_spool_bytes=MAX, flush_interval=0.06)
    _fill(holder)
    client = make_client(spool_dir=str(tmp_path / "spool"), max_spool_bytes=MAX)
    assert not _record(client, 0)
    assert client.stats().dropped == {"overflow": 1}
    assert client.stats().spool_error is None


def test_drop_newest_counts_and_reports_each(tmp_path: Path, server: RecordingServer, make_client: Make) -> None:
    """`overflow="drop_newest"`: False, one count under `overflow`, one call of `on_drop`; what is there stays."""
    endpoint = Endpoint(server, 503)
    lost: list[tuple[str, bytes | None]] = []
    client = make_client(
        spool_dir=str(tmp_path / "spool"), max_spool_bytes=MAX, on_drop=lambda *dropped: lost.append(dropped)
    )
    count = _fill(client)
    assert [_record(client, 10_000 + n) for n in range(20)] == [False] * 20
    assert client.stats().dropped == {"overflow": 21}
    assert client.stats().recorded == count + 21
    assert [json.loads(body or b"")["variables"]["n"] for _, body in lost] == [count, *range(10_000, 10_020)]
    assert {reason for reason, _ in lost} == {"overflow"}
    endpoint.answer = 201
    assert client.flush(20)
    assert sorted(endpoint.numbers()) == list(range(count))


def test_drop_oldest_makes_room_by_the_oldest_segments(
    tmp_path: Path, server: RecordingServer, make_client: Make
) -> None:
    """`overflow="drop_oldest"`.

    Always True; each dropped trigger is counted, and `on_drop` called in their order.
    """
    endpoint = Endpoint(server, 503)
    lost: list[int] = []
    client = make_client(
        spool_dir=str(tmp_path / "spool"),
        max_spool_bytes=MAX,
        overflow="drop_oldest",
        on_drop=lambda reason, body: lost.append(json.loads(body or b"")["variables"]["n"]),
    )
    for number in range(3000):
        assert _record(client, number)
        stats = client.stats()
        assert stats.queued + stats.in_flight + stats.dropped.get("overflow", 0) == number + 1 == stats.recorded
    assert _size(tmp_path / "spool") <= MAX
    dropped = client.stats().dropped
    assert dropped == {"overflow": len(lost)}
    assert len(lost) > 1500
    assert lost == sorted(lost)
    endpoint.answer = 201
    assert client.flush(20)
    assert endpoint.numbers() == sorted(set(range(3000)) - set(lost))


def test_drop_oldest_under_threads_and_delivery_is_exact(
    tmp_path: Path, server: RecordingServer, make_client: Make
) -> None:
    """Threads that push out the oldest while others are sent: each trigger is delivered or dropped, and once."""
    endpoint = Endpoint(server)
    lost: list[int] = []
    client = make_client(
        spool_dir=str(tmp_path / "spool"),
        max_spool_bytes=MAX,
        overflow="drop_oldest",
        max_batch_size=20,
        on_drop=lambda reason, body: lost.append(json.loads(body or b"")["variables"]["n"]),
    )
    threads = [
        threading.Thread(target=lambda at=at: [_record(client, at + n) for n in range(1500)])
        for at in (0, 10_000, 20_000)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.flush(20)
    assert Counter(endpoint.numbers()) + Counter(lost) == Counter(
        at + n for at in (0, 10_000, 20_000) for n in range(1500)
    )
    assert client.stats().dropped.get("overflow", 0) == len(lost)
    assert client.stats().delivered == len(endpoint.triggers)


def test_block_waits_for_room_and_goes_on_with_it(
    tmp_path: Path, server: RecordingServer, make_client: Make
) -> None:
    """`overflow="block"`.

    A caller waits while the spool is full, and goes on when something has been delivered.
    """
    endpoint = Endpoint(server, 503)
    client = make_client(
        spool_dir=str(tmp_path / "spool"), max_spool_bytes=MAX, overflow="block", block_timeout=120.0
    )
    accepted = []
    thread = threading.Thread(target=lambda: accepted.extend(_record(client, n) for n in range(1500)))
    thread.start()
    segment = MAX // 8
    assert eventually(lambda: sum(file.stat().st_size for file in files_in(tmp_path / "spool")) > MAX - segment)
    assert client.stats().dropped == {}
    endpoint.answer = 201
    thread.join(30)
    assert accepted == [True] * 1500
    assert client.flush(20)
    assert endpoint.numbers() == list(range(1500))


def test_block_drops_after_its_time(tmp_path: Path, server: RecordingServer, make_client: Make) -> None:
    """`overflow="block"` with nothing delivered: dropped and counted when `block_timeout` is over."""
    Endpoint(server, 503)
    client = make_client(
        spool_dir=str(tmp_path / "spool"), max_spool_bytes=MAX, overflow="block", block_timeout=0.05
    )
    count = _fill(client)
    assert client.stats().dropped == {"overflow": 1}
    assert client.stats().recorded == count + 1


def test_raise_says_what_to_do(tmp_path: Path, server: RecordingServer, make_client: Make) -> None:
    """`overflow="raise"`.

    `BufferFull` names the setting; it is counted, and recording goes on when there is room.
    """
    endpoint = Endpoint(server, 503)
    client = make_client(spool_dir=str(tmp_path / "spool"), max_spool_bytes=MAX, overflow="raise")
    with pytest.raises(BufferFull, match="raise max_spool_bytes"):
        _fill(client)
    assert client.stats().dropped == {"overflow": 1}
    endpoint.answer = 201
    assert client.flush(20)
    assert _record(client, 5000)


@pytest.mark.parametrize("overflow", ["drop_oldest", "block"])
def test_a_trigger_that_never_fits_drops_no_other(overflow: str, make_spooled: MakeClient) -> None:
    """A trigger larger than the whole spool is dropped at once, and no other to make room for it."""
    client = make_spooled(
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
