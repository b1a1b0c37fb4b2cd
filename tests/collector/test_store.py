"""The promises of a store, on each engine."""

from __future__ import annotations

import math
import threading
import uuid
from contextlib import closing
from datetime import datetime, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brockman.collector import strict_json
from brockman.collector.errors import StoreUnavailable
from brockman.collector.store import open_store
from brockman.collector.store.base import Store
from brockman.collector.store.postgresql_schema import BLOCK
from brockman.collector.store.sqlite import SqliteStore
from brockman.collector.store.values import Added, Counts, Query
from brockman.collector.validation import Row
from tests.collector.running import make_row
from tests.support.waiting import eventually


def bodies(store: Store, **query: object) -> list[str]:
    return store.page(Query(**{"limit": 1000, **query})).bodies  # type: ignore[arg-type]


def micros(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=timezone.utc).timestamp()) * 1_000_000


def test_a_trigger_is_stored_once_and_its_repeats_are_named(store: Store) -> None:
    a, b, c, d = (make_row(name) for name in "abcd")

    assert store.add([a, b, a]) == Added(2, (a[0],))
    assert store.add([c, b, d, c]) == Added(2, (b[0], c[0]))
    assert store.add([b]) == Added(0, (b[0],))

    assert bodies(store) == ['"a"', '"b"', '"c"', '"d"']
    assert store.counts() == Counts(triggers=4, duplicates=4, rejected=0, requests=3)
    assert store.stored == 4


def test_a_repeat_differs_in_nothing_but_its_id(store: Store) -> None:
    """Whatever else the second one says, and whenever it arrives."""
    first = make_row("a", received_at=micros(2026, 1, 31))
    again = make_row("a", received_at=micros(2026, 2, 1), recorded_at=5, actor_id="8", body='"other"')

    assert store.add([first]).stored == 1
    assert store.add([again]) == Added(0, (first[0],))
    assert bodies(store) == ['"a"']


def test_a_request_without_valid_triggers_is_counted(store: Store) -> None:
    assert store.add([], rejected=3) == Added(0, ())
    assert store.counts() == Counts(triggers=0, duplicates=0, rejected=3, requests=1)


def test_what_was_stored_is_there_after_reopening(location: str) -> None:
    for name in "ab":
        with closing(open_store(location)) as store:
            store.add([make_row(name), make_row("a")])
    with closing(open_store(location)) as store:
        assert bodies(store) == ['"a"', '"b"']
        assert store.counts() == Counts(triggers=2, duplicates=2, rejected=0, requests=2)
        assert store.stored == 0


def test_filters_are_exact_for_every_text(store: Store) -> None:
    """Long ones, NUL, and characters beside it."""
    texts = [
        "7",
        "7\0",
        "\0",
        "7\ufdd0",
        "7\ufdd00",
        "7\ufdd01",
        "7␀",
        "7\\u0000",
        "x" * 9000,
        "x" * 9000 + "y",
        "é",
        "e\u0301",
        "😀",
    ]
    store.add([make_row(str(n), actor_id=text, action=text, object=text) for n, text in enumerate(texts)])

    for number, text in enumerate(texts):
        for column in ("actor_id", "action", "object"):
            page = store.page(Query(**{column: text}))  # type: ignore[arg-type]
            assert (page.bodies, page.total) == ([f'"{number}"'], 1)


def test_a_query_combines_its_filters(store: Store) -> None:
    rows = [make_row(str(n), actor_id=str(n % 2), action=str(n % 3), recorded_at=n) for n in range(12)]
    store.add(rows)

    assert bodies(store, actor_id="1", action="0") == ['"3"', '"9"']
    assert bodies(store, since=3, until=6) == ['"3"', '"4"', '"5"']
    assert bodies(store, id=rows[5][0], actor_id="1") == ['"5"']
    assert bodies(store, id=rows[5][0], actor_id="0") == []


texts = st.sampled_from(["a", "b", "\0", "a\0b", "\ufdd0", "\ufdd00", "A", "%", "_", "\\", "é"]) | st.text(
    min_size=1
)
queries = st.fixed_dictionaries(
    {},
    optional={
        "actor_id": texts,
        "action": texts,
        "since": st.integers(-10, 10),
        "until": st.integers(-10, 10),
        "limit": st.integers(1, 5),
        "newest_first": st.booleans(),
    },
)


@settings(
    max_examples=20,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_a_store_does_what_a_list_would(store: Store, data: st.DataObject) -> None:
    """Whatever is stored, repeated and asked for, in whatever order."""
    here = uuid.uuid4().hex  # the store has what earlier examples stored
    rows = st.builds(
        lambda number, **columns: make_row(f"{here} {number}", object=here, **columns),
        st.integers(0, 12),
        actor_id=texts,
        action=texts,
        recorded_at=st.integers(-10, 10),
        body=st.text().map(strict_json.dump),
    )
    known: list[Row] = []
    for batch in data.draw(st.lists(st.lists(rows, max_size=8), max_size=5)):
        new, repeated = [], []
        for row in batch:
            is_new = row[0] not in {stored[0] for stored in known + new}
            (new if is_new else repeated).append(row)
        assert store.add(batch) == Added(len(new), tuple(row[0] for row in repeated))
        known += new
    for filters in data.draw(st.lists(queries, max_size=5)):
        query = Query(object=here, **{"limit": 100, **filters})  # type: ignore[arg-type]
        expected = [row for row in known if matches(row, query)]
        page = store.page(query)
        assert page.total == len(expected)
        if query.newest_first:
            expected.reverse()
        assert page.bodies == [row[6] for row in expected][: query.limit]
        assert page.next == (page.arrivals[-1] if len(expected) > query.limit else None)


def matches(row: Row, query: Query) -> bool:
    _, actor_id, action, _, recorded_at, _, _ = row
    return (
        query.actor_id in (None, actor_id)
        and query.action in (None, action)
        and (query.since is None or recorded_at >= query.since)
        and (query.until is None or recorded_at < query.until)
    )


@pytest.mark.parametrize(
    "text", ["Ada", "50%", "a_b", "C:\\dir", 'say "hi"', "two\nlines", "\0", "\x7f", "é", "😀", "%", "\\", "a\\%b"]
)
def test_a_search_finds_text_as_it_is(store: Store, text: str) -> None:
    """Wildcards of SQL and escapes of JSON are text."""
    store.add([make_row("found", body=strict_json.dump({"title": f"x{text}y"}))])
    others = ["5 0", "a-b", "C:/dir", "say hi", "twonlines", "u0000", "e", "x", "a/b"]
    store.add([make_row(other, body=strict_json.dump({"title": other})) for other in others])

    page = store.page(Query(search=text))

    assert (len(page.bodies), page.total) == (1, 1)
    assert (
        bodies(store, search=text.lower()) == bodies(store, search=text.upper().replace("É", "é")) == page.bodies
    )


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("sought", [{"search": "found"}, {"object": "found"}])
def test_a_long_search_goes_on_in_the_next_page(store: Store, newest_first: bool, sought: dict[str, str]) -> None:
    """Its pages are short and say how far they came; together they have each match once, in order."""
    store.window, store.budget = 1 if isinstance(store, SqliteStore) else BLOCK, 0.0  # a trigger
    for number in range(48):
        obj = "found" if number % 20 == 0 else "other"
        store.add([make_row(f"{obj} {number}", object=obj, received_at=micros(2026, 1 + number // 24, 1))])

    found, moments, after = [], [], None
    for _ in range(50):
        query = Query(**sought, newest_first=newest_first, after=after, count=False)  # type: ignore[arg-type]
        page = store.page(query)
        found += page.bodies
        after = page.next
        if after is None:
            break
        assert page.searched_to is not None
        moments.append(page.searched_to)

    expected = ['"found 0"', '"found 20"', '"found 40"']
    assert found == (expected[::-1] if newest_first else expected)
    assert len(set(moments)) > 1
    assert page.searched_to is None


def test_a_search_that_ends_in_time_is_one_page(store: Store) -> None:
    store.window, store.budget = 1 if isinstance(store, SqliteStore) else BLOCK, math.inf
    store.add([make_row(f"other {number}") for number in range(50)])

    page = store.page(Query(search="found", newest_first=True))

    assert (page.bodies, page.next, page.searched_to) == ([], None, None)


def test_a_search_folds_the_letters_of_ascii_alone(store: Store) -> None:
    store.add([make_row("a", body='"ÉCOLE"'), make_row("b", body='"école"')])

    assert bodies(store, search="éCole") == ['"école"']


@pytest.mark.parametrize("newest_first", [False, True])
def test_pages_follow_one_another_in_both_directions(store: Store, newest_first: bool) -> None:
    for number in range(0, 10, 2):
        store.add([make_row(str(number)), make_row(str(number + 1))])
    found: list[str] = []
    page = store.page(Query(limit=3, newest_first=newest_first))
    while True:
        found += page.bodies
        assert page.total == 10
        if page.next is None:
            break
        page = store.page(Query(limit=3, newest_first=newest_first, after=page.next))

    expected = [f'"{number}"' for number in range(10)]
    assert found == (expected[::-1] if newest_first else expected)


@pytest.mark.parametrize("after", [0, 2**63 - 1])
@pytest.mark.parametrize("newest_first", [False, True])
def test_a_cursor_beyond_the_ends_is_no_error(store: Store, after: int, newest_first: bool) -> None:
    store.add([make_row("a")])

    found = bodies(store, after=after, newest_first=newest_first)
    assert found == (['"a"'] if newest_first == bool(after) else [])


def test_a_page_names_the_arrival_of_each_trigger(store: Store) -> None:
    store.add([make_row(name) for name in "abc"])

    page = store.page(Query(count=False))

    assert page.total is None
    assert page.arrivals == sorted(set(page.arrivals))
    assert [bodies(store, after=arrival) for arrival in page.arrivals] == [['"b"', '"c"'], ['"c"'], []]


def test_a_page_has_a_limit_of_bytes_too(store: Store) -> None:
    store.max_page_bytes = 100
    store.add([make_row(str(number), body="x" * 60) for number in range(5)])

    pages = [store.page(Query())]
    while pages[-1].next is not None:
        pages.append(store.page(Query(after=pages[-1].next)))

    assert [len(page.bodies) for page in pages] == [2, 2, 1]


def test_many_threads_lose_nothing(store: Store) -> None:
    """Each also sends what the others send, in another order."""
    stored: list[int] = []
    retry_after = set[int]()

    def send(number: int) -> None:
        order = list(range(20)) if number % 2 else list(range(19, -1, -1))
        for m in order:
            rows = [make_row(f"{number} {m}"), *(make_row(f"shared {k}") for k in order)]
            while True:
                try:
                    stored.append(store.add(rows).stored)
                    break
                except StoreUnavailable as error:
                    retry_after.add(error.retry_after)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert retry_after <= {1}
    assert sum(stored) == store.stored == 6 * 20 + 20
    assert len(set(bodies(store))) == len(bodies(store)) == store.counts().triggers == 6 * 20 + 20


def test_a_reader_that_follows_the_arrivals_misses_none(location: str) -> None:
    """Though transactions commit in another order than they begin: a cursor is never ahead of one to come."""
    with closing(open_store(location)) as writer, closing(open_store(location)) as reader:

        def send(number: int) -> None:
            for m in range(30):
                writer.add([make_row(f"{number} {m} {k}") for k in range(1 + 40 * (number % 2))])

        threads = [threading.Thread(target=send, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        found: list[str] = []
        after = 0
        while True:
            are_done = not any(thread.is_alive() for thread in threads)
            page = reader.page(Query(limit=7, after=after, count=False))
            found += page.bodies
            if page.arrivals:
                after = page.arrivals[-1]
            elif are_done:
                break
        for thread in threads:
            thread.join()
        assert sorted(found) == sorted(bodies(reader, limit=10_000))
        assert len(found) == 30 * (1 + 41 + 1)


def test_a_watcher_is_called_for_the_triggers_of_every_collector(location: str) -> None:
    called: list[int] = []
    with closing(open_store(location)) as store:
        end = store.watch(lambda: called.append(store.counts().triggers))
        store.add([make_row("a")])
        assert eventually(lambda: 1 in called)
        store.add([make_row("b")])
        assert eventually(lambda: 2 in called)
        end()
        store.watch(lambda: 1 // 0)  # logged; the others are called
        store.watch(lambda: called.append(-store.counts().triggers))
        store.add([make_row("c")])
        assert eventually(lambda: -3 in called)
        assert 3 not in called


def test_pruning_removes_old_triggers_and_nothing_else(store: Store) -> None:
    """Their ids too: a removed trigger could be stored again."""
    old = [make_row(f"old {n}", received_at=micros(2025, month, 28)) for n, month in enumerate((11, 12, 12))]
    new = [make_row(f"new {n}", received_at=micros(2026, 1, day)) for n, day in enumerate((1, 31))]
    store.add(old)
    store.add(new)

    assert store.prune(micros(2026, 1, 1)) == 3
    assert store.prune(micros(2026, 1, 1)) == 0

    assert bodies(store) == ['"new 0"', '"new 1"']
    assert store.counts().triggers == 2
    assert store.add([*old, *new]) == Added(3, tuple(row[0] for row in new))
    assert store.prune(micros(2026, 3, 1)) == 5
    assert (bodies(store), store.counts().triggers) == ([], 0)


def test_pruning_takes_many_steps_for_many_triggers(store: Store) -> None:
    for first in range(0, 24_000, 8000):
        store.add([make_row(str(n)) for n in range(first, first + 8000)])
    store.add([make_row("kept", received_at=micros(2026, 1, 31))])

    assert store.prune(micros(2026, 1, 1)) == 24_000

    assert bodies(store) == ['"kept"']
    assert store.add([make_row("23999")]).stored == 1


def test_after_pruning_a_cursor_finds_what_is_new(store: Store) -> None:
    store.add([make_row("a"), make_row("b")])
    last = store.page(Query()).arrivals[-1]
    store.prune(micros(2026, 1, 1))

    store.add([make_row("c"), make_row("d"), make_row("c")])

    assert bodies(store, after=last) == ['"c"', '"d"']
    assert store.counts().triggers == 2


def test_a_closed_store_accepts_nothing(store: Store) -> None:
    store.add([make_row("a")])
    store.close()
    store.close()

    with pytest.raises(StoreUnavailable, match="shutting down"):
        store.add([make_row("b")])


# It has no end, and no row to hand over before it.
_ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT (i + 1) % 1000 FROM n) SELECT max(i) FROM n"


def test_a_read_ends_after_its_timeout(store: Store) -> None:
    """With words for the person who asked; the store goes on."""
    store.add([make_row("a")])
    with (
        pytest.raises(StoreUnavailable, match=r"reading took longer than 0\.2 s; ask for less") as caught,
        store.reading(timeout=0.2) as snapshot,
    ):
        list(snapshot.execute(_ENDLESS, []))

    assert caught.value.retry_after == 10
    assert bodies(store) == ['"a"']


def test_a_read_does_not_delay_the_end_of_the_collector(store: Store) -> None:
    """It ends with the store."""
    reads, errors = threading.Event(), list[StoreUnavailable]()

    def read() -> None:
        try:
            with store.reading(timeout=math.inf) as snapshot:
                list(snapshot.execute("SELECT 1", []))
                reads.set()
                list(snapshot.execute(_ENDLESS, []))
        except StoreUnavailable as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert reads.wait(10)
    store.close()
    thread.join(10)
    assert not thread.is_alive()
    assert [str(error) for error in errors] == ["the collector is shutting down"]
