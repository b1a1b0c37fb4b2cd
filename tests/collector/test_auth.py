"""The API key, and the names in the Host header."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brockman.collector.errors import InvalidSetting
from brockman.collector.server import serve
from brockman.collector.settings import Settings
from tests.collector.running import Running, trigger
from tests.support.client import KEY

Start = Callable[..., Running]


def test_without_the_key_nothing_is_stored_or_read(collector: Running) -> None:
    assert collector.post(trigger(), key=None).status_code == 401
    assert collector.get("trigger/", key=None).status_code == 401
    assert collector.get("stats/", key=None).status_code == 401
    assert collector.stored() == []


@pytest.mark.parametrize("key", ["", KEY[:-1], KEY + "0", KEY.upper(), "clé"])
def test_a_wrong_key_is_rejected(shared: Running, key: str) -> None:
    sent, headers = trigger(), {"X-FL-API-KEY": key.encode("latin-1")}

    response = shared.post(sent, headers)  # type: ignore[arg-type]

    assert response.status_code == 403
    assert KEY not in response.text
    assert shared.stored(id=sent["id"]) == []


def test_a_collector_without_a_key_accepts_any_key_and_none(start: Start) -> None:
    collector = start(api_key=None)

    assert collector.post(trigger(), key=None).status_code == 201
    assert collector.post(trigger(), key="whatever").status_code == 201


def test_several_keys_are_valid_at_once(start: Start) -> None:
    """So that a key can be changed without a gap: both are valid until every client has the new one."""
    collector = start(api_key="old", api_keys=["new", "newest"], write_keys=["for-pages"])

    for key in ("old", "new", "newest"):
        assert collector.post(trigger(), key=key).status_code == 201
        assert collector.get("trigger/", key=key).status_code == 200
    assert collector.post(trigger(), key="for-pages").status_code == 201
    assert collector.get("trigger/", key="for-pages").status_code == 403
    for key in ("", "ol", "older", "oldnew", "old,new"):
        assert collector.post(trigger(), key=key).status_code == 403


def test_a_key_may_be_a_bearer_token(start: Start) -> None:
    """As programs send it that can send no header of their own."""
    collector = start(api_key="old", api_keys=["new"])

    def status(authorization: str, key: str | None = None) -> int:
        headers = {"Authorization": authorization, **({} if key is None else {"X-FL-API-KEY": key})}
        return collector.session.get(collector.endpoint + "stats/", headers=headers, timeout=20).status_code

    assert [status("Bearer new"), status("bearer  old ")] == [200, 200]
    assert [status("Bearer other"), status("Bearer"), status("Bearer new", "other")] == [403, 403, 403]
    assert [status("Basic bmV3"), status("")] == [401, 401]


@pytest.mark.parametrize(
    "options",
    [
        {"api_keys": "ab"},
        {"api_keys": ["a", "clé"]},
        {"write_keys": [" "], "api_key": "a"},
        {"write_keys": ["a"]},
        {"write_keys": ["a"], "api_keys": ["b", "a"]},
    ],
    ids=str,
)
def test_keys_that_cannot_be_meant_are_an_invalid_setting(tmp_path: Path, options: dict[str, Any]) -> None:
    """Among them a key for web pages that could also read."""
    with pytest.raises(InvalidSetting, match=r"^(api|write)_keys: "):
        Settings(database=tmp_path / "t.sqlite3", **options)


@pytest.mark.parametrize("key", ["", " ", "a ", "a\nb", "a\x00", "clé"])
def test_a_key_that_cannot_be_a_header_value_is_an_invalid_setting(tmp_path: Path, key: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^api_key: give printable ASCII"):
        Settings(database=tmp_path / "t.sqlite3", api_key=key)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_without_a_key_it_listens_on_loopback_only(tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidSetting, match=r"api_key: .* give a key, or a loopback host|host: "):
        serve(Settings(host=host or "192.0.2.1", port=0, database=tmp_path / "t.sqlite3"))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost@evil"]
)
def test_a_web_page_whose_name_resolves_to_loopback_is_rejected(shared: Running, host: str) -> None:
    """With 403: a client holds its triggers then, so a wrong name loses nothing."""
    sent, headers = trigger(), {"Host": host, "X-FL-API-KEY": KEY}

    responses = [
        shared.post(sent, headers),
        shared.session.get(shared.endpoint + "trigger/", headers=headers, timeout=20),
    ]

    assert [response.status_code for response in responses] == [403, 403]
    assert all("Host" in response.json()["error"] for response in responses)
    assert shared.stored(id=sent["id"]) == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8765", "[::1]", "[::1]:80"])
def test_the_names_of_loopback_are_accepted(shared: Running, host: str) -> None:
    assert shared.post(trigger(), {"Host": host}).status_code == 201


def test_another_name_can_be_allowed(start: Start) -> None:
    collector = start(allowed_hosts=["Collector.test"])

    assert collector.post(trigger(), {"Host": "collector.test:80"}).status_code == 201
    assert collector.post(trigger(), {"Host": "other.test"}).status_code == 403
    assert collector.post(trigger()).status_code == 201


def test_on_all_interfaces_it_accepts_any_name(start: Start) -> None:
    collector = start(host="0.0.0.0")

    assert collector.endpoint.startswith("http://127.0.0.1:")
    assert collector.post(trigger(), {"Host": "collector.example"}).status_code == 201


def test_ipv6(start: Start) -> None:
    collector = start(host="::1")

    assert collector.endpoint.startswith("http://[::1]:")
    assert collector.post(trigger()).status_code == 201
