"""The health, the metrics and the access log of a collector."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from brockman.collector.access_log import AccessLog
from brockman.collector.errors import InvalidSetting
from brockman.collector.settings import Settings
from tests.collector.running import JSON, Running, trigger
from tests.support.client import KEY
from tests.support.postgresql import Postgresql
from tests.support.waiting import eventually

Start = Callable[..., Running]
Spawn = Callable[..., Running]


def root(collector: Running) -> str:
    return collector.endpoint.removesuffix("/api/v1/")


def health(collector: Running, query: str = "", **headers: str) -> requests.Response:
    return collector.session.get(f"{root(collector)}/healthz{query}", headers=headers, timeout=20)


def samples(collector: Running) -> dict[str, float]:
    """Return the metrics: by name, and by name and labels in the order of the alphabet."""
    response = collector.session.get(
        f"{root(collector)}/metrics", headers={"Authorization": f"Bearer {KEY}"}, timeout=20
    )
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {}
    for family in text_string_to_metric_families(response.text):
        assert family.documentation
        for sample in family.samples:
            found[" ".join([sample.name, *(text for _, text in sorted(sample.labels.items()))])] = sample.value
    return found


def test_health_needs_no_key_and_no_name(shared: Running) -> None:
    """Kubernetes asks by address, and has no key."""
    response = health(shared, Host="10.1.2.3:8765")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response.headers["cache-control"] == "no-store"
    assert shared.session.head(f"{root(shared)}/healthz", timeout=20).status_code == 200


def test_health_says_that_nothing_can_be_stored_and_that_it_can_again(start: Start) -> None:
    """A reader who has the key reads why. The process itself stays alive: a new one would help nobody."""
    collector = start()
    assert health(collector).status_code == 200
    elsewhere = collector.database.with_suffix(".moved")
    collector.database.rename(elsewhere)

    assert eventually(lambda: health(collector).status_code == 503)
    assert "cannot be stored" in health(collector).json()["error"]
    assert "removed" not in health(collector).text
    assert "removed" in health(collector, **{"X-FL-API-KEY": KEY}).json()["error"]
    assert health(collector, "?live").status_code == 200

    elsewhere.rename(collector.database)
    assert eventually(lambda: health(collector).status_code == 200)


def test_health_follows_the_database(start: Start, postgresql: Postgresql) -> None:
    collector = start(database=postgresql.empty_database())
    assert health(collector).status_code == 200
    for _ in range(3):
        assert collector.post(trigger()).status_code == 201
    counts = collector.stats()  # a check counts as nothing
    assert counts == {"triggers": 3, "duplicates": 0, "rejected": 0, "removed": 0, "requests": 3}


def test_metrics_need_the_key(shared: Running) -> None:
    assert requests.get(f"{root(shared)}/metrics", timeout=20).status_code == 401


def test_metrics_count_triggers_requests_and_bytes(start: Start) -> None:
    collector = start(api_keys=["another"])
    before = samples(collector)
    sent = [trigger() for _ in range(4)]
    assert collector.post(sent).status_code == 201
    assert collector.post([*sent, {"action": "wrong"}]).status_code == 207
    assert collector.post({"action": "wrong"}).status_code == 400
    assert collector.post(trigger(), key="wrong").status_code == 403
    assert collector.get("nothing/here").status_code == 404
    after = samples(collector)

    assert after["brockman_triggers_total stored"] == 4
    assert after["brockman_triggers_total repeated"] == 4
    assert after["brockman_triggers_total refused"] == 2
    for status in ("201", "207", "400", "403"):
        assert after[f"brockman_requests_total POST /api/v1/trigger/ {status}"] == 1
    assert after["brockman_requests_total GET other 404"] == 1
    assert after["brockman_request_seconds_count POST /api/v1/trigger/"] == 4
    assert after["brockman_request_seconds_bucket +Inf POST /api/v1/trigger/"] == 4
    assert 0 < after["brockman_request_seconds_sum POST /api/v1/trigger/"] < 60
    assert after["brockman_bytes_total received"] - before["brockman_bytes_total received"] > 9 * 100
    assert after["brockman_bytes_total sent"] > before["brockman_bytes_total sent"]
    assert after["brockman_store_triggers"] == 4
    assert after["brockman_connections"] == 1
    assert after["brockman_streams"] == after["brockman_pending_bytes"] == 0


def test_metrics_are_exposed_while_the_store_is_away(start: Start) -> None:
    """Without what is read from it."""
    collector = start()
    assert "brockman_store_triggers" in samples(collector)
    collector.database.rename(collector.database.with_suffix(".moved"))
    assert "brockman_store_triggers" not in samples(collector)
    assert "brockman_connections" in samples(collector)
    collector.database.with_suffix(".moved").rename(collector.database)


def read_log(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_access_log_has_a_line_for_each_request(start: Start, tmp_path: Path) -> None:
    """No key, no value of a parameter; the process that sent it is in it."""
    log = tmp_path / "access.log"
    collector = start(access_log=str(log), write_keys=["for-pages"])
    sender = "0123456789abcdef" * 2
    assert collector.post(trigger(), {"X-FL-Sender": f"id={sender}; host=web-3; pid=7"}).status_code == 201
    assert collector.get("trigger/", actor_id="ada@example.com", limit="1").status_code == 200
    assert collector.get("trigger/", **{"ada@example.com": ""}).status_code == 400
    url = f"{collector.endpoint}trigger/?key=for-pages"
    assert requests.post(url, json=trigger(), headers=JSON, timeout=20).status_code == 201
    assert collector.get(f"for-pages/{KEY}/trigger/").status_code == 404
    assert eventually(lambda: len(read_log(log)) == 5)

    first, second, third, fourth, fifth = read_log(log)
    assert fifth["path"] == "/api/v1/(api key)/(api key)/trigger/"
    assert set(first) == {"time", "method", "path", "parameters", "status", "received", "sent", "ms", "sender"}
    assert (first["method"], first["path"], first["status"]) == ("POST", "/api/v1/trigger/", 201)
    assert (first["sender"], second["sender"]) == (sender, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first["time"])
    assert first["received"] > 100
    assert 0 < first["ms"] < 60_000
    assert (second["parameters"], third["parameters"], fourth["parameters"]) == (
        ["actor_id", "limit"],
        ["other"],
        ["key"],
    )
    text = log.read_text()
    assert not any(secret in text for secret in (KEY, "ada", "for-pages"))
    assert log.stat().st_mode & 0o777 == 0o600


def test_the_access_log_is_made_anew_when_it_was_moved(start: Start, tmp_path: Path) -> None:
    """As logrotate does."""
    log = tmp_path / "access.log"
    collector = start(access_log=str(log))
    assert collector.get("stats/").status_code == 200
    assert eventually(lambda: len(read_log(log)) == 1)
    log.rename(tmp_path / "access.log.1")
    assert collector.get("stats/").status_code == 200
    assert eventually(lambda: len(read_log(log)) == 1)


def test_no_access_log_unless_it_is_asked_for(spawn: Spawn) -> None:
    collector = spawn()
    assert collector.get("stats/").status_code == 200
    assert collector.process is not None
    collector.process.terminate()
    assert collector.process.communicate(timeout=20)[1] == ""


def test_a_closed_or_full_pipe_does_not_stop_the_collector(spawn: Spawn) -> None:
    """Standard error is a pipe that nobody reads, and later one that nobody has."""
    collector = spawn("--access-log")
    assert collector.process is not None
    assert collector.process.stderr is not None
    for _ in range(700):  # more than a pipe holds
        assert collector.get("x" * 200).status_code == 404
    collector.process.stderr.close()
    assert collector.post(trigger()).status_code == 201
    collector.process.terminate()
    assert collector.process.wait(20) == 0


def test_lines_that_cannot_be_written_are_counted(tmp_path: Path) -> None:
    """A line has their number once there is room again."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with closing(AccessLog(str(path))) as log:
        os.close(reader)
        for number in (1, 2):
            log.write({"time": 0.0, "n": number})
        assert eventually(lambda: log.lost == 2)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        log.write({"time": 1.5, "n": 3})
    with os.fdopen(reader) as lines:
        assert [json.loads(line) for line in lines] == [
            {"time": "1970-01-01T00:00:01.500000Z", "n": 3},
            {"lost": 2},
        ]


def test_a_log_that_cannot_be_written_is_an_invalid_setting() -> None:
    with pytest.raises(InvalidSetting, match=r"access_log: '/dev/null/log' cannot be written: Not a directory"):
        AccessLog("/dev/null/log")
    assert Settings(database="x").access_log is None
