"""Groups over HTTP: saved, listed, read page by page, downloaded, removed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
import requests

from tests.collector.running import JSON, Running, trigger
from tests.support.client import KEY

PRO = {"where": {"attributes.plan": "pro"}}
VIEWERS = {
    "where": {"attributes.plan": "pro"},
    "did": [{"action": "viewed", "object": "pricing", "times": 2}],
    "did_not": [{"action": "paid"}],
}


def ask(
    collector: Running, method: str, name: str, content: Any = None, headers: dict[str, str] | None = None
) -> requests.Response:
    """Send a request for a group; the content is JSON, or bytes as they are."""
    body = content if isinstance(content, bytes) else None if content is None else json.dumps(content).encode()
    keyed = {"X-FL-API-KEY": KEY, **JSON, **(headers or {})}
    url = f"{collector.endpoint}group/{quote(name, safe='')}/"
    return collector.session.request(method, url, data=body, headers=keyed, timeout=20)


def put(collector: Running, name: str, definition: Any) -> requests.Response:
    return ask(collector, "PUT", name, definition)


def members(collector: Running, name: str, limit: int = 100) -> list[dict[str, Any]]:
    """Return the members from all pages."""
    found: list[dict[str, Any]] = []
    more: dict[str, str] = {}
    while True:
        page = collector.get(f"group/{quote(name, safe='')}/", limit=str(limit), **more)
        assert page.status_code == 200, page.text
        found += page.json()["members"]
        assert page.json()["pending"] == 0
        if page.json()["next"] is None:
            return found
        more = {"after": page.json()["next"]}


def actors(found: list[dict[str, Any]]) -> list[list[str]]:
    return sorted(sorted(member["actor_ids"]) for member in found)


@pytest.fixture
def started(start: Callable[..., Running], location: str) -> Running:
    """A collector on each engine."""
    return start(database=location)


def test_a_group_is_saved_and_its_members_are_read(started: Running) -> None:
    """The example of the documentation: pro, viewed pricing twice, never paid."""
    answer = put(started, "hot", VIEWERS)
    assert answer.status_code == 201
    assert {**answer.json(), "created_at": "", "updated_at": ""} == {
        "name": "hot",
        **VIEWERS,
        "created_at": "",
        "updated_at": "",
    }
    assert started.get("group/").json() == {"groups": [answer.json()]}
    view = {"object": "pricing", "captured_attributes": {"plan": "pro"}}
    started.post(
        [
            trigger(actor_id="phone", captured_identities={"email": "ada@example.com"}, **view),
            trigger(actor_id="laptop", captured_identities={"email": "ada@example.com"}, **view),
            trigger(actor_id="bob", **view),
            *(trigger(actor_id="paid", **view) for _ in range(3)),
            trigger(actor_id="paid", action="paid", object="order"),
            *(trigger(actor_id="free", object="pricing", captured_attributes={"plan": "free"}) for _ in range(3)),
        ]
    )
    page = started.get("group/hot/").json()
    assert {**page, "members": []} == {
        "name": "hot",
        **VIEWERS,
        "total": 1,
        "members": [],
        "next": None,
        "pending": 0,
    }
    (member,) = page["members"]
    assert sorted(member.pop("actor_ids")) == ["laptop", "phone"]
    assert member == {
        "actors": 2,
        "identities": {"email": ["ada@example.com"]},
        "attributes": {"plan": "pro"},
        "first_seen": "2026-11-23T17:22:32.123456Z",
        "last_seen": "2026-11-23T17:22:32.123456Z",
        "total": 2,
    }


def test_a_definition_is_replaced_renamed_and_removed(started: Running) -> None:
    """A `PUT` again replaces it; under another name, and with a `DELETE`, it is renamed."""
    created = put(started, "a", PRO).json()
    answer = put(started, "a", {"did_not": [{"action": "paid"}]})
    assert answer.status_code == 200
    assert answer.json()["where"] == {}
    assert answer.json()["created_at"] == created["created_at"] < answer.json()["updated_at"]
    definition = {name: answer.json()[name] for name in ("where", "did", "did_not")}
    assert put(started, "b", definition).status_code == 201
    assert ask(started, "DELETE", "a").status_code == 204
    assert ask(started, "DELETE", "a").status_code == 404
    assert ask(started, "GET", "a").json() == {"error": "there is no group 'a'"}
    assert [group["name"] for group in started.get("group/").json()["groups"]] == ["b"]


def test_pages_have_everybody_once_while_triggers_arrive(started: Running) -> None:
    """Each member of the beginning is on one page, whatever arrives meanwhile."""
    put(started, "pro", PRO)
    started.post([trigger(actor_id=f"{n}", captured_attributes={"plan": "pro"}) for n in range(50)])
    assert len(members(started, "pro")) == 50

    def more(round: int) -> None:
        new = [trigger(actor_id=f"new {round} {n}", captured_attributes={"plan": "pro"}) for n in range(20)]
        assert started.post(new).status_code == 201

    with ThreadPoolExecutor(1) as pool:
        recording = [pool.submit(more, round) for round in range(10)]
        found = actors(members(started, "pro", limit=7))
        assert [one.result() for one in recording] == [None] * 10
    assert len(found) == len({one for (one,) in found})
    assert {str(n) for n in range(50)} <= {one for (one,) in found}


@pytest.mark.parametrize("name", ["..a", "a b", "Größe", "顧客", "%2F", "a%20b", "?x=1#y", "'\"<b>;", "a" * 100])
def test_a_name_of_any_characters_is_kept(started: Running, name: str) -> None:
    """In the URL, in the answers, and in the name of the file."""
    assert put(started, name, {}).status_code == 201
    assert started.get("group/").json()["groups"][0]["name"] == name
    answer = ask(started, "GET", name)
    assert answer.json()["name"] == name
    file = started.get(f"group/{quote(name, safe='')}/", format="ndjson")
    disposition = file.headers["Content-Disposition"]
    assert disposition.endswith(f"filename*=UTF-8''{quote(f'{name}.ndjson', safe='')}")
    assert disposition.count('"') == 2
    assert ask(started, "DELETE", name).status_code == 204


@pytest.mark.parametrize(
    "path", ["%2F", "a%2Fb", "..%2Fx", "a%5Cb", "%00", "%20a", "a" * 1000, "%E2%80%AE", "%2e%2e"]
)
def test_a_hostile_name_is_refused(shared: Running, path: str) -> None:
    """With 400 and the reason."""
    request = f"PUT /api/v1/group/{path}/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-FL-API-KEY: {KEY}\r\n"
    request += "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    status, _, body = shared.exchange(request.encode())
    assert status == 400
    assert json.loads(body)["error"].startswith("name: ")


@pytest.mark.parametrize(
    ("content", "status", "text"),
    [
        (b"{", 400, "the body is not JSON"),
        (b"\xff", 400, "the body is not JSON"),
        (b"[" * 100_000, 400, ""),
        (b'{"where":' * 2000 + b"1" + b"}" * 2000, 400, ""),
        ([], 400, "definition: a list of 0 should be an object"),
        (
            {"did": [{"action": "a", "times": "three"}]},
            400,
            "did[0].times: 'three' should be a whole number from 1",
        ),
        (b" " * 300_000, 413, "the body has 300000 bytes"),
    ],
)
def test_a_wrong_definition_is_refused(shared: Running, content: Any, status: int, text: str) -> None:
    """With the path in it; nothing is saved."""
    answer = put(shared, "wrong", content)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(text)
    assert ask(shared, "GET", "wrong").status_code == 404


@pytest.mark.parametrize(
    "parameters", [{"limit": "0"}, {"limit": "x"}, {"after": "-1"}, {"format": "xml"}, {"what": "1"}]
)
def test_a_wrong_parameter_is_refused(shared: Running, parameters: dict[str, str]) -> None:
    """With its name and value."""
    put(shared, "any", {})
    answer = shared.get("group/any/", **parameters)
    assert answer.status_code == 400
    (name,) = parameters
    assert name in answer.json()["error"]


def test_groups_need_the_key_that_reads(start: Callable[..., Running]) -> None:
    """A key of a web page, which may only record, lists and changes nothing."""
    collector = start(write_keys=["web"])
    put(collector, "a", PRO)
    for key, status in (("web", 403), ("other", 403), (None, 401)):
        headers = {**JSON} if key is None else {**JSON, "X-FL-API-KEY": key}
        for method, path in (("GET", "group/"), ("GET", "group/a/"), ("PUT", "group/a/"), ("DELETE", "group/a/")):
            url = collector.endpoint + path
            assert collector.session.request(method, url, headers=headers, timeout=20).status_code == status
    assert ask(collector, "GET", "a").status_code == 200


HOSTILE = ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "\uff1d1", 'a,"b"\r\nc', "a\0b", "<script>", "ü", "plain"]


def test_a_download_has_all_members(started: Running) -> None:
    """CSV and NDJSON without a limit: more than a page, each once."""
    put(started, "all", {})
    started.post([trigger(actor_id=f"user {n}") for n in range(1200)])
    rows = list(csv.DictReader(io.StringIO(started.get("group/all/", format="csv").text, newline="")))
    assert sorted(row["actor_ids"] for row in rows) == sorted(f"user {n}" for n in range(1200))
    lines = started.get("group/all/", format="ndjson")
    assert lines.headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line) for line in lines.text.splitlines()] == members(started, "all", limit=500)
    assert len(started.get("group/all/", format="ndjson", limit="7").text.splitlines()) == 7


def test_a_spreadsheet_takes_no_value_for_a_formula(started: Running) -> None:
    """CSV of RFC 4180, with an apostrophe before such a text, and columns for all names."""
    put(started, "a", {})
    started.post(
        [
            trigger(
                actor_id=f"{n}",
                captured_identities={"email": f"{n}@example.com", "ids": [n, f"x{n}"]},
                captured_attributes={"=name": value, "number": -n, "flag": True},
            )
            for n, value in enumerate(HOSTILE)
        ]
    )
    answer = started.get("group/a/", format="csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == "attachment; filename=\"a.csv\"; filename*=UTF-8''a.csv"
    assert answer.content.count(b"\r\n") == len(HOSTILE) + 2  # one is within a value
    rows = list(csv.DictReader(io.StringIO(answer.content.decode(), newline=""), strict=True))
    rows.sort(key=lambda row: int(row["actor_ids"]))
    assert [row["attributes.=name"] for row in rows] == [
        *("'=1+1", "'+1", "'-1", "'@x", "'\t=1", "' =1", "'\uff1d1"),
        *('a,"b"\r\nc', "a\ufffdb", "<script>", "ü", "plain"),
    ]
    assert {**rows[3]} == {
        "actor_ids": "3",
        "identities.email": "3@example.com",
        "identities.ids": '["3","x3"]',
        "attributes.=name": "'@x",
        "attributes.flag": "true",
        "attributes.number": "-3",
        "first_seen": "2026-11-23T17:22:32.123456Z",
        "last_seen": "2026-11-23T17:22:32.123456Z",
        "total": "1",
    }
