"""What is answered to triggers."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from brockman.collector.ingest import MAX_TRIGGERS, MAX_VERDICTS
from tests.collector.running import KEY, Running, trigger

Start = Callable[..., Running]


def test_one_trigger_is_stored_and_its_id_told(shared: Running) -> None:
    sent = trigger(
        variables={"tags": ["a", 1, 2.5, True], "title": "Prix: 10 €"}, captured_identities={"email": "e"}
    )

    answer = shared.post(sent)

    assert (answer.status_code, answer.json()) == (201, {"id": sent["id"]})
    assert shared.stored(id=sent["id"]) == [sent]


def test_an_array_is_stored_in_its_order(shared: Running) -> None:
    name = str(uuid.uuid4())
    sent = [trigger(object=name, variables={"n": number}) for number in range(500)]

    answer = shared.post(sent)

    assert (answer.status_code, answer.json()) == (201, {"accepted": 500})
    assert shared.stored(object=name) == sent


def test_a_compressed_body_is_taken(shared: Running) -> None:
    sent = [trigger(object=str(uuid.uuid4()))]

    answer = shared.post(gzip.compress(json.dumps(sent).encode()), {"Content-Encoding": "gzip"})

    assert answer.status_code == 201
    assert shared.stored(object=sent[0]["object"]) == sent


def test_id_and_time_are_made_where_they_are_missing(collector: Running) -> None:
    bare = {"actor_id": "7", "action": "viewed", "object": "page"}

    answers = [collector.post(bare), collector.post({**bare, "id": None, "recorded_at": None, "variables": None})]

    stored = collector.stored()
    assert [answer.json()["id"] for answer in answers] == [one["id"] for one in stored]
    assert all(one["recorded_at"].endswith("Z") for one in stored)
    assert len({one["id"] for one in stored}) == 2


def test_fields_of_newer_clients_are_kept(shared: Running) -> None:
    sent = trigger(session={"nested": {"deeply": [None]}}, schema=2)

    assert shared.post(sent).status_code == 201
    assert shared.stored(id=sent["id"]) == [sent]


def test_bad_triggers_are_named_and_the_good_ones_stored(collector: Running) -> None:
    good = [trigger(), trigger()]
    bad = [{**trigger(), "actor_id": ""}, 7, trigger(variables={"price": [1, None]})]

    answer = collector.post([bad[0], good[0], bad[1], good[1], bad[2]])

    assert answer.status_code == 207
    assert answer.json() == {
        "accepted": 2,
        "rejected": [
            {"index": 0, "error": "actor_id: empty; give a string that is not empty"},
            {"index": 2, "error": "trigger: a number; give an object"},
            {"index": 4, "error": "variables['price'][1]: null; give a string, number or boolean"},
        ],
    }
    assert collector.stored() == good


def test_an_array_of_bad_triggers_gets_its_verdicts(collector: Running) -> None:
    answer = collector.post([{}, {}])

    assert answer.status_code == 207
    assert answer.json()["accepted"] == 0
    assert [entry["index"] for entry in answer.json()["rejected"]] == [0, 1]
    assert collector.stats() == {"triggers": 0, "duplicates": 0, "rejected": 2, "requests": 1}


def test_a_single_bad_trigger_is_refused_with_the_reason(shared: Running) -> None:
    sent = trigger(action=7)

    answer = shared.post(sent)

    assert answer.status_code == 400
    assert answer.json() == {"error": "action: a number; give a string that is not empty"}
    assert shared.stored(id=sent["id"]) == []


def test_verdicts_never_exceed_what_a_client_reads_of_an_answer(shared: Running) -> None:
    worst = trigger(variables={'"\\\x00é€😀' * 50: None})

    answer = shared.post([worst] * MAX_VERDICTS)

    assert answer.status_code == 207
    assert len(answer.content) <= 60 * 1024
    rejected = answer.json()["rejected"]
    assert [entry["index"] for entry in rejected] == list(range(MAX_VERDICTS))
    assert all(entry["error"].startswith("variables[") for entry in rejected)


def test_more_bad_triggers_than_can_be_named_refuse_the_request(shared: Running) -> None:
    """The client halves it then, and gets all verdicts in the end."""
    sent = trigger()

    answer = shared.post([sent, *[{}] * (MAX_VERDICTS + 1)])

    assert answer.status_code == 400
    assert "The first is index 1: actor_id: missing" in answer.json()["error"]
    assert shared.stored(id=sent["id"]) == []


def test_arrays_are_bounded(shared: Running) -> None:
    assert shared.post([]).status_code == 400
    assert shared.post([7] * (MAX_TRIGGERS + 1)).status_code == 413
    assert shared.post([trigger() for _ in range(MAX_TRIGGERS)]).status_code == 201


def test_a_trigger_sent_again_is_stored_once_and_counted(collector: Running) -> None:
    one, two = trigger(), trigger()
    as_urn = {**one, "id": f"urn:uuid:{one['id'].upper()}"}

    answers = [collector.post(one), collector.post(one), collector.post([one, two, two, as_urn])]

    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert answers[1].json() == {"id": one["id"]}
    assert answers[2].json() == {"accepted": 4}
    assert collector.ids() == [one["id"], two["id"]]
    assert collector.stats() == {"triggers": 2, "duplicates": 4, "rejected": 0, "requests": 3}


def test_what_was_stored_is_known_after_a_restart(start: Start) -> None:
    sent = trigger()
    first = start()
    first.post(sent)
    first.stop.set()
    assert first.thread is not None
    first.thread.join(10)

    second = start()
    second.post(sent)

    assert second.ids() == [sent["id"]]
    assert second.stats() == {"triggers": 1, "duplicates": 1, "rejected": 0, "requests": 2}


def test_many_connections_at_once_lose_nothing(shared: Running) -> None:
    name = str(uuid.uuid4())
    sent = [[trigger(object=name) for _ in range(20)] for _ in range(60)]

    def post(part: list[dict[str, object]]) -> int:
        headers = {"X-FL-API-KEY": KEY}
        return requests.post(shared.endpoint + "trigger/", json=part, headers=headers, timeout=20).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(post, sent))

    assert set(statuses) == {201}
    assert sorted(one["id"] for one in shared.stored(object=name)) == sorted(
        one["id"] for part in sent for one in part
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"[{}",
        b"null",
        b"7",
        b'"text"',
        b"NaN",
        b'{"actor_id": NaN}',
        b'{"actor_id": -Infinity}',
        b'{"n": 1e400}',
        b'{"n": ' + b"9" * 5000 + b"}",
        b'{"actor_id": "\\ud800"}',
        b'{"actor_id": "\xed\xa0\x80"}',
        b'{"actor_id": "\xff"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xef\xbb\xbf{}",
        '{"actor_id": "7"}'.encode("utf-16"),
        '{"actor_id": "7"}'.encode("utf-32"),
        b"{'actor_id': '7'}",
        b"{} {}",
        b"[1,]",
        b'{"a": 01}',
        b'{"a": "\x00"}',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_no_json_is_refused_with_400(shared: Running, body: bytes) -> None:
    answer = shared.post(body)

    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}


def test_odd_but_legal_json_is_taken(shared: Running) -> None:
    name = str(uuid.uuid4())
    one, two = trigger(object=name), trigger(object=name)
    text = (
        json.dumps(one)[:-1] + ', "actor_id": "last wins", "variables": {"big": 123456789012345678901234567890}}'
    )

    assert shared.post(text.encode()).status_code == 201
    assert shared.post({**two, "actor_id": "nul \x00 and 😀"}).status_code == 201

    stored = shared.stored(object=name)
    assert stored[0]["actor_id"] == "last wins"
    assert stored[0]["variables"]["big"] == pytest.approx(1.2345678901234568e29)
    assert shared.stored(object=name, actor_id="nul \x00 and 😀") == [stored[1]]


def test_nesting_that_can_be_read_but_not_written_is_a_verdict(shared: Running) -> None:
    """orjson writes 254 levels and reads 1024; the standard library's two bounds are one."""
    deep = json.dumps(trigger())[:-1] + ', "extra": ' + "[" * 500 + "]" * 500 + "}"

    answer = shared.post(deep.encode())

    if answer.status_code != 201:
        assert answer.status_code == 400
        assert answer.json() == {"error": "trigger: nested too deeply; give flat mappings"}


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"]
)
def test_other_content_types_are_refused(shared: Running, content_type: str) -> None:
    """A form or a script on a web page can send these without asking; they must not write."""
    assert shared.post(trigger(), {"Content-Type": content_type}).status_code == 415


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_carry_a_charset(shared: Running, content_type: str) -> None:
    assert shared.post(trigger(), {"Content-Type": content_type}).status_code == 201


@pytest.mark.parametrize("encoding", ["deflate", "br", "gzip, gzip"])
def test_other_content_encodings_are_refused(shared: Running, encoding: str) -> None:
    assert shared.post(trigger(), {"Content-Encoding": encoding}).status_code == 415


def test_other_paths_and_methods_are_refused_in_json(shared: Running) -> None:
    cases = {
        ("PUT", "trigger/"): 405,
        ("DELETE", "trigger/"): 405,
        ("OPTIONS", "trigger/"): 405,
        ("POST", "stats/"): 405,
        ("GET", "elsewhere/"): 404,
        ("POST", "trigger"): 404,  # and no redirect: the key must not follow one
    }
    for (method, path), status in cases.items():
        answer = shared.session.request(
            method, shared.endpoint + path, headers={"X-FL-API-KEY": KEY}, allow_redirects=False, timeout=20
        )
        assert (answer.status_code, set(answer.json())) == (status, {"error"}), (method, path)
        assert "access-control-allow-origin" not in answer.headers


def test_the_root_says_what_this_is(shared: Running) -> None:
    answer = shared.session.get(shared.endpoint.replace("/api/v1/", "/"), timeout=20)

    assert answer.status_code == 200
    assert answer.json()["service"] == "brockman collector"
