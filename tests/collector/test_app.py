"""The responses to triggers."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from brockman.collector.ingest import MAX_ERRORS, MAX_TRIGGERS
from tests.collector.running import Running, trigger
from tests.support.client import KEY

PATHS = ("api/v1/trigger/", "api/v1/stats/", "api/v1/overview/", "api/v1/stream/")
Start = Callable[..., Running]


def test_one_trigger_is_stored_and_its_id_returned(shared: Running) -> None:
    sent = trigger(
        variables={"tags": ["a", 1, 2.5, True], "title": "Prix: 10 €"}, captured_identities={"email": "e"}
    )

    response = shared.post(sent)

    assert (response.status_code, response.json()) == (201, {"id": sent["id"], "repeated": False})
    assert shared.stored(id=sent["id"]) == [sent]


def test_an_array_is_stored_in_its_order(shared: Running) -> None:
    name = str(uuid.uuid4())
    sent = [trigger(object=name, variables={"n": number}) for number in range(500)]

    response = shared.post(sent)

    assert (response.status_code, response.json()) == (201, {"accepted": 500, "repeated": 0})
    assert shared.stored(object=name) == sent


def test_a_compressed_body_is_accepted(shared: Running) -> None:
    sent = [trigger(object=str(uuid.uuid4()))]

    response = shared.post(gzip.compress(json.dumps(sent).encode()), {"Content-Encoding": "gzip"})

    assert response.status_code == 201
    assert shared.stored(object=sent[0]["object"]) == sent


def test_a_missing_id_or_timestamp_is_added(collector: Running) -> None:
    bare = {"actor_id": "7", "action": "viewed", "object": "page"}

    responses = [
        collector.post(bare),
        collector.post({**bare, "id": None, "recorded_at": None, "variables": None}),
    ]

    stored = collector.stored()
    assert [response.json()["id"] for response in responses] == [one["id"] for one in stored]
    assert all(one["recorded_at"].endswith("Z") for one in stored)
    assert len({one["id"] for one in stored}) == 2


def test_unknown_fields_are_stored(shared: Running) -> None:
    sent = trigger(session={"nested": {"deeply": [None]}}, schema=2)

    assert shared.post(sent).status_code == 201
    assert shared.stored(id=sent["id"]) == [sent]


def test_invalid_triggers_are_listed_and_valid_ones_stored(collector: Running) -> None:
    valid = [trigger(), trigger()]
    invalid = [{**trigger(), "actor_id": ""}, 7, trigger(variables={"price": [1, None]})]

    response = collector.post([invalid[0], valid[0], invalid[1], valid[1], invalid[2]])

    assert response.status_code == 207
    assert response.json() == {
        "accepted": 2,
        "repeated": 0,
        "rejected": [
            {"index": 0, "error": "actor_id: empty; give a string that is not empty"},
            {"index": 2, "error": "trigger: a number; give an object"},
            {"index": 4, "error": "variables['price'][1]: null; give a string, number or boolean"},
        ],
    }
    assert collector.stored() == valid


def test_every_trigger_of_an_array_may_be_invalid(collector: Running) -> None:
    response = collector.post([{}, {}])

    assert response.status_code == 207
    assert response.json()["accepted"] == 0
    assert [entry["index"] for entry in response.json()["rejected"]] == [0, 1]
    assert collector.stats() == {"triggers": 0, "duplicates": 0, "rejected": 2, "requests": 1, "removed": 0}


def test_a_single_invalid_trigger_is_rejected_with_the_reason(shared: Running) -> None:
    sent = trigger(action=7)

    response = shared.post(sent)

    assert response.status_code == 400
    assert response.json() == {"error": "action: a number; give a string that is not empty"}
    assert shared.stored(id=sent["id"]) == []


def test_the_list_of_errors_fits_into_what_a_client_reads(shared: Running) -> None:
    worst = trigger(variables={'"\\\x00é€😀' * 50: None})

    response = shared.post([worst] * MAX_ERRORS)

    assert response.status_code == 207
    assert len(response.content) <= 60 * 1024
    rejected = response.json()["rejected"]
    assert [entry["index"] for entry in rejected] == list(range(MAX_ERRORS))
    assert all(entry["error"].startswith("variables[") for entry in rejected)


def test_more_invalid_triggers_than_fit_reject_the_request(shared: Running) -> None:
    """The client halves it then, and gets every error in the end."""
    sent = trigger()

    response = shared.post([sent, *[{}] * (MAX_ERRORS + 1)])

    assert response.status_code == 400
    assert "The first is index 1: actor_id: missing" in response.json()["error"]
    assert shared.stored(id=sent["id"]) == []


def test_arrays_have_a_limit(shared: Running) -> None:
    assert shared.post([]).status_code == 400
    assert shared.post([7] * (MAX_TRIGGERS + 1)).status_code == 413
    assert shared.post([trigger() for _ in range(MAX_TRIGGERS)]).status_code == 201


def test_a_trigger_sent_again_is_stored_once_and_counted(collector: Running) -> None:
    one, two = trigger(), trigger()
    as_urn = {**one, "id": f"urn:uuid:{one['id'].upper()}"}

    responses = [collector.post(one), collector.post(one), collector.post([one, two, two, as_urn])]

    assert [response.status_code for response in responses] == [201, 201, 201]
    assert responses[1].json() == {"id": one["id"], "repeated": True}
    assert responses[2].json() == {"accepted": 4, "repeated": 3}
    assert collector.ids() == [one["id"], two["id"]]
    assert collector.stats() == {"triggers": 2, "duplicates": 4, "rejected": 0, "requests": 3, "removed": 0}


def test_duplicates_are_detected_after_a_restart(start: Start) -> None:
    sent = trigger()
    first = start()
    first.post(sent)
    first.stop.set()
    assert first.thread is not None
    first.thread.join(10)

    second = start()
    second.post(sent)

    assert second.ids() == [sent["id"]]
    assert second.stats() == {"triggers": 1, "duplicates": 1, "rejected": 0, "requests": 2, "removed": 0}


def test_many_connections_at_once_lose_nothing(shared: Running) -> None:
    name = str(uuid.uuid4())
    sent = [[trigger(object=name) for _ in range(20)] for _ in range(60)]

    def post(chunk: list[dict[str, object]]) -> int:
        headers = {"X-FL-API-KEY": KEY}
        return requests.post(shared.endpoint + "trigger/", json=chunk, headers=headers, timeout=20).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(post, sent))

    assert set(statuses) == {201}
    assert sorted(one["id"] for one in shared.stored(object=name)) == sorted(
        one["id"] for chunk in sent for one in chunk
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
def test_a_body_that_is_not_json_is_a_400(shared: Running, body: bytes) -> None:
    response = shared.post(body)

    assert response.status_code == 400
    assert set(response.json()) == {"error"}


def test_unusual_but_valid_json_is_accepted(shared: Running) -> None:
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


def test_a_trigger_nested_too_deeply_to_store_is_invalid(shared: Running) -> None:
    """orjson writes 254 levels and reads 1024; the standard library has the same limit for both."""
    deep = json.dumps(trigger())[:-1] + ', "extra": ' + "[" * 500 + "]" * 500 + "}"

    response = shared.post(deep.encode())

    if response.status_code != 201:
        assert response.status_code == 400
        assert response.json() == {"error": "trigger: nested too deeply; give flat mappings"}


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"]
)
def test_other_content_types_are_rejected(shared: Running, content_type: str) -> None:
    """A form or a script on any web page can send these without permission."""
    assert shared.post(trigger(), {"Content-Type": content_type}).status_code == 415


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_carry_a_charset(shared: Running, content_type: str) -> None:
    assert shared.post(trigger(), {"Content-Type": content_type}).status_code == 201


@pytest.mark.parametrize("encoding", ["deflate", "br", "gzip, gzip"])
def test_other_content_encodings_are_rejected(shared: Running, encoding: str) -> None:
    assert shared.post(trigger(), {"Content-Encoding": encoding}).status_code == 415


def test_other_paths_and_methods_are_json_errors(shared: Running) -> None:
    cases = {
        ("PUT", "trigger/"): 405,
        ("DELETE", "trigger/"): 405,
        ("OPTIONS", "trigger/"): 405,
        ("POST", "stats/"): 405,
        ("GET", "elsewhere/"): 404,
        ("POST", "trigger"): 404,  # and no redirect, which would take the key along
    }
    for (method, path), status in cases.items():
        response = shared.session.request(
            method, shared.endpoint + path, headers={"X-FL-API-KEY": KEY}, allow_redirects=False, timeout=20
        )
        assert (response.status_code, set(response.json())) == (status, {"error"}), (method, path)
        assert "access-control-allow-origin" not in response.headers


def test_an_error_of_the_path_says_what_there_is(shared: Running) -> None:
    """A path without its last slash, and a method that another path has."""
    response = shared.session.post(shared.endpoint + "trigger", timeout=20)
    assert response.json() == {"error": "not found; '/api/v1/trigger/' ends with a slash"}
    response = shared.session.put(shared.endpoint + "trigger/", timeout=20)
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert response.json() == {"error": "method not allowed; there are GET, HEAD, OPTIONS, POST"}
    response = shared.session.post(shared.endpoint + "stats/", timeout=20)
    assert response.headers["allow"] == "GET, HEAD"


def test_every_path_that_is_read_answers_head(shared: Running) -> None:
    """With the headers of GET, and no body."""
    root = shared.endpoint.removesuffix("api/v1/")
    headers = {"X-FL-API-KEY": KEY}
    paths = ("", "healthz", "metrics", "openapi.json", "focuslab.js", "page/main.js", *PATHS)
    for path in paths:
        response = shared.session.head(root + path, headers=headers, timeout=20)
        assert (response.status_code, response.content) == (200, b""), path
        assert "content-type" in response.headers, path


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        (b"GET /api/v1/stats/ HTTP/1.0", [], 403),  # no Host, which loopback asks for
        (b"GET /api/v1/stats/ HTTP/1.0", [b"Host: 127.0.0.1"], 200),
        (b"GET http://127.0.0.1/api/v1/stats/ HTTP/1.1", [b"Host: 127.0.0.1"], 200),
        (b"GET /api/v1/stats/ HTTP/1.1", [], 403),
        (b"GET /api/v1/stats/ HTTP/1.1", [b"Host: 127.0.0.1", b"Host: evil.example"], 403),
        (b"GET /api/v1/stats/ HTTP/1.1", [b"Host: evil.example", b"Host: 127.0.0.1"], 403),
        (b"GET /api/v1/stats/ HTTP/3.7", [b"Host: 127.0.0.1"], 400),
        (b"GET  HTTP/1.1", [b"Host: 127.0.0.1"], 400),
        (b"\x16\x03\x01\x02\x00", [b"Host: 127.0.0.1"], 400),
        (b"GET / HTTP/1.1", [b"Host: 127.0.0.1", b"No colon"], 400),
        (b"GET / HTTP/1.1", [b"Host: 127.0.0.1", b"Bad\x00: x"], 400),
        (b"GET / HTTP/1.1", [b"Host: 127.0.0.1", *([b"X: y"] * 98)], 200),
        (b"GET / HTTP/1.1", [b"Host: 127.0.0.1", *([b"X: y"] * 99)], 431),
        (b"GET /%ff%00%0a/?%ff=%00 HTTP/1.1", [b"Host: 127.0.0.1"], 404),
        (b"CONNECT 127.0.0.1:80 HTTP/1.1", [b"Host: 127.0.0.1"], 400),
        (b"OPTIONS * HTTP/1.1", [b"Host: 127.0.0.1"], 404),
        (b"TRACE / HTTP/1.1", [b"Host: 127.0.0.1"], 405),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_unusual_requests_get_an_answer_in_json(
    shared: Running, request_line: bytes, headers: list[bytes], status: int
) -> None:
    """Never a closed connection without a word, a traceback, or another host's answer."""
    keyed = [f"X-FL-API-KEY: {KEY}".encode()]
    found, answered, body = shared.exchange(b"\r\n".join([request_line, *keyed, *headers, b"", b""]))
    assert found == status
    assert answered["content-type"] == "application/json"
    assert isinstance(json.loads(body), dict)


def test_the_root_names_the_service(shared: Running) -> None:
    response = shared.session.get(shared.endpoint.replace("/api/v1/", "/"), timeout=20)

    assert response.status_code == 200
    assert response.json()["service"] == "brockman collector"
