"""`brockman erase`: a person is erased, after a question."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable
from pathlib import Path

import pytest

from brockman.cli import main
from brockman.collector.store import open_store
from tests.cli.conftest import command, read_terminal
from tests.cli.test_export import fill
from tests.collector.conftest import location, postgresql, start  # noqa: F401
from tests.collector.running import Running, trigger
from tests.support.client import KEY
from tests.support.programs import Ended, environment, started

EMAIL = "ada@example.com"
SENT = [trigger(actor_id=actor, captured_identities={"email": EMAIL}) for actor in ("a", "b")] + [
    trigger(actor_id="a"),
    trigger(actor_id="c"),
]


@pytest.fixture
def erase(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run `brockman erase` in this process."""

    def run(*arguments: str) -> Ended:
        monkeypatch.delenv("FL_STORE", raising=False)
        monkeypatch.delenv("FL_ENDPOINT", raising=False)
        monkeypatch.setenv("FL_API_KEY", KEY)
        status = main(["erase", *arguments])
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run


def test_a_person_is_erased_through_a_collector_or_in_its_store(
    start: Callable[..., Running],  # noqa: F811
    location: str,  # noqa: F811
    erase: Callable[..., Ended],
) -> None:
    """And what would be erased is what is."""
    collector = start(database=location)
    collector.post(SENT)
    by_api, by_store = ["--endpoint", collector.endpoint], ["--store", location]
    for place in (by_api, by_store):
        trial = erase("--identity", f"email={EMAIL}", "--dry-run", *place)
        assert (trial.status, trial.err) == (0, "")
        assert trial.out.splitlines() == [
            "triggers    3  would be erased",
            "actor ids   2  a, b",
            "identities  1",
        ]
    assert collector.stored() == SENT

    erased = erase("--identity", f"email={EMAIL}", "--yes", *by_api)
    assert erased.out.splitlines()[0] == "triggers    3  erased"
    assert ("VACUUM" in erased.out) == ("://" in location)
    assert collector.stored() == SENT[3:]
    assert erase("--actor", "c", "--yes", *by_store).status == 0
    assert collector.stored() == []
    assert collector.post(SENT).json() == {"accepted": 4, "repeated": 4}
    assert erase("--actor", "c", "--dry-run", *by_api).out == "nothing is stored about this person\n"


@pytest.mark.parametrize(("answer", "left"), [("y", 1), ("n", 4), ("", 4)])
def test_on_a_terminal_it_asks(tmp_path: Path, answer: str, left: int) -> None:
    path = tmp_path / "store.sqlite3"
    fill(path, SENT)
    master, slave = pty.openpty()
    arguments = command("erase", "--identity", f"email={EMAIL}", "--store", str(path))
    with started(arguments, stdin=slave, stdout=slave, stderr=slave, env=environment()) as process:
        os.close(slave)
        os.write(master, f"{answer}\n".encode())
        shown = read_terminal(master)
        assert process.wait(30) == (0 if answer == "y" else 1)
    assert "Erase this? It cannot be undone. [y/N]" in shown
    assert "3  to erase" in shown
    store = open_store(path)
    assert store.counts().triggers == left
    store.close()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--actor", " "], "--actor is empty"),
        (["--identity", "email"], "--identity is 'email'; it should be NAME=VALUE"),
        (["--identity", "a:b=c"], "a name has no colon"),
        (["--actor", "7"], "there is no terminal to ask; give --yes, or --dry-run"),
        (["--actor", "7", "--yes"], "set FL_ENDPOINT"),
        (["--actor", "7", "--yes", "--store", "/nowhere"], "there is no file '/nowhere'"),
    ],
)
def test_wrong_usage_says_what_is_right(arguments: list[str], reason: str, erase: Callable[..., Ended]) -> None:
    ended = erase(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert reason in ended.err


def test_a_collector_that_does_not_respond_is_said(erase: Callable[..., Ended]) -> None:
    ended = erase("--actor", "7", "--yes", "--endpoint", "http://127.0.0.1:1/api/v1/", "--timeout", "0")
    assert (ended.status, "Connection refused" in ended.err) == (1, True)
