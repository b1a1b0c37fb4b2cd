"""The refused triggers that a collector keeps, on each engine."""

from __future__ import annotations

import gzip
import json
import random
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brockman.collector.errors import InvalidSetting
from brockman.collector.ingest import MAX_TEXT_BYTES, RefusedBody, parse_body, read_triggers
from brockman.collector.settings import Settings
from brockman.collector.store import open_store
from brockman.collector.store.base import Store
from brockman.collector.store.refused import Refusal, Refused, RefusedQuery
from tests.cli.conftest import listening
from tests.collector.running import Running, trigger
from tests.support.client import KEY
from tests.support.postgresql import Postgresql

Start = Callable[..., Running]
MISSING = "actor_id: empty; give a string that is not empty"


def bad(**more: Any) -> dict[str, Any]:
    """Return a trigger that is refused."""
    return trigger(**{"actor_id": "", **more})


def refused(collector: Running, **parameters: str) -> list[dict[str, Any]]:
    """Return what is kept, the oldest first."""
    return list(collector.get("refused/", **{"order": "oldest", "limit": "10000", **parameters}).json()["refused"])


def kept(collector: Running) -> list[Any]:
    return [one["trigger"] for one in refused(collector)]


def texts(collector: Running) -> list[Any]:
    return [one["text"] for one in refused(collector)]


@pytest.fixture
def collector(start: Start, location: str) -> Running:
    return start(database=location)


def delete(collector: Running, *parameters: tuple[str, str], key: str = KEY) -> Any:
    return collector.session.delete(
        f"{collector.endpoint}refused/", params=parameters, headers={"X-FL-API-KEY": key}, timeout=20
    )


def test_what_is_refused_of_an_array_is_kept_with_its_reason(collector: Running) -> None:
    first, second = bad(action="paid"), trigger(variables={"price": [1, None]})

    assert collector.post([first, trigger(), 7, second]).status_code == 207

    page = collector.get("refused/").json()
    assert {name: page[name] for name in page if name != "refused"} == {
        "total": 3,
        "next": None,
        "newest": "3",
        "removed": 0,
    }
    assert [(one["number"], one["reason"], one["trigger"], one["text"]) for one in page["refused"]] == [
        (3, "variables['price'][1]: null; give a string, number or boolean", second, None),
        (2, "trigger: a number; give an object", None, "7"),
        (1, MISSING, first, None),
    ]
    assert {one["sender"] for one in page["refused"]} == {None}
    assert all(one["received_at"].endswith("Z") for one in page["refused"])


def test_a_single_trigger_that_is_refused_is_kept(collector: Running) -> None:
    sent = bad()

    assert collector.post(sent).json() == {"error": MISSING}
    assert [(one["reason"], one["trigger"]) for one in refused(collector)] == [(MISSING, sent)]


def test_the_latest_refusal_of_an_id_is_kept(collector: Running) -> None:
    """A client sends the triggers of a refused array again, one by one."""
    one, other = bad(), bad()

    collector.post([one, other, one])
    collector.post({**one, "actor_id": 7})

    assert [(found["number"], found["trigger"]) for found in refused(collector)] == [
        (2, other),
        (3, {**one, "actor_id": 7}),
    ]
    collector.post([bad(id=one["id"].upper())])
    assert len(refused(collector)) == 2


def test_a_trigger_without_an_id_gets_one(collector: Running) -> None:
    """So that it can be sent again as often as needed, and is stored once."""
    nameless = {"actor_id": "", "action": "paid", "object": "cart"}

    collector.post([nameless, nameless])

    first, second = kept(collector)
    assert {**first, "id": None} == {**second, "id": None} == {**nameless, "id": None}
    assert uuid.UUID(first["id"]) != uuid.UUID(second["id"])


def test_what_is_stored_later_leaves(collector: Running) -> None:
    """Under its id, whoever sends it; a repeat too."""
    one, other, third = bad(), bad(), bad()
    collector.post([one, other, third])

    collector.post({**one, "actor_id": "7"})
    collector.post([trigger(), {**other, "actor_id": "7"}])
    assert kept(collector) == [third]

    collector.post(bad(id=one["id"]))
    assert len(kept(collector)) == 2
    collector.post({**one, "actor_id": "7"})
    assert kept(collector) == [third]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"no json", "no json"),
        (b"", ""),
        (b"[]", "[]"),
        (b'{"actor_id": "\\ud800"}', '{"actor_id": "\\ud800"}'),
        (b"\xff\x00{", "\ufffd\0{"),
        ("\ufdd0".encode(), "\ufdd0"),
        (b"[" * 100_000, "[" * MAX_TEXT_BYTES),
        ("€".encode() * 30_000, "€" * (MAX_TEXT_BYTES // 3)),
        (b"x" * 8 * 1024 * 1024, "x" * MAX_TEXT_BYTES),
        (b'"text"', '"text"'),
        (b"null", "null"),
    ],
    ids=str,
)
def test_a_body_that_is_no_trigger_is_kept_as_text(shared: Running, body: bytes, text: str) -> None:
    """The first 64 KiB of it, with the words of the answer."""
    answer = shared.post(body)

    assert answer.status_code == 400
    newest = shared.get("refused/", limit="1").json()["refused"][0]
    assert (newest["reason"], newest["trigger"], newest["text"]) == (answer.json()["error"], None, text)


def test_every_text_comes_back_from_each_engine(collector: Running) -> None:
    """NUL characters, noncharacters and whatever else JSON can hold."""
    strange = {"actor_id": "\0a\ufdd00", "action": "", "object": "\0", "variables": {"\0": "\U0001f600\ufdd01"}}

    collector.post([bad(**strange)])
    collector.post(b"\0no json\0")

    first, second = refused(collector)
    assert {name: first["trigger"][name] for name in strange} == strange
    assert second["text"] == "\0no json\0"
    assert [one["trigger"] for one in refused(collector, object="\0")] == [first["trigger"]]
    assert refused(collector, actor_id="\0a\ufdd00") == [first]


def test_what_is_nested_too_deeply_is_kept_as_text(collector: Running) -> None:
    deep = '{"a":[' * 300 + "]}" * 300
    sent = [json.dumps(trigger(**{name: "deep"})).replace('"deep"', deep) for name in ("variables", "extra")]

    assert collector.post(f"[{','.join(sent)},{deep}]".encode()).status_code == 207

    assert [one["trigger"] for one in refused(collector)] == [None] * 3
    for text in texts(collector):
        assert '{"a":[{"a":[' in text
        assert "…" in text


def test_a_body_that_is_not_gzip_is_kept_as_text(collector: Running) -> None:
    compressed = gzip.compress(json.dumps(trigger()).encode())

    assert collector.post(b"no gzip", {"Content-Encoding": "gzip"}).status_code == 400
    assert collector.post(compressed[:-4], {"Content-Encoding": "gzip"}).status_code == 400
    collector.post(gzip.compress(b"no json"), {"Content-Encoding": "gzip"})

    first, second, third = refused(collector)
    assert first["text"] == "no gzip"
    assert second["text"].startswith("\x1f\ufffd")
    assert third["reason"].startswith("the body is not JSON")


def test_what_is_not_read_is_not_kept(collector: Running) -> None:
    """A wrong key, another type, too many bytes or triggers."""
    assert collector.post(bad(), key="other").status_code == 403
    assert collector.post(bad(), {"Content-Type": "text/plain"}).status_code == 415
    assert collector.post(b" " * (8 * 1024 * 1024 + 1)).status_code == 413
    assert (
        collector.post(gzip.compress(b" " * (8 * 1024 * 1024 + 1)), {"Content-Encoding": "gzip"}).status_code
        == 413
    )
    assert collector.post([bad()] * 10_001).status_code == 413

    assert collector.get("refused/").json() == {
        "refused": [],
        "total": 0,
        "next": None,
        "newest": "0",
        "removed": 0,
    }


def test_ten_thousand_bad_triggers_in_one_array_are_kept(collector: Running) -> None:
    """None is stored: the answer has no room for that many reasons."""
    sent = [bad(variables={"n": number}) for number in range(9_999)]

    assert collector.post([*sent, trigger()]).status_code == 400

    assert kept(collector) == sent
    assert collector.stored() == []


def test_the_filters_and_the_pages(collector: Running) -> None:
    collector.post([bad(action="paid", object=str(number)) for number in range(5)])
    collector.post([bad(action="viewed"), trigger(action="paid", object=""), trigger(actor_id="ada", id="x")])

    assert len(refused(collector, action="paid")) == 6
    assert [one["number"] for one in refused(collector, action="paid", object="3")] == [4]
    assert [one["number"] for one in refused(collector, reason="OBJECT: empty")] == [7]
    assert [one["number"] for one in refused(collector, reason="100%")] == []
    assert [one["trigger"]["id"] for one in refused(collector, actor_id="ada")] == ["x"]

    found, after, totals = list[int](), {}, set()
    while True:
        page = collector.get("refused/", limit="4", **after).json()
        found += [one["number"] for one in page["refused"]]
        totals.add(page["total"])
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == [8, 7, 6, 5, 4, 3, 2, 1]
    assert totals == {8}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"verb": "x"}, "verb"),
        ({"limit": "0"}, "limit"),
        ({"limit": "10001"}, "limit"),
        ({"after": "x"}, "after"),
        ({"order": "up"}, "order"),
        ({"number": "-1"}, "number"),
        ({"number": "1,"}, "number"),
        ({"all": "yes"}, "all"),
    ],
)
def test_a_mistake_in_a_query_is_named(shared: Running, query: dict[str, str], named: str) -> None:
    answer = shared.get("refused/", **query)
    assert answer.status_code == 400
    assert named in answer.json()["error"]


def test_the_read_key_is_needed(start: Start) -> None:
    collector = start(write_keys=["for-pages"])
    collector.post(bad())

    for key in ("for-pages", "other"):
        assert collector.get("refused/", key=key).status_code == 403
        assert delete(collector, ("all", "yes"), key=key).status_code == 403
    assert len(refused(collector)) == 1


def test_refused_triggers_can_be_removed(collector: Running) -> None:
    collector.post([bad(action="paid", object=str(number)) for number in range(5)])

    assert delete(collector, ("number", "1,3,99")).json() == {"removed": 2}
    assert delete(collector, ("object", "4"), ("reason", "empty")).json() == {"removed": 1}
    assert [one["number"] for one in refused(collector)] == [2, 4]
    for wrong in ([], [("all", "no")], [("all", "yes"), ("number", "1")], [("limit", "1")]):
        assert delete(collector, *wrong).status_code == 400
    assert delete(collector, ("number", ",".join(map(str, range(1001))))).status_code == 400
    assert delete(collector, ("all", "yes")).json() == {"removed": 2}
    assert collector.get("refused/").json()["removed"] == 0
    collector.post(bad())
    assert [one["number"] for one in refused(collector)] == [6]


@pytest.fixture
def store(location: str) -> Any:
    with closing(open_store(location)) as opened:
        yield opened


def sizes(found: Refused) -> tuple[int, int]:
    """Return how many are kept, and their bytes."""
    page = found.page(RefusedQuery(limit=100_000))
    return page.total, sum(refusal.size for _, refusal in page.refused)


def test_the_bound_is_exact_while_many_threads_write(store: Store) -> None:
    """In number and bytes, after each transaction; every trigger that left is counted."""
    bounded = Refused(store, max_count=50, max_bytes=20_000)
    rand = random.Random(7)
    batches = [
        [
            Refusal("why", 0, body="{}", text="x" * rand.choice([1, 100, 900]), id=str(uuid.uuid4()))
            for _ in range(n)
        ]
        for n in [rand.choice([1, 3, 70]) for _ in range(60)]
    ]
    stop, over = threading.Event(), list[tuple[int, int]]()

    def look() -> None:
        while not stop.is_set():
            total, size = sizes(bounded)
            if total > 50 or size > 20_000:
                over.append((total, size))

    watcher = threading.Thread(target=look)
    watcher.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bounded.keep, batches))
    stop.set()
    watcher.join()

    page = bounded.page(RefusedQuery(limit=100))
    assert over == []
    assert page.total + page.removed == sum(map(len, batches))
    assert page.total == len(page.refused) > 10
    numbers = [number for number, _ in page.refused]
    assert numbers == list(range(page.newest, page.newest - page.total, -1))


def test_one_that_is_larger_than_the_bound_is_not_kept(store: Store) -> None:
    bounded = Refused(store, max_bytes=1000)
    bounded.keep([Refusal("small", 0)])
    bounded.keep([Refusal("large", 0, text="x" * 1000)])
    bounded.keep([Refusal("first", 0), Refusal("large", 0, text="x" * 1000), Refusal("last", 0)])

    page = bounded.page(RefusedQuery())
    assert [refusal.reason for _, refusal in page.refused] == ["last", "small"]
    assert page.removed == 3


def test_what_is_about_a_person_can_be_erased(store: Store) -> None:
    """By actor id and identity, in triggers and in bodies that are none."""
    found = Refused(store)
    parsed = read_triggers(
        json.dumps(
            [
                trigger(actor_id="7", variables=0),
                trigger(actor_id="ada\0", variables=0),
                trigger(actor_id="8", variables=0, captured_identities={"email": ["x", " ADA@example.com"]}),
                trigger(actor_id="", captured_identities={"email": "ada@example.com", "n": 1}),
                trigger(actor_id="", captured_identities={"name": "ada@example.com"}),
                trigger(actor_id="", captured_identities=["ada@example.com"]),
                [{"actor_id": "ada\0"}],
                ["Ada@Example.com"],
                ["ada@example.com.au"],
            ]
        ).encode(),
        5,
    )
    found.keep(parsed.refused)

    erased = store.write(lambda transaction: found.erase(transaction, {"ada\0"}, {("email", "Ada@example.com")}))

    assert erased == 5
    assert [number for number, _ in found.page(RefusedQuery(newest_first=False)).refused] == [1, 5, 6, 9]
    assert found.remove(RefusedQuery(before=5)) == 0
    assert found.remove(RefusedQuery(before=6)) == 4
    assert sizes(found) == (0, 0)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('\0\ufdd0\\\t\n"a1', max_size=3), inner),
    max_leaves=8,
)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(JSON_VALUES, min_size=1, max_size=5), st.binary(max_size=30))
def test_whatever_is_refused_comes_back(store: Store, values: list[Any], body: bytes) -> None:
    """Any JSON, and any bytes."""
    found = Refused(store)
    found.remove(RefusedQuery())
    sent = [{**one, "actor_id": None} if isinstance(one, dict) else one for one in values]
    kept = read_triggers(json.dumps(sent).encode(), 1).refused
    with pytest.raises(RefusedBody) as raised:
        parse_body(b"\xff" + body, 2, is_gzip=False, max_bytes=100)
    kept += raised.value.refused

    found.keep(kept)

    page = found.page(RefusedQuery(newest_first=False, limit=1000))
    assert [refusal for _, refusal in page.refused] == kept


def test_nothing_is_kept_with_a_bound_of_zero(start: Start) -> None:
    collector = start(max_refused=0)

    assert collector.post(bad()).status_code == 400
    assert collector.post([bad(), trigger()]).status_code == 207
    assert refused(collector) == []
    with pytest.raises(InvalidSetting, match="max_refused"):
        Settings(database="x", max_refused=-1)


def test_a_store_that_cannot_be_written_makes_no_other_answer_of_a_400(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """The refusal is lost, and counted in the log; the next one is kept."""
    collector = start()
    collector.post(bad())
    aside = collector.database.with_suffix(".aside")
    collector.database.rename(aside)
    collector.database.mkdir()
    for _ in range(3):
        assert collector.post(bad()).status_code == 400
    assert collector.post([bad(), trigger()]).status_code == 503
    collector.database.rmdir()
    aside.rename(collector.database)

    assert collector.post(bad()).status_code == 400

    lines = [record.getMessage() for record in caplog.records if "refused triggers are" in record.getMessage()]
    assert [line.partition(":")[2].partition(":")[0] for line in lines] == [
        " refused triggers are not kept",
        " refused triggers are kept again; 3 are lost",
    ]


def test_two_collectors_on_one_store_keep_one_list(start: Start, postgresql: Postgresql) -> None:
    """With one bound; what one of them stores leaves the list of both."""
    location = postgresql.empty_database()
    collectors = [start(database=location, max_refused=30) for _ in range(2)]
    sent = [bad() for _ in range(200)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: collectors[sent.index(one) % 2].post(one), sent[:100]))
        list(
            pool.map(
                lambda start: collectors[start % 2].post([*sent[start : start + 5], trigger()]), range(100, 200, 5)
            )
        )

    first, second = (collector.get("refused/").json() for collector in collectors)
    assert first == second
    assert (first["total"], first["removed"]) == (30, 170)
    left = first["refused"][0]["trigger"]
    collectors[0].post({**left, "actor_id": "7"})
    assert left not in kept(collectors[1])


def test_what_was_answered_is_kept_through_a_kill(location: str, tmp_path: Path) -> None:
    """A 207 and a 400 are sent after the commit."""
    arguments = ["-m", "brockman", "serve", "--port", "0", "--store", location]
    single, entry = bad(), bad()
    with listening(arguments, tmp_path) as collector:
        collector.post(single)
        collector.post([entry, trigger()])
        assert collector.process is not None
        collector.process.kill()
    with closing(open_store(location)) as store:
        page = Refused(store).page(RefusedQuery(newest_first=False))
        assert [json.loads(refusal.body or "") for _, refusal in page.refused] == [single, entry]
        assert store.counts().triggers == 1
