"""Commands that read from something else than a collector: a sentence, an exit status, and an end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from brockman.cli import main
from tests.support.client import KEY
from tests.support.endpoint import Endpoint
from tests.support.server import RecordingServer, Reply

COMMANDS = [
    ["export"],
    ["export", "--refused"],
    ["erase", "--actor", "7", "--yes"],
    ["replay"],
    ["replay", "--dry-run"],
]
REFUSAL = {"number": 1, "reason": "no", "received_at": "2026-11-23T17:22:32Z", "sender": None, "trigger": None}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, server: RecordingServer) -> None:
    monkeypatch.setenv("FL_ENDPOINT", server.endpoint)
    monkeypatch.setenv("FL_API_KEY", KEY)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    "content", [b"{}", b"[1]", b"null", b"[" * 100_000, b'{"newest": "x", "refused": [1], "triggers": -1}']
)
def test_another_api_is_named_as_no_collector(
    server: RecordingServer, capsys: pytest.CaptureFixture[str], command: list[str], content: bytes
) -> None:
    Endpoint(server, lambda request: Reply(200, content))
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"brockman {command[0]}: {server.endpoint} is no collector: " in err
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "command", [["export"], ["export", "--refused"], ["replay"], ["replay", "--dry-run"]], ids=" ".join
)
def test_pages_that_lead_to_each_other_end(
    server: RecordingServer, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """A cursor that does not move is an error, not an endless command."""
    page: dict[str, Any] = {"newest": "900", "next": "5", "total": 1}
    stats = json.dumps({"triggers": 1}).encode()
    content = json.dumps({**page, "triggers": [], "refused": [REFUSAL]}).encode()
    Endpoint(server, lambda request: Reply(200, stats if "stats/" in request.path else content))
    assert main(command) == 1
    assert "leads to the same page again" in capsys.readouterr().err
    assert len(server.requests) <= 4
