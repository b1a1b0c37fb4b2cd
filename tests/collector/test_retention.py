"""Old triggers are removed: by age, and by the size of the store, while others arrive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import pytest

from brockman.collector.errors import InvalidSetting, StoreUnavailable
from brockman.collector.settings import Settings
from brockman.collector.store import open_store
from brockman.collector.store.base import Store, Transaction
from brockman.collector.store.pruning import Part, Removed
from brockman.collector.store.values import Added, Query
from brockman.collector.validation import Row
from tests.cli.conftest import listening
from tests.collector.running import Running, make_row, trigger
from tests.support.waiting import eventually

DAY = 86_400_000_000
START = int(datetime(2026, 1, 20, tzinfo=timezone.utc).timestamp()) * 1_000_000


def bodies(store: Store, **query: object) -> list[str]:
    return store.page(Query(**{"limit": 10_000, **query})).bodies  # type: ignore[arg-type]


def rows(first: int, number: int, day: int, size: int = 10) -> list[Row]:
    return [
        make_row(str(n), actor_id=str(n), received_at=START + day * DAY + n, body=f'"{n} {"x" * size}"')
        for n in range(first, first + number)
    ]


def test_the_age_counts_to_the_microsecond(store: Store) -> None:
    """Also within a month, whose triggers PostgreSQL has in one table."""
    days = [rows(10 * day, 10, day) for day in range(20)]  # two months
    for day in days:
        store.add(day)

    assert store.prune(START + 15 * DAY + 155) == 155

    assert [body.split()[0] for body in bodies(store)] == [f'"{n}' for n in range(155, 200)]
    counts = store.counts()
    assert (counts.triggers, counts.removed) == (45, 155)
    assert store.add(days[3]) == Added(10, ())  # no trace is left of an id
    assert store.prune(START + 15 * DAY + 155) == 10


def test_a_clock_that_was_ahead_keeps_nothing_else(store: Store) -> None:
    """Triggers of a moment in the future stay until then, those around them do not."""
    store.add(rows(0, 5, 0))
    store.add(rows(5, 5, 4000))
    store.add(rows(10, 5, 1))
    store.add(rows(15, 5, 3))

    assert store.prune(START + 2 * DAY) == 10

    assert [body.split()[0] for body in bodies(store)] == [f'"{n}' for n in (*range(5, 10), *range(15, 20))]


def test_a_cursor_finds_what_is_new_after_any_removal(store: Store) -> None:
    store.add(rows(0, 10, 0))
    cursor = store.page(Query()).arrivals[-1]
    store.prune(START + DAY)
    for number in range(10, 13):
        store.add(rows(number, 1, 1))
        assert len(bodies(store, after=cursor)) == number - 9
    store.prune(START + 2 * DAY)
    store.add(rows(20, 2, 2))
    assert [body.split()[0] for body in bodies(store, after=cursor)] == ['"20', '"21']


class Noted(Part):
    """A part that keeps what is removed."""

    def __init__(self) -> None:
        self.removed: list[Removed] = []
        self.pruned: list[int] = []

    def prune(self, before: int) -> None:
        self.pruned.append(before)

    def on_removed(self, transaction: Transaction, removed: list[Removed]) -> None:  # type: ignore[override]
        transaction.execute("SELECT count(*) FROM tally", [])
        self.removed += removed


def test_other_parts_of_the_store_follow_once(store: Store) -> None:
    """Those of a month that is dropped, and single ones."""
    noted = Noted()
    store.parts = (noted,)
    for day in range(20):
        store.add(rows(10 * day, 10, day))
    arrivals = store.page(Query(limit=1000)).arrivals

    store.prune(START + 15 * DAY + 155)
    store.prune(START + 15 * DAY + 155)

    expected = [(arrival, str(n)) for n, arrival in enumerate(arrivals[:155])]
    assert noted.removed == expected
    assert noted.pruned == [START + 15 * DAY + 155] * 2


def test_the_oldest_go_until_the_rest_fits(store: Store) -> None:
    """Again and again: the room that is made is used for what arrives, and no more goes than has to."""
    number = 0
    sizes = []
    for day in range(12):
        store.add(rows(number, 2000, day, size=1000))
        number += 2000
        store.shrink(10_000_000)
        sizes.append(store.used_bytes())
        kept = bodies(store)
        assert kept[-1].split()[0] == f'"{number - 1}'
        assert len(kept) == min(number, len(kept)) == store.counts().triggers
    assert max(sizes) < 11_000_000  # PostgreSQL: an estimate, from a sample
    assert sizes[-1] > 6_000_000
    assert store.counts().removed == number - store.counts().triggers
    assert 4000 < store.counts().triggers < 12_000


def test_a_store_that_is_small_enough_is_left_alone(store: Store) -> None:
    store.add(rows(0, 100, 0))
    assert store.shrink(50_000_000) == 0
    assert len(bodies(store)) == 100


def test_intake_goes_on_meanwhile(location: str) -> None:
    """Nothing new is lost, and nobody waits for the whole removal."""
    with closing(open_store(location)) as store:
        for first in range(0, 40_000, 8000):
            store.add(rows(first, 8000, 0))
        added, longest, end = [], [0.0], threading.Event()

        def add() -> None:
            number = 100_000
            while not end.is_set():
                started = time.monotonic()
                try:
                    assert store.add(rows(number, 10, 1)).stored == 10
                except StoreUnavailable:  # a client would send it again
                    continue
                longest.append(time.monotonic() - started)
                added.append(number)
                number += 10

        thread = threading.Thread(target=add)
        thread.start()
        try:
            assert eventually(lambda: added)
            before = len(added)
            assert store.prune(START + DAY) == 40_000
            assert len(added) > before + 5
        finally:
            end.set()
            thread.join()
        assert len(bodies(store, count=False)) == min(10_000, 10 * len(added))
        assert store.counts().triggers == 10 * len(added)


def test_a_collector_removes_what_is_too_old(
    start: Callable[..., Running], location: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By itself, while it runs, and what it finds when it starts; the log says how many."""
    with closing(open_store(location)) as store:
        store.add(rows(0, 100, 0))
    collector = start(database=location, keep=1.0)

    assert eventually(lambda: collector.stats()["triggers"] == 0)
    assert collector.post([trigger() for _ in range(5)]).status_code == 201
    assert eventually(lambda: collector.stats() == {**collector.stats(), "triggers": 0, "removed": 105})
    lines = [record.getMessage() for record in caplog.records if record.name == "brockman.collector"]
    assert lines[0] == "brockman: removed 100 triggers by age, 0 by the size of the store"


def test_a_collector_keeps_its_store_small(start: Callable[..., Running], tmp_path: Path) -> None:
    with closing(open_store(tmp_path / "triggers.sqlite3")) as store:
        for day in range(5):
            store.add(rows(1000 * day, 1000, day, size=1000))
    collector = start(max_bytes=2_000_000)

    assert eventually(lambda: collector.stats()["removed"] > 2500)
    assert 500 < collector.stats()["triggers"] < 2500


def test_a_store_that_is_away_is_tried_again(
    start: Callable[..., Running], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collector = start(keep=1.0)
    collector.post(trigger())
    (tmp_path / "triggers.sqlite3").rename(tmp_path / "away")
    assert eventually(lambda: "old triggers stay for now" in caplog.text)
    (tmp_path / "away").rename(tmp_path / "triggers.sqlite3")
    assert eventually(lambda: collector.stats()["triggers"] == 0)


@pytest.mark.parametrize("wrong", [{"keep": 0.0}, {"keep": float("nan")}, {"max_bytes": 999_999}])
def test_wrong_bounds_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidSetting, match=next(iter(wrong))):
        Settings(database="x", **wrong)  # type: ignore[arg-type]


def test_a_kill_in_the_middle_of_a_removal_leaves_a_store_that_goes_on(location: str) -> None:
    """The counts are those of what is there, and the next start removes the rest."""
    with closing(open_store(location)) as store:
        for first in range(0, 30_000, 6000):
            store.add(rows(first, 6000, 0))
    arguments = ["-m", "brockman", "serve", "--port", "0", "--store", location, "--keep", "12w"]
    with closing(open_store(location)) as store:
        for _ in range(2):
            before = store.counts().removed
            with listening(arguments, Path(location)) as collector:
                assert eventually(lambda before=before: store.counts().removed > before)
                assert collector.process is not None
                collector.process.kill()
                collector.process.wait(10)
            with store.reading() as snapshot:
                ((number,),) = snapshot.execute("SELECT count(*) FROM triggers", [])
            counts = store.counts()
            assert (counts.triggers, counts.triggers + counts.removed) == (number, 30_000)
            if not counts.triggers:  # the machine was faster
                break
        with listening(arguments, Path(location)):
            assert eventually(lambda: store.counts().triggers == 0)
