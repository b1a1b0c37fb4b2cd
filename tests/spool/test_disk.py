"""A disk that fills up, fails or is taken away: what was recorded is delivered, and counted once."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from brockman.client import FocusLabClient
from tests.spool.disks import PAD, Producers, away, files_in, fill, log_lines, mounted, open_below
from tests.support.client import law_holds, record
from tests.support.endpoint import Endpoint
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

AWAY, AGAIN = "cannot write to", "brockman: writing to"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    with mounted("tmpfs", tmp_path / "disk", "size=4m,mode=700") as path:
        yield path


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "brockman")


@pytest.fixture(autouse=True)
def _no_file_stays_open(tmp_path: Path) -> Iterator[None]:
    yield
    assert eventually(lambda: open_below(tmp_path) == 0), f"{open_below(tmp_path)} descriptors are left open"


def test_a_full_disk_loses_nothing_that_was_accepted(
    small_disk: Path,
    server: RecordingServer,
    make_client: Callable[..., FocusLabClient],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A disk that fills up: memory takes the rest within its bounds, and then it goes to disk again by itself."""
    endpoint = Endpoint(server, 503)
    client = make_client(spool_dir=str(small_disk / "spool"), max_queue_size=500)
    producers = Producers(client, threads=4)

    def overflows() -> bool:
        producers.check_law()
        return client.stats().dropped.get("overflow", 0) > 100

    assert eventually(overflows)
    assert "No space left" in str(client.stats().spool_error)
    producers.slow_down(0.002)
    endpoint.answer = 201

    def is_back() -> bool:
        producers.check_law()
        return client.stats().spool_error is None and client.stats().queued < 500

    assert eventually(is_back)
    again = producers.count
    assert eventually(lambda: producers.count > again + 200)  # while it goes to disk
    kept = producers.stop()
    assert client.flush(20)
    stats = client.stats()
    assert Counter(endpoint.numbers()) == Counter(kept)
    assert stats.delivered == len(kept)
    assert stats.recorded == len(kept) + stats.dropped["overflow"] == sum(producers.tried)
    for numbers in producers.kept:
        mine = set(numbers)
        assert [number for number in endpoint.numbers() if number in mine] == numbers  # in order
    assert len(log_lines(caplog, AWAY, logging.ERROR)) == 1
    assert len(log_lines(caplog, AGAIN)) == 1
    client.close()
    assert files_in(small_disk / "spool") == []


def test_memory_holds_its_bounds_while_the_disk_takes_nothing(
    small_disk: Path, server: RecordingServer, make_client: Callable[..., FocusLabClient]
) -> None:
    """Not one trigger more, and not one byte more, waits in memory than without a spool."""
    Endpoint(server, 503)
    fill(small_disk / "foreign")
    by_count = make_client(spool_dir=str(small_disk / "spool"), max_queue_size=100)
    by_bytes = make_client(spool_dir=str(small_disk / "spool"), max_queue_bytes=20_000)
    for client in (by_count, by_bytes):
        accepted = [client.record_trigger("a", "b", "c", variables={"pad": PAD}) for _ in range(200)]
        stats = client.stats()
        assert law_holds(client, 200)
        assert sum(accepted) == 200 - stats.dropped["overflow"]
        assert stats.queued + stats.in_flight == sum(accepted)
        assert stats.queued_bytes <= 20_000 or client is by_count
    assert by_count.stats().queued + by_count.stats().in_flight in range(100, 201)
    assert law_holds(by_count, 200)
    assert law_holds(by_bytes, 200)


def test_what_waits_in_memory_goes_to_disk_at_the_end_if_it_can(
    small_disk: Path, server: RecordingServer, make_client: Callable[..., FocusLabClient]
) -> None:
    """A disk that has room again when the process ends takes what waits in memory.

    The next process delivers it.
    """
    endpoint = Endpoint(server, 503)
    fill(small_disk / "foreign")
    client = make_client(spool_dir=str(small_disk / "spool"), transport=away())
    record(client, 50)
    assert eventually(lambda: client.stats().spool_error is not None)
    (small_disk / "foreign").unlink()
    client.close(0)
    assert client.stats().dropped == {}
    assert client.stats().queued == 50
    endpoint.answer = 201
    later = make_client(spool_dir=str(small_disk / "spool"))
    record(later, 1, start=50)
    assert eventually(lambda: len(endpoint.triggers) == 51)
    assert Counter(endpoint.numbers()) == Counter(range(51))


def test_callers_that_wait_for_room_in_memory_go_on_when_the_disk_works_again(
    small_disk: Path, server: RecordingServer, make_client: Callable[..., FocusLabClient]
) -> None:
    """`overflow="block"`.

    They go on when the disk takes triggers again, not at the end of the timeout.
    """
    Endpoint(server, 503)
    fill(small_disk / "foreign")
    client = make_client(
        spool_dir=str(small_disk / "spool"), max_queue_size=10, overflow="block", block_timeout=60.0
    )
    producers = Producers(client, threads=2)
    assert eventually(lambda: sum(producers.tried) - producers.count == 2 and client.stats().queued > 0)
    stuck = producers.count
    (small_disk / "foreign").unlink()
    assert eventually(lambda: producers.count > stuck + 20, 20)
    producers.stop()
    assert client.stats().dropped == {}


def clean(path: Path) -> None:
    """Remove a folder in which a process goes on making files meanwhile."""
    gone = path.with_name("gone")
    path.rename(gone)
    while gone.exists():
        shutil.rmtree(gone, ignore_errors=True)


REMOVALS: dict[str, Callable[[Path], object]] = {
    "the spool": clean,
    "the folder of the process": lambda spool: clean(next(spool.iterdir())),
    "the segment that is written": lambda spool: max(spool.glob("*/0*[0-9]")).unlink(),
    "the acknowledgement": lambda spool: next(spool.glob("*/*.ack")).unlink(missing_ok=True),
}


@pytest.mark.parametrize("what", REMOVALS)
def test_a_removed_file_harms_nothing_that_this_process_can_still_read(
    what: str, tmp_path: Path, server: RecordingServer, make_client: Callable[..., FocusLabClient]
) -> None:
    """Somebody cleans up while threads record.

    The process goes on, and delivers what it still has in its hands.
    """
    endpoint, spool = Endpoint(server), tmp_path / "spool"
    client = make_client(spool_dir=str(spool), max_batch_size=20)
    producers = Producers(client, threads=2, pad="")
    producers.slow_down(0.001)
    assert eventually(lambda: len(endpoint.triggers) > 100 and any(spool.glob("*/*.ack")))
    REMOVALS[what](spool)
    more = len(endpoint.triggers)
    assert eventually(lambda: len(endpoint.triggers) > more + 100)
    producers.check_law()
    kept = producers.stop()
    assert client.flush(20)
    assert Counter(endpoint.numbers()) == Counter(kept)
    assert client.stats().dropped == {}
    client.close()
    assert not spool.exists() or files_in(spool) == []


def test_a_removed_sealed_segment_is_counted(
    tmp_path: Path, server: RecordingServer, make_client: Callable[..., FocusLabClient]
) -> None:
    """A file that someone removes before it was sent is counted as damaged.

    `on_drop` is called for each; the rest is sent.
    """
    endpoint, spool = Endpoint(server, 503), tmp_path / "spool"
    lost: list[tuple[str, bytes | None]] = []
    client = make_client(
        spool_dir=str(spool), max_spool_bytes=2**20, on_drop=lambda *dropped: lost.append(dropped)
    )  # segments of 128 KB
    while len(list(spool.glob("*/0*[0-9]"))) < 4:
        assert client.record_trigger("a", "b", "c", variables={"n": client.stats().recorded, "pad": PAD})
    total = client.stats().recorded
    second = sorted(spool.glob("*/0*[0-9]"))[1]
    gone = second.read_bytes().count(b"\x1e")
    second.unlink()
    endpoint.answer = 201
    client.flush(20)
    assert client.stats().dropped == {"damaged": gone}
    assert client.stats().delivered == len(endpoint.triggers) == total - gone
    assert client.stats().recorded == total
    assert lost == [("damaged", None)] * gone
    assert max(Counter(endpoint.numbers()).values()) == 1


def test_a_spool_that_is_removed_again_and_again_opens_no_more_and_more_files(
    tmp_path: Path, server: RecordingServer, make_client: Callable[..., FocusLabClient]
) -> None:
    """A cleaner that comes every day does not use up the descriptors of a process that runs for months."""
    endpoint, spool = Endpoint(server), tmp_path / "spool"
    client = make_client(spool_dir=str(spool), max_spool_bytes=2**20)

    def segments() -> set[str]:
        return {name for _, _, names in os.walk(spool) for name in names if name.isdigit()}

    def fill_a_segment() -> None:
        before = segments()
        while segments() <= before:
            client.record_trigger("a", "b", "c", variables={"n": client.stats().recorded, "pad": PAD})
        assert client.flush(20)

    fill_a_segment()
    counts = []
    for _ in range(6):
        clean(spool)
        spool.mkdir(0o700, exist_ok=True)
        fill_a_segment()
        counts.append(open_below(tmp_path))
    # The worker closes in its own time.
    assert eventually(lambda: open_below(tmp_path) <= max(counts[:3]) + 2), counts
    assert client.stats().delivered == len(endpoint.triggers)
    assert client.stats().dropped == {}


def test_a_disk_that_works_again_is_used_though_threads_never_rest(
    small_disk: Path, server: RecordingServer, make_client: Callable[..., FocusLabClient]
) -> None:
    """Eight threads put into memory faster than the worker could move: still all goes to disk soon, in order."""
    endpoint = Endpoint(server, 503)
    fill(small_disk / "foreign")
    client = make_client(spool_dir=str(small_disk / "spool"), max_queue_size=2000)
    producers = Producers(client, threads=8, pad="")

    def overflown() -> int:
        return client.stats().dropped.get("overflow", 0)

    assert eventually(lambda: overflown() > 1000)
    (small_disk / "foreign").unlink()

    def goes_to_disk() -> bool:
        dropped, kept = overflown(), producers.count
        return eventually(lambda: producers.count > kept + 500) and overflown() == dropped

    assert eventually(goes_to_disk)
    kept = producers.stop()
    endpoint.answer = 201
    assert client.flush(20)
    assert Counter(endpoint.numbers()) == Counter(kept)
    for numbers in producers.kept:
        mine = set(numbers)
        assert [number for number in endpoint.numbers() if number in mine] == numbers
