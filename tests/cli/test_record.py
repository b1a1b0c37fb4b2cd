"""`brockman record`: one trigger is accepted, kept on disk, or said to be lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from brockman.cli import main
from tests.support.client import KEY
from tests.support.endpoint import Endpoint
from tests.support.programs import Ended
from tests.support.server import RecordingServer

ID = "5a9c0d0e-8c1f-4d57-9c0b-3f5b6f2d7a11"
NOWHERE = ("--endpoint", "http://127.0.0.1:1/", "--timeout", "0.3")
Record = Callable[..., Ended]


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: RecordingServer) -> Record:
    """Run `brockman record ada viewed page` in this process."""
    monkeypatch.setenv("FL_ENDPOINT", server.endpoint)
    monkeypatch.setenv("FL_API_KEY", KEY)

    def run(*arguments: str) -> Ended:
        status = main(["record", "ada", "viewed", "page", *arguments])
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run


def test_it_ends_when_the_endpoint_has_the_trigger(record: Record, server: RecordingServer) -> None:
    """Numbers, booleans and lists are those of JSON, the rest is text, as for `replay --set`."""
    ended = record(
        *("--variable", "title=Pricing: a=b", "--variable", "n=3", "--variable", "code=007"),
        *("--variable", "tag=a", "--variable", "tag=b", "--variable", "not=NaN"),
        *("--attribute", "paying=true", "--identity", "email=ada@example.com", "--identity", 'phone="49"'),
        *("--at", "2026-11-01T08:00:00+02:00", "--id", ID),
    )
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert server.triggers == [
        {
            "actor_id": "ada",
            "action": "viewed",
            "object": "page",
            "captured_identities": {"email": "ada@example.com", "phone": "49"},
            "captured_attributes": {"paying": True},
            "variables": {"title": "Pricing: a=b", "n": 3, "code": "007", "tag": ["a", "b"], "not": "NaN"},
            "id": ID,
            "recorded_at": "2026-11-01T06:00:00.000000Z",
        }
    ]
    assert json.loads(record("--id", ID, "--json").out) == {"status": "delivered", "id": ID, "error": None}


def test_with_a_spool_nothing_is_lost(
    record: Record, server: RecordingServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A trigger that is not accepted in time is kept, with a warning; the next call delivers it, too."""
    folder = tmp_path / "spool"
    monkeypatch.setenv("FL_SPOOL_DIR", str(folder))
    kept = record(*NOWHERE, "--id", ID, "--json")
    assert (kept.status, json.loads(kept.out)["status"]) == (0, "kept")
    assert kept.err.splitlines()[-1].startswith("brockman record: not delivered (")
    assert f"; kept in {folder}, " in kept.err

    assert record().status == 0
    assert len(server.triggers) == 2
    assert server.ids()[ID] == 1


def test_a_lost_trigger_is_an_error(record: Record, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a spool, and with one that cannot be written."""
    lost = record(*NOWHERE, "--json")
    assert (lost.status, json.loads(lost.out)["status"]) == (1, "lost")
    assert "Connection refused), and not kept: FL_SPOOL_DIR is not set\n" in lost.err

    (tmp_path / "file").touch()
    monkeypatch.setenv("FL_SPOOL_DIR", str(tmp_path / "file" / "spool"))
    unwritable = record(*NOWHERE)
    assert unwritable.status == 1
    assert "and not kept: " in unwritable.err


def test_a_refused_trigger_is_an_error(record: Record, server: RecordingServer) -> None:
    Endpoint(server, 400)
    refused = record("--json")
    assert (refused.status, json.loads(refused.out)["status"]) == (1, "refused")
    assert refused.err.splitlines()[-1].startswith("brockman record: refused: the server answered 400")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--variable", "title"], "--variable is 'title'; it should be NAME=VALUE"),
        (["--identity", "=x"], "--identity is '=x'; it should be NAME=VALUE"),
        (["--variable", 'a={"b": 1}'], "variables['a']: a value of type dict should be a str, int"),
        (["--attribute", "a=\udcff"], "it should be UTF-8"),
        (["--id", "7"], "argument --id: '7' is not a UUID"),
        (["--at", "2026-11-01"], "argument --at: '2026-11-01' has no time zone"),
        (["--at", "2099-11-01T00:00:00Z"], "at: "),
        (["--timeout", "-1"], "argument --timeout: '-1' should be a number from 0"),
    ],
)
def test_wrong_input_is_named(
    record: Record,
    server: RecordingServer,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    error: str,
) -> None:
    try:
        status, shown = (ended := record(*arguments)).status, ended.err
    except SystemExit as exit:
        status, shown = int(exit.code or 0), capsys.readouterr().err
    assert (status, error in shown) == (2, True), shown
    assert shown.splitlines()[-1].startswith("brockman record: ")
    assert server.requests == []
