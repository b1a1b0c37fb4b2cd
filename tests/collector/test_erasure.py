"""A person is erased: what is stored, from the files too, and for good."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from brockman.collector.store import open_store
from brockman.collector.store.base import Store
from brockman.collector.store.erasure import Erasure
from brockman.collector.store.people import People
from brockman.collector.store.pruning import Part, Subject
from brockman.collector.store.values import Added, Query
from brockman.collector.validation import Row, make_row
from tests.collector.running import Running, trigger

EMAIL = "ada.lovelace@example.com"


def row(actor_id: str, number: int = 0, email: object = None, **more: Any) -> Row:
    identities = {} if email is None else {"captured_identities": {"email": email}}
    sent = trigger(actor_id=actor_id, **{"variables": {"n": number}, **identities, **more})
    return make_row(sent, 0, str)


def actors(store: Store) -> list[str]:
    return [json.loads(body)["actor_id"] for body in store.page(Query(limit=10_000)).bodies]


def raw(path: Path) -> bytes:
    """Return what the files of a SQLite database have."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*")))


def test_an_actor_is_erased_and_nobody_else(store: Store) -> None:
    odd = "7\0\ufdd0" + "x" * 5000
    store.add([row(actor) for actor in ("7", odd, "70", "7 ", odd + "x", "7")])

    assert Erasure(store).run(actor_id=odd, is_trial=True).triggers == 1
    assert Erasure(store).run(actor_id=odd).actor_ids == {odd}
    assert Erasure(store).run(actor_id="7").triggers == 2
    assert Erasure(store).run(actor_id="7").triggers == 0

    assert actors(store) == ["70", "7 ", odd + "x"]
    assert (store.counts().triggers, store.counts().removed) == (3, 3)


def test_an_identity_stands_for_all_triggers_of_its_actors(store: Store) -> None:
    """Also those without it, and those that have it in a list; a text within another is another identity."""
    store.add(
        [
            row("a", email=EMAIL),
            row("a"),
            row("b", email=["x@example.com", EMAIL]),
            row("b", email=None),
            row("h", email=EMAIL.upper() + " "),
            row("c", email=f"x{EMAIL}"),
            row("d", variables={"email": EMAIL}),
            row("e", captured_identities={"mail": EMAIL}),
            row("f", captured_identities={"n": 7}),
            row("g", captured_identities={"n": 70}),
        ]
    )

    trial = Erasure(store).run(identity=("email", EMAIL), is_trial=True)
    erased = Erasure(store).run(identity=("email", EMAIL))

    assert trial.triggers == erased.triggers == 5
    assert trial.actor_ids == erased.actor_ids == {"a", "b", "h"}
    assert erased.identities == {("email", EMAIL), ("email", "x@example.com")}
    assert Erasure(store).run(identity=("n", "7")).triggers == 1
    assert actors(store) == ["c", "d", "e", "g"]


def test_the_actors_that_were_joined_are_erased_too(store: Store) -> None:
    store.add([row("a", email=EMAIL), row("b"), row("c")])

    erased = Erasure(store, lambda name, value: ["a", "b"]).run(identity=("email", EMAIL))

    assert (erased.triggers, actors(store)) == (2, ["c"])


def test_an_identity_of_very_many_is_erased_alone(store: Store) -> None:
    """`unknown@example.com` is nobody: the other triggers of those who had it stay."""
    for number in range(3):
        store.add([row(str(number), email="unknown@example.com"), row(str(number))])

    erased = Erasure(store, max_actors=2).run(identity=("email", "unknown@example.com"))

    assert (erased.triggers, actors(store)) == (3, ["0", "1", "2"])
    store.add([row("0", email="unknown@example.com")])
    assert Erasure(store, lambda *_: None).run(identity=("email", "unknown@example.com")).triggers == 1
    assert actors(store) == ["0", "1", "2"]


def test_letters_of_any_alphabet_are_compared(store: Store) -> None:
    store.add([row("a", email="ÉVA@EXAMPLE.COM"), row("b", email="eva@example.com")])
    assert Erasure(store).run(identity=("email", "éva@example.com")).actor_ids == {"a"}


def test_what_was_erased_is_not_stored_again(location: str) -> None:
    """By a retry, a spool or an import, at any later time; a new trigger of the same person is."""
    rows = [row(str(n % 3), n) for n in range(30)]
    with closing(open_store(location)) as store:
        store.add(rows)
        Erasure(store).run(actor_id="0")
    with closing(open_store(location)) as store:
        again = store.add(rows[::-1])
        assert again == Added(0, tuple(row[0] for row in rows[::-1]))
        assert store.add(rows[:1]) == Added(0, (rows[0][0],))
        assert store.add([*rows[:4], row("0")]).stored == 1
        assert set(actors(store)[:-1]) == {"1", "2"}
        assert actors(store)[-1] == "0"
        store.prune(10**15)
        assert store.add(rows).stored == 20


def test_a_cursor_finds_what_is_new_after_an_erasure(store: Store) -> None:
    store.add([row("a"), row("b"), row("b")])
    cursor = store.page(Query()).arrivals[-1]
    Erasure(store).run(actor_id="b")
    store.add([row("c")])
    assert [json.loads(body)["actor_id"] for body in store.page(Query(after=cursor)).bodies] == ["c"]


def test_the_files_have_no_trace_of_what_was_erased(tmp_path: Path) -> None:
    """Neither the database nor its write-ahead log, even of what was moved within them."""
    path = tmp_path / "store.sqlite3"
    with closing(open_store(path)) as store:
        for first in range(0, 3000, 500):
            store.add(
                [
                    row(f"actor {n}", n, email=f"{n % 7} {EMAIL}" if n % 7 else EMAIL, object="x" * (n % 900 + 1))
                    for n in range(first, first + 500)
                ]
            )
        assert raw(path).count(f'"{EMAIL}'.encode()) > 400
        assert Erasure(store, lambda *_: []).run(identity=("email", EMAIL)).is_overwritten
        assert f'"{EMAIL}'.encode() not in raw(path)
        assert raw(path).count(f"1 {EMAIL}".encode()) > 400
        store.add([row("later")])
    assert f'"{EMAIL}'.encode() not in raw(path)


def test_the_files_have_no_trace_of_what_was_too_old(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    with closing(open_store(path)) as store:
        store.add([row("a", n, email=EMAIL) for n in range(2000)])
        store.add([make_row(trigger(), 10, str)])
        assert store.prune(10) == 2000
        assert store.overwrite_removed(5)
        assert EMAIL.encode() not in raw(path)


class Notes(Part):
    """A part with a table of its own."""

    def on_erased(self, subject: Subject) -> dict[str, int]:
        self.subject = subject
        return {"notes": 2}


def test_other_parts_of_the_store_erase_too(store: Store) -> None:
    """By the actor ids and the identities that are the person's alone."""
    store.add([row("a", email=[EMAIL, "b@example.com", "unknown@example.com"]), row("c")])
    notes = Notes()
    store.parts = (notes, notes)

    def find_actors(name: str, value: str) -> list[str] | None:
        return None if value == "unknown@example.com" else ["a"]

    def only_joining(found: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
        return [identity for identity in found if find_actors(*identity)]

    erasure = Erasure(store, find_actors, only_joining=only_joining)
    assert erasure.run(identity=("email", EMAIL)).others == {"notes": 4}
    assert notes.subject == Subject(frozenset("a"), {("email", EMAIL), ("email", "b@example.com")}, {"a"})
    Erasure(store, find_actors).run(actor_id="c")
    assert notes.subject == Subject(frozenset("c"), set(), {"c"})
    Erasure(store, find_actors).run(identity=("email", "unknown@example.com"))
    assert notes.subject == Subject(frozenset(), {("email", "unknown@example.com")}, set())


def test_intake_goes_on_while_a_person_is_erased(location: str) -> None:
    with closing(open_store(location)) as store:
        for first in range(0, 12_000, 4000):
            store.add([row(str(n % 2), n) for n in range(first, first + 4000)])
        end, added = threading.Event(), [0]

        def add() -> None:
            while not end.is_set():
                added[0] += store.add([row("new")]).stored

        thread = threading.Thread(target=add)
        thread.start()
        try:
            assert Erasure(store).run(actor_id="0").triggers == 6000
        finally:
            end.set()
            thread.join()
        assert store.counts().triggers == 6000 + added[0]
        assert added[0] > 5


def test_the_api_erases_and_says_what(start: Callable[..., Running], location: str) -> None:
    collector = start(database=location)
    sent = [trigger(actor_id=a, captured_identities={"email": EMAIL}) for a in "aab"] + [trigger(actor_id="c")]
    collector.post(sent)

    def erase(**parameters: str) -> dict[str, Any]:
        response = collector.session.delete(
            collector.endpoint + "person/", params=parameters, headers={"X-FL-API-KEY": "k"}, timeout=20
        )
        assert response.status_code == 403
        response = collector.session.delete(
            collector.endpoint + "person/", params=parameters, headers=collector.headers(), timeout=20
        )
        assert response.status_code == 200
        return dict(response.json())

    found = {"triggers": 3, "actor_ids": ["a", "b"], "actors": 2, "identities": 1}
    assert erase(identity=f"email:{EMAIL}", dry_run="yes") == {**found, "overwritten": False}
    assert len(collector.stored()) == 4
    is_sqlite = "://" not in location
    collector.post([trigger(actor_id="b", action=""), trigger(actor_id="z", action="")])
    assert erase(identity=f"email:{EMAIL}") == {**found, "refused": 1, "overwritten": is_sqlite}
    assert [entry["trigger"]["actor_id"] for entry in collector.get("refused/").json()["refused"]] == ["z"]
    assert collector.stored() == sent[3:]
    assert collector.post(sent).json() == {"accepted": 4, "repeated": 4}
    assert erase(actor_id="c")["triggers"] == 1
    assert erase(actor_id="c")["triggers"] == 0
    assert collector.stats()["removed"] == 4
    assert erase(actor_id="z") == {
        "triggers": 0,
        "actor_ids": [],
        "actors": 0,
        "identities": 0,
        "refused": 1,
        "overwritten": is_sqlite,
    }


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "actor_id, identity: give one"),
        ("actor_id=", "actor_id: empty"),
        ("actor_id=a&identity=b:c", "give one of them"),
        ("actor_id=a&actor_id=b", "actor_id: given twice"),
        ("identity=email", "identity: 'email' is no name and value"),
        ("identity=:x", "identity: ':x' is no name"),
        ("actor_id=a&dry_run=1", "dry_run: '1' is not yes or no"),
        ("actor=a", "'actor': unknown parameter"),
    ],
)
def test_a_wrong_request_erases_nothing(shared: Running, query: str, reason: str) -> None:
    response = shared.session.delete(f"{shared.endpoint}person/?{query}", headers=shared.headers(), timeout=20)
    assert response.status_code == 400
    assert reason in response.json()["error"]


def test_a_person_who_was_joined_is_erased_with_all_ids(store: Store) -> None:
    """Others stay as they are; people are known of what is left only."""
    people = People(store)
    store.parts = (people,)
    store.add([row("a", email=EMAIL, captured_identities={"email": EMAIL, "user": 5})])
    store.add([row("b", captured_identities={"user": 5, "phone": "1"}), row("b"), row("c", email="c@example.com")])
    store.add([row("d", captured_identities={"phone": "1"})])
    while people.join_some():
        pass
    store.add([row("d"), row("e", email=EMAIL)])  # not joined yet

    erased = Erasure(store, people.find_actors).run(identity=("email", EMAIL))

    assert (erased.triggers, erased.actor_ids) == (6, set("abde"))
    assert actors(store) == ["c"]
    assert [person.actor_ids for person in people.page(limit=10).people] == [["c"]]
    assert people.find_actor("b") is None
    while people.join_some():
        pass
    assert people.page(limit=10).total == 1


def test_an_identity_of_very_many_is_known_of_nobody_any_more(store: Store) -> None:
    """It leaves those who stay, and the list of identities that join nobody."""
    people = People(store, max_actors=2)
    store.parts = (people,)
    for number in range(3):
        store.add([row(str(number), email=EMAIL), row(str(number), captured_identities={"user": 7 + number // 2})])
    while people.join_some():
        pass

    erased = Erasure(store, people.find_actors).run(identity=("email", EMAIL.upper()))

    assert (erased.triggers, people.shared_identities()) == (3, [])
    found = {tuple(sorted(person.actor_ids)): person for person in people.page(limit=10).people}
    assert {ids: person.identities for ids, person in found.items()} == {
        ("0", "1"): {"user": ['"7"']},
        ("2",): {"user": ['"8"']},
    }
    assert all(not person.not_joined for person in found.values())


def test_the_files_have_no_trace_of_a_person_who_was_joined(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    with closing(open_store(path)) as store:
        people = People(store)
        store.parts = (people,)
        for first in range(0, 2000, 200):
            store.add([row(f"{n % 400}", n, email=f"{n % 400} {EMAIL}") for n in range(first, first + 200)])
            while people.join_some():
                pass
        for n in range(0, 400, 5):
            assert Erasure(store, people.find_actors).run(identity=("email", f"{n} {EMAIL}")).triggers == 5
        for n in range(400):
            found = f'"{n} {EMAIL}'.encode() in raw(path)
            assert found == bool(n % 5)


def test_a_person_of_very_many_ids_is_erased(store: Store) -> None:
    """Each of them shares an identity with the next one only."""
    people = People(store)
    store.parts = (people,)
    store.add([row(f"{n}", captured_identities={"user": [n + 1, n + 2]}) for n in range(1200)])
    store.add([row("other")])
    people.catch_up()

    erased = Erasure(store, people.find_actors, only_joining=people.only_joining).run(identity=("user", "600"))

    assert (erased.triggers, actors(store)) == (1200, ["other"])
    assert [person.actor_ids for person in people.page(limit=10).people] == [["other"]]


def test_a_placeholder_is_not_the_persons_own(start: Callable[..., Running], location: str) -> None:
    """Refused triggers of others that have it stay."""
    collector = start(database=location)
    collector.post(trigger(actor_id="a", captured_identities={"email": EMAIL, "user": "unknown"}))
    refused = [{"email": EMAIL}, {"user": "unknown"}]
    collector.post([trigger(actor_id="z", action="", captured_identities=one) for one in refused])
    response = collector.session.delete(
        collector.endpoint + "person/",
        params={"identity": f"email:{EMAIL}"},
        headers=collector.headers(),
        timeout=20,
    )
    assert (response.json()["triggers"], response.json()["refused"]) == (1, 1)
    (left,) = collector.get("refused/").json()["refused"]
    assert left["trigger"]["captured_identities"] == {"user": "unknown"}
