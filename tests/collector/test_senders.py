"""A store is exact about its senders, whatever becomes of requests and answers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from brockman.collector.api.senders import describe, show
from brockman.collector.store.base import Store
from brockman.collector.store.senders import KEEP_MICROS, Senders
from brockman.collector.store.values import Heard, Sender, SenderCounts
from tests.collector.running import Running, make_row, trigger

DAY = 24 * 3600 * 1_000_000
NOW = 1_790_000_000_000_000  # microseconds since 1970: 2026-09-21T14:13:20Z
IDENTITY = "id=0123456789abcdef0123456789abcdef; host=web-3; pid=123; started=2026-11-28T13:00:00.000000Z"


@dataclass
class Client:
    """A client as brockman is one: it sends the oldest triggers until they are answered, then the next."""

    store: Store
    name: str
    waiting: list[str] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)  # the store
    delivered: int = 0
    recorded: int = 0
    now: int = NOW

    @property
    def id(self) -> str:
        return self.name.encode().hex().ljust(32, "0")

    def record(self, number: int) -> None:
        self.waiting += [f"{self.name} {n}" for n in range(self.recorded, self.recorded + number)]
        self.recorded += number

    def counts(self) -> SenderCounts:
        return SenderCounts(self.recorded, 0, self.delivered, 0, len(self.waiting), {})

    def request(self, number: int) -> Callable[[], None]:
        """Return a function that has the oldest triggers, with the counts of this moment, reach the store."""
        names = self.waiting[:number]
        sender = Sender(self.id, "web-3", 123, NOW, self.now, self.counts())

        def reach() -> None:
            self.store.add([make_row(name) for name in names], sender=sender)
            self.reached |= set(names)

        return reach

    def settle(self, number: int) -> None:
        self.delivered += len(self.waiting[:number])
        del self.waiting[:number]

    def send(self, number: int) -> None:
        self.request(number)()
        self.settle(number)

    def heard(self) -> Heard:
        (found,) = [heard for heard in Senders(self.store).page(100) if heard.id == self.id]
        total = found.delivered_before + found.arrived + found.missing + found.refused + found.waiting
        assert found.recorded + found.recovered == total + sum(found.dropped.values())
        return found


@pytest.mark.parametrize("seed", range(6))
def test_each_trigger_has_arrived_once(store: Store, seed: int) -> None:
    """Answers are lost, requests are cut in pieces, come late, and repeat what a dead process had sent."""
    rand, client = random.Random(seed), Client(store, "one")
    late: list[Callable[[], None]] = []
    client.record(1)
    client.send(1)
    for _ in range(60):
        client.record(rand.randrange(12))
        if not client.waiting:
            continue
        number = rand.randrange(1, 20)
        if rand.random() < 0.3:
            store.add([make_row(name) for name in rand.sample(client.waiting, 1 + len(client.waiting) // 3)])
        reach = client.request(number)
        if rand.random() < 0.7:
            reach()
            if rand.random() < 0.6:
                client.settle(number)
            assert client.heard().arrived == len(client.reached)
            if late and rand.random() < 0.3:
                late.pop()()
        else:
            late.append(reach)
        assert client.heard().missing == 0
    while client.waiting:
        client.send(50)
    assert client.heard().arrived == client.recorded == len(client.reached)


@pytest.mark.parametrize("seed", range(6))
def test_what_another_server_has_answered_is_missing(store: Store, seed: int) -> None:
    """To the trigger, also when answers are lost on both ways."""
    rand, client = random.Random(seed), Client(store, "one")
    client.record(3)
    client.send(3)
    for _ in range(40):
        client.record(rand.randrange(1, 12))
        number = rand.randrange(1, 20)
        if rand.random() < 0.7:
            client.request(number)()
        if rand.random() < 0.7:
            client.settle(number)
    client.record(1)
    client.send(99)
    heard = client.heard()
    assert heard.arrived == len(client.reached) < client.recorded
    assert heard.missing == client.recorded - len(client.reached)


def test_missing_since_is_when_the_counts_agreed_last(store: Store) -> None:
    """The sentence names the gap and the time."""
    client = Client(store, "one")
    client.record(10)
    for number, reaches in ((2, True), (2, True), (3, False), (2, True), (1, True)):
        client.now += 1_000_000
        if reaches:
            client.send(number)
        else:
            client.settle(number)
    heard = client.heard()
    assert (heard.arrived, heard.missing, heard.missing_since) == (7, 3, NOW + 2_000_000)
    assert describe(heard, client.now) == (
        "web-3: recorded 10, dropped 0, arrived 7; 3 that it delivered are missing here since "
        "2026-09-21T14:13:22.000000Z"
    )


def test_a_store_that_is_new_knows_only_what_came_since(store: Store) -> None:
    """The sentence names the rest, and it is no false alarm."""
    client = Client(store, "one")
    client.record(12_345)
    client.settle(10_000)
    client.send(2000)
    heard = client.heard()
    assert (heard.arrived, heard.missing, heard.delivered_before, heard.waiting) == (2000, 0, 10_000, 345)
    assert describe(heard, NOW) == (
        "web-3: recorded 12 345, dropped 0, arrived 2 000; 10 000 were delivered before it was first heard of here"
        " at 2026-09-21T14:13:20.000000Z; 345 waiting"
    )
    assert describe(heard, NOW + DAY).endswith(
        "; 345 were waiting when it was last heard of at 2026-09-21T14:13:20.000000Z"
    )


def test_the_reasons_are_named(store: Store) -> None:
    """Dropped, refused, recovered: each has its number."""
    said = SenderCounts(10_412, 5, 10_000, 4, 410, {"overflow": 3})
    sender = Sender("1" * 32, "web-3", 123, NOW, NOW, said)
    store.add([make_row(str(n)) for n in range(409)], rejected=1, sender=sender)
    (heard,) = Senders(store).page(1)
    assert describe(heard, NOW) == (
        "web-3: recorded 10 412, recovered 5, dropped 3 (overflow 3), refused 5, arrived 409; "
        "10 000 were delivered before it was first heard of here at 2026-09-21T14:13:20.000000Z"
    )
    assert show(heard, NOW) == {
        "id": "1" * 32,
        "host": "web-3",
        "pid": 123,
        "started": "2026-09-21T14:13:20.000000Z",
        "first_seen": "2026-09-21T14:13:20.000000Z",
        "last_seen": "2026-09-21T14:13:20.000000Z",
        "recorded": 10_412,
        "recovered": 5,
        "delivered": 10_000,
        "rejected": 4,
        "dropped": {"overflow": 3},
        "waiting": 0,
        "arrived": 409,
        "stored": 409,
        "refused": 5,
        "delivered_before": 10_000,
        "missing": 0,
        "missing_since": None,
        "says": describe(heard, NOW),
    }


def test_what_another_process_had_sent_before_it_died_is_not_stored_twice(store: Store) -> None:
    """It has arrived for both: each says what became of its own."""
    dead, other = Client(store, "dead"), Client(store, "other")
    dead.record(5)
    dead.request(3)()
    other.waiting, other.recorded = [*dead.waiting], 5
    other.send(5)
    assert (dead.heard().arrived, dead.heard().stored, dead.heard().waiting) == (3, 3, 2)
    assert (other.heard().arrived, other.heard().stored, other.heard().waiting) == (5, 2, 0)


def test_a_sender_is_forgotten_after_a_month(store: Store) -> None:
    """And the others are not."""
    for name, now in (("old", NOW - KEEP_MICROS - 1), ("new", NOW - KEEP_MICROS)):
        client = Client(store, name, now=now)
        client.record(1)
        client.send(1)
    Senders(store).forget(NOW)
    assert [heard.id for heard in Senders(store).page(9)] == [client.id]


def test_too_many_senders_push_the_oldest_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ids are made up, the table stays small: it is cleared while requests come."""
    monkeypatch.setattr("brockman.collector.store.senders.MAX_SENDERS", 3)
    monkeypatch.setattr("brockman.collector.store.base._FORGET_EVERY", 10)
    for number in range(40):
        client = Client(store, str(number), now=NOW + number)
        client.record(1)
        client.send(1)
        assert len(Senders(store).page(99)) <= 13
    Senders(store).forget(NOW)
    assert [heard.last_seen - NOW for heard in Senders(store).page(9)] == [39, 38, 37]


# --- the headers and the resource, over HTTP ---


def headers(**counts: int) -> dict[str, str]:
    return {"X-FL-Sender": IDENTITY, "X-FL-Counts": "; ".join(f"{name}={n}" for name, n in counts.items())}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-FL-Sender", ""),
        ("X-FL-Sender", "id=1; host=web-3; pid=123; started=2026-11-28T13:00:00Z"),
        ("X-FL-Sender", IDENTITY.replace("pid=123", "pid=-1")),
        ("X-FL-Sender", IDENTITY.replace("pid=123", "pid=99999999999")),
        ("X-FL-Sender", IDENTITY.replace("2026-", "0001-")),
        ("X-FL-Sender", IDENTITY.replace("2026-", "9999-")),
        ("X-FL-Sender", IDENTITY.replace("2026-11-28T13:00:00.000000Z", "yesterday")),
        ("X-FL-Sender", f"{IDENTITY}; id=0123456789abcdef0123456789abcdee"),
        ("X-FL-Sender", IDENTITY.replace("web-3", "web-\xe9")),
        ("X-FL-Sender", IDENTITY.replace("web-3", "x" * 5000)),
        ("X-FL-Counts", ""),
        ("X-FL-Counts", "waiting"),
        ("X-FL-Counts", ";;;="),
        ("X-FL-Counts", "recorded=1; waiting=2"),
        ("X-FL-Counts", "recorded=-1; waiting=-1"),
        ("X-FL-Counts", "recorded=1e3; waiting=1e3"),
        ("X-FL-Counts", "recorded=\xb2; waiting=\xb2"),
        ("X-FL-Counts", f"recorded={10**15}; waiting={10**15}"),
        ("X-FL-Counts", "recorded=" + "9" * 5000),
        (
            "X-FL-Counts",
            "recorded=50; " + "; ".join(f"dropped.{'x' * n}=1" for n in range(1, 41)) + "; waiting=10",
        ),
    ],
)
def test_headers_that_are_malformed_are_ignored(shared: Running, name: str, value: str) -> None:
    """The triggers are stored all the same."""
    before = shared.get("senders/").json()
    answer = shared.post([trigger()], {**headers(recorded=1, waiting=1), name: value.encode("latin-1")})
    assert (answer.status_code, answer.json()) == (201, {"accepted": 1, "repeated": 0})
    assert shared.get("senders/").json() == before


def test_a_host_name_may_hold_anything(collector: Running) -> None:
    """It is decoded, cut, and has no characters that a terminal obeys."""
    said = headers(recorded=1, waiting=1)
    name = "%3Cscript%3E%00%1B%5B31m%E2%80%AE%ED%A0%80%FFa%F0%9F%98%80" + "x" * 900
    assert collector.post(trigger(), {**said, "X-FL-Sender": IDENTITY.replace("web-3", name)}).status_code == 201
    (found,) = collector.get("senders/").json()["senders"]
    assert found["host"].startswith("<script>\ufffd\ufffd[31m\ufffd\ufffd\ufffd\ufffd\ufffda😀xxx")
    assert len(found["host"]) == 255
    assert found["says"] == f"{found['host']}: recorded 1, dropped 0, arrived 1"


def test_one_that_is_refused_alone_is_noted(collector: Running) -> None:
    """It waits no longer."""
    assert collector.post({"no": "trigger"}, headers(recorded=1, waiting=1)).status_code == 400
    (found,) = collector.get("senders/").json()["senders"]
    assert found["says"] == "web-3: recorded 1, dropped 0, refused 1, arrived 0"
    (kept,) = collector.get("refused/").json()["refused"]
    assert kept["sender"] == {"id": "0123456789abcdef" * 2, "host": "web-3", "pid": 123}


def test_senders_are_listed_in_pages(collector: Running) -> None:
    """The one that was last heard of comes first; each is on one page."""
    ids = [f"{n:032x}" for n in range(7)]
    for sender_id in ids:
        said = headers(recorded=1, waiting=1)
        collector.post(trigger(), {**said, "X-FL-Sender": IDENTITY.replace("0123456789abcdef" * 2, sender_id)})
    seen, after = [], {}
    while after is not None:
        page = collector.get("senders/", limit="3", **after).json()
        seen += [sender["id"] for sender in page["senders"]]
        after = page["next"] and {"after": page["next"]}
    assert seen == ids[::-1]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"limit": "0"}, "limit: '0' is not a whole number from 1 to 10000"),
        ({"after": "7"}, "after: '7' is not the next of a page"),
        ({"order": "newest"}, "'order': unknown parameter; there are limit, after"),
    ],
)
def test_a_wrong_parameter_is_named(shared: Running, query: dict[str, str], error: str) -> None:
    answer = shared.get("senders/", **query)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_senders_need_the_key(shared: Running) -> None:
    assert shared.get("senders/", key=None).status_code == 401
    assert shared.get("senders/", key="wrong").status_code == 403
