"""`brockman demo` shows every trigger delivered through an outage, or says which are not."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from brockman.cli.demo import Outcome, conclude
from brockman.cli.proof import compose, examine
from brockman.client import FocusLabClient
from brockman.stats import Stats
from tests.cli.conftest import command, read_terminal, row, serving
from tests.docs.test_commands import documented_keys
from tests.support.client import KEY
from tests.support.programs import Ended, environment, ran, started

COUNT = 500


def run_demo(tmp_path: Path, *arguments: str, **more: str) -> Ended:
    return ran(command("demo", *arguments), env=environment(TMPDIR=str(tmp_path), **more))


def processes_with(text: str) -> list[str]:
    """Return the command lines that contain a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has exited meanwhile
            continue
        if text in line:
            found.append(line)
    return found


def test_20_000_triggers_arrive_once_each_through_an_outage(tmp_path: Path) -> None:
    ended = run_demo(tmp_path)
    assert ended.status == 0, ended
    assert ended.out.splitlines()[-1] == "20000 of 20000, each once"
    assert [row(ended, label) for label in ("recorded", "delivered", "rows", "distinct ids")] == ["20000"] * 4
    assert [row(ended, label) for label in ("rejected", "dropped", "duplicates")] == ["0"] * 3
    assert int(row(ended, "retried")) > 0
    began, ended_again = ended.err.splitlines()  # no bar without a terminal
    assert re.fullmatch(
        r"brockman: http://\S+ is unavailable \(status 503\); triggers are held and retried", began
    )
    assert re.fullmatch(r"brockman: http://\S+ answers again after \d+ s", ended_again)
    assert list(tmp_path.iterdir()) == []
    assert processes_with(str(tmp_path)) == []


def test_it_works_for_one_trigger_and_prints_json(tmp_path: Path) -> None:
    ended = run_demo(tmp_path, "--triggers", "1", "--json")
    numbers = json.loads(ended.out)
    assert (ended.status, numbers["rows"], numbers["problems"]) == (0, 1, [])
    assert set(numbers) == documented_keys("demo")


def test_settings_in_the_environment_are_ignored(tmp_path: Path) -> None:
    hostile = {
        "FL_ENABLED": "0",
        "FL_ENDPOINT": "nonsense",
        "FL_API_KEY": "other",
        "http_proxy": "http://127.0.0.1:1",
    }
    ended = run_demo(tmp_path, "--triggers", "3000", "--seed", "2", **hostile)
    assert (ended.status, ended.out.splitlines()[-1]) == (0, "3000 of 3000, each once")


def test_on_a_terminal_warnings_are_on_separate_lines(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with started(
        command("demo", "--triggers", "3000"), env=environment(TMPDIR=str(tmp_path)), stderr=theirs, stdout=theirs
    ) as process:
        os.close(theirs)
        output = read_terminal(ours)
    assert process.returncode == 0
    lines = [line for line in output.replace("\r", "\n").split("\n") if line.strip()]
    assert any(line.startswith("100%|") and "3000/3000" in line and "recorded=3000" in line for line in lines)
    assert sum(line.startswith("brockman: ") for line in lines) == sum("brockman: " in line for line in lines) == 2
    assert lines[-1] == "3000 of 3000, each once"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing_behind(tmp_path: Path, number: int, status: int) -> None:
    with started(
        command("demo", "--triggers", "60000"),
        env=environment(TMPDIR=str(tmp_path)),
    ) as process:
        assert process.stderr is not None
        assert "is unavailable" in process.stderr.readline()  # all threads wait for room
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == status
    # The outage may be over before the signal comes; then a thread may be about to record.
    expected = ("answers again", "is unavailable", "recorded on a closed client", "closed with ")
    rest = [text for text in err.splitlines() if text and not any(words in text for words in expected)]
    assert rest == ["brockman demo: interrupted; nothing of it is left"]
    assert list(tmp_path.iterdir()) == []
    assert processes_with(str(tmp_path)) == []


def test_a_collector_that_does_not_start_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise SystemExit('this uvicorn is broken')")
    ended = ran(
        command("demo"),
        env=environment(TMPDIR=str(tmp_path)) | {"PYTHONPATH": f"{tmp_path}:{environment()['PYTHONPATH']}"},
    )
    assert ended.status == 1
    assert ended.err == "brockman demo: the collector failed: this uvicorn is broken\n"


def test_the_seed_selects_the_triggers() -> None:
    first, again, other = ([compose(seed, number) for number in range(1, 100)] for seed in (1, 1, 2))
    assert first == again != other
    assert len({trigger.action for trigger in first}) > 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a collector that received the triggers 1 to 500."""
    folder = tmp_path_factory.mktemp("whole")
    with serving(folder) as collector, FocusLabClient(KEY, endpoint=collector.endpoint) as client:
        for number in range(1, COUNT + 1):
            client.record_trigger(*compose(1, number)[:6])
        assert client.flush()
    return collector.database


@pytest.fixture
def database(whole: Path, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A copy of it, to be changed."""
    with (
        closing(sqlite3.connect(whole)) as source,
        closing(sqlite3.connect(tmp_path / "copy.sqlite3", isolation_level=None)) as copy,
    ):
        source.backup(copy)
        yield copy


def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return the exit status and the last line for the changed copy."""
    proof = examine(tmp_path / "copy.sqlite3", 1, COUNT)
    status = conclude(Outcome(Stats(), 1.0, [1]), proof)
    return status, capsys.readouterr().out.splitlines()[-1]


def test_an_unchanged_database_is_the_proof(
    database: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tmp_path, capsys) == (0, "500 of 500, each once")


@pytest.mark.parametrize(
    ("statement", "conclusion"),
    [
        ("DELETE FROM triggers WHERE arrival = 17", "499 of 500, missing: 1, number 17"),
        (
            "INSERT INTO triggers SELECT 1000, 'x', actor_id, action, object, 0, 0, body FROM triggers"
            " WHERE arrival = 17",
            "500 of 500, double: 1, number 17; ids: 501 rows have 500 different ones",
        ),
        (
            "UPDATE triggers SET body = (SELECT body FROM triggers WHERE arrival = 16) WHERE arrival = 17",
            "499 of 500, missing: 1, number 17; double: 1, number 16; ids: 500 rows have 499 different ones",
        ),
        (
            "UPDATE triggers SET body = json_set(body, '$.actor_id', 'someone else') WHERE arrival IN (3, 5)",
            "500 of 500, altered: 2, number 3, 5",
        ),
        (
            "INSERT INTO triggers SELECT 1000, 'x', actor_id, action, object, 0, 0,"
            " json_set(body, '$.variables.number', 501, '$.id', 'x') FROM triggers WHERE arrival = 17",
            "500 of 500, never recorded: 1",
        ),
    ],
    ids=["missing", "double", "replaced", "altered", "unexpected"],
)
def test_a_changed_database_is_detected(
    database: sqlite3.Connection,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    statement: str,
    conclusion: str,
) -> None:
    database.execute(statement)
    assert check(tmp_path, capsys) == (1, conclusion)
