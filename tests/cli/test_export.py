"""`brockman export`: everything that was stored when it began, in a form that can be read again."""

from __future__ import annotations

import csv
import io
import json
import resource
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from brockman.cli import main
from brockman.collector.store import open_store
from brockman.collector.store.refused import Refused
from brockman.collector.validation import make_row
from tests.cli.conftest import command, serving
from tests.collector.conftest import location, postgresql, start  # noqa: F401
from tests.collector.running import Running, trigger
from tests.support.client import KEY
from tests.support.programs import Ended, environment, free_port, ran, started
from tests.support.waiting import eventually

Export = Callable[..., Ended]


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Export:
    """Run `brockman export` in this process, from an endpoint or, without one, a store."""

    def run(endpoint: str | None, *arguments: str) -> Ended:
        monkeypatch.delenv("FL_STORE", raising=False)
        monkeypatch.delenv("FL_ENDPOINT", raising=False)
        if endpoint is not None:
            monkeypatch.setenv("FL_ENDPOINT", endpoint)
        monkeypatch.setenv("FL_API_KEY", KEY)
        capsys.readouterr()
        status = main(["export", *arguments])
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run


def fill(store_location: str | Path, sent: list[dict[str, Any]]) -> None:
    with closing(open_store(store_location)) as store:
        for first in range(0, len(sent), 5000):
            store.add([make_row(one, 0, str) for one in sent[first : first + 5000]])


def lines_of(text: str) -> list[Any]:
    return [json.loads(line) for line in text.split("\n")[:-1]]


ODD = [
    trigger(
        actor_id="\u2028 é 😀 \0",
        object='line\nbreak, "quoted"',
        captured_identities={"email": "ada@example.com", "n": 2**53, "list": ["a", 1, 1.5, True]},
        captured_attributes={"plan": "pro", "=1+1": "=1+1"},
        variables={"big": 1e300, "negative": -5, "text": "-5", "empty": ""},
    ),
    trigger(recorded_at="1999-12-31T23:59:59.999999Z"),
]


def test_what_is_exported_can_be_imported_and_is_the_same(
    start: Callable[..., Running],  # noqa: F811
    location: str,  # noqa: F811
    tmp_path: Path,
    export: Export,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ids, times, types and all characters; through the API as from the store."""
    collector = start(database=location)
    other = start(database=tmp_path / "other.sqlite3")
    sent = [*ODD, *(trigger(variables={"n": n}) for n in range(200))]
    collector.post(sent)

    by_api = export(collector.endpoint, "--output", str(tmp_path / "export.ndjson"))
    by_store = export(None, "--store", location)

    assert (by_api.status, by_api.out) == (0, "")
    assert "202 triggers written to" in by_api.err
    assert (tmp_path / "export.ndjson").read_text() == by_store.out
    assert lines_of(by_store.out) == sent
    for accepted in (other, collector):
        monkeypatch.setenv("FL_ENDPOINT", accepted.endpoint)
        assert main(["import", "--format", "ndjson", str(tmp_path / "export.ndjson")]) == 0
        assert accepted.stored() == sent


def test_conditions_select(
    start: Callable[..., Running],  # noqa: F811
    location: str,  # noqa: F811
    export: Export,
) -> None:
    collector = start(database=location)
    sent = [
        trigger(
            action=f"did {n % 2}",
            recorded_at=f"2026-11-{10 + n % 10}T00:00:00Z",
            captured_attributes={"plan": "pro" if n % 3 else "free"},
        )
        for n in range(60)
    ]
    collector.post(sent)

    def numbers(*arguments: str) -> list[int]:
        found = export(collector.endpoint, *arguments)
        assert found.status == 0
        assert found.out == export(None, "--store", location, *arguments).out
        return [sent.index(one) for one in lines_of(found.out)]

    assert numbers("--where", "action=did 1") == list(range(1, 60, 2))
    assert numbers("--where", "attributes.plan=free", "--where", "action~=0") == list(range(0, 60, 6))
    assert numbers("--since", "2026-11-18", "--until", "2026-11-19") == [8, 18, 28, 38, 48, 58]
    assert numbers("--where", f"id={sent[7]['id']}") == [7]
    assert numbers("--where", "action=nothing") == []


def test_an_export_has_what_was_stored_before_it_each_once(
    start: Callable[..., Running],  # noqa: F811
    location: str,  # noqa: F811
    export: Export,
) -> None:
    """While others arrive, in steps, which it does not chase."""
    fill(location, [trigger() for _ in range(12_000)])
    collector = start(database=location)
    before, end = set(collector.ids()), threading.Event()

    def record() -> None:
        with closing(open_store(location)) as store:
            while not end.is_set():
                store.add([make_row(trigger(), 0, str) for _ in range(20)])

    thread = threading.Thread(target=record)
    thread.start()
    try:
        for arguments in ([collector.endpoint], [None, "--store", location]):
            found = export(*arguments)
            ids = [one["id"] for one in lines_of(found.out)]
            assert len(ids) == len(set(ids))
            assert before <= set(ids)
    finally:
        end.set()
        thread.join()


def test_csv_has_a_column_for_each_name(
    tmp_path: Path,
    export: Export,
    start: Callable[..., Running],  # noqa: F811
) -> None:
    """All of them in the first row, wherever they occur first; `brockman import` takes it."""
    fill(tmp_path / "store.sqlite3", [trigger(), *ODD])

    text = export(None, "--store", str(tmp_path / "store.sqlite3"), "--format", "csv").out
    rows = list(csv.DictReader(io.StringIO(text)))

    assert text.splitlines()[0] == (
        "id,recorded_at,actor_id,action,object,identities.email,identities.list,identities.n,"
        "attributes.=1+1,attributes.plan,variables.big,variables.empty,variables.negative,variables.text"
    )
    assert rows[0]["variables.text"] == ""
    assert rows[1]["actor_id"] == "\u2028 é 😀 \ufffd"
    assert rows[1]["object"] == 'line\nbreak, "quoted"'
    assert json.loads(rows[1]["identities.list"]) == ["a", 1, 1.5, True]
    assert (rows[1]["variables.negative"], rows[1]["attributes.=1+1"]) == ("-5", "=1+1")
    assert [row["id"] for row in rows[1:]] == [one["id"] for one in ODD]


def test_a_spreadsheet_finds_no_formula(tmp_path: Path, export: Export) -> None:
    formulas = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]
    fill(tmp_path / "store.sqlite3", [trigger(actor_id=text, variables={text: text}) for text in formulas])

    text = export(None, "--store", str(tmp_path / "store.sqlite3"), "--format", "csv", "--spreadsheet").out

    cells = {cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row}
    assert {f"'{text}" for text in formulas} <= cells
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == []


def test_parquet_has_types_and_json(tmp_path: Path, export: Export) -> None:
    duckdb = pytest.importorskip("duckdb", reason="no wheel for this Python")
    fill(tmp_path / "store.sqlite3", [ODD[0], trigger(recorded_at="2026-11-23T17:22:32.5+02:00")])
    output = tmp_path / "it's.parquet"

    ended = export(
        None, "--store", str(tmp_path / "store.sqlite3"), "--format", "parquet", "--output", str(output)
    )

    assert ended.status == 0
    quoted = str(output).replace("'", "''")
    with duckdb.connect() as connection:
        first, second = connection.execute(
            "SELECT id, actor_id, object, recorded_at::TEXT, identities->>'email', (variables->>'big')::DOUBLE"
            f" FROM '{quoted}' ORDER BY recorded_at DESC"
        ).fetchall()
    assert first[:4] == (ODD[0]["id"], ODD[0]["actor_id"], ODD[0]["object"], "2026-11-23 17:22:32.123456")
    assert first[4:] == ("ada@example.com", 1e300)
    assert second[3] == "2026-11-23 15:22:32.5"


def test_without_duckdb_it_says_what_to_install(
    tmp_path: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    ended = export("http://127.0.0.1:1/", "--format", "parquet", "--output", str(tmp_path / "x"))
    assert (ended.status, "pip install duckdb" in ended.err) == (2, True)


def test_the_output_is_replaced_when_it_is_complete(tmp_path: Path, export: Export) -> None:
    """Only its owner can read it: it has what people did."""
    fill(tmp_path / "store.sqlite3", [trigger()])
    output = tmp_path / "export.ndjson"
    output.write_text("before")
    before = sorted(tmp_path.iterdir())

    assert export(None, "--store", str(tmp_path / "store.sqlite3"), "--output", str(output)).status == 0

    assert len(output.read_text().splitlines()) == 1
    assert output.stat().st_mode & 0o777 == 0o600
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A store whose export takes a while."""
    path = tmp_path / "large.sqlite3"
    fill(path, [trigger(variables={"text": "x" * 900}) for _ in range(40_000)])
    return path


def test_the_memory_of_an_export_is_bounded(large: Path, tmp_path: Path) -> None:
    """Whatever it has to write: a page at a time."""
    code = (
        "import re, sys; from brockman.cli import main; status = main(sys.argv[1:]);"
        " print(status, *re.findall('VmHWM:\\\\s+(\\\\d+)', open('/proc/self/status').read()), file=sys.stderr)"
    )
    arguments = ["export", "--store", str(large)]
    with (tmp_path / "out").open("w") as out:
        ended = ran([command()[0], "-c", code, *arguments], stdout=out, stderr=subprocess.PIPE)
    status, kibibytes = ended.err.split()
    assert (status, (tmp_path / "out").stat().st_size > 40_000_000) == ("0", True)
    assert int(kibibytes) < 100_000


def test_a_reader_that_stops_ends_it_quietly(large: Path) -> None:
    with started(command("export", "--store", str(large))) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["actor_id"] == "7"
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr.read() == ""


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
def test_an_interrupted_export_changes_no_file(large: Path, tmp_path: Path, kind: str) -> None:
    output = tmp_path / "export"
    output.write_text("before")
    arguments = command("export", "--store", str(large), "--output", str(output), "--format", kind)
    with started(arguments) as process:
        assert eventually(lambda: any(path.stat().st_size for path in tmp_path.glob(".brockman-export-*/*")))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert output.read_text() == "before"
    assert list(tmp_path.glob(".brockman*")) == []


def test_a_full_disk_is_reported(large: Path, tmp_path: Path) -> None:
    """The file may be that of a redirection, or of --output."""
    with Path("/dev/full").open("w") as full:
        ended = ran(command("export", "--store", str(large)), stdout=full, stderr=subprocess.PIPE)
    assert (ended.status, ended.err) == (1, "brockman export: No space left on device\n")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))

    output = tmp_path / "export"
    ended = ran(command("export", "--store", str(large), "--output", str(output)), preexec_fn=limit)
    assert (ended.status, ended.err) == (1, "brockman export: File too large\n")
    assert not output.exists()
    assert list(tmp_path.glob(".brockman*")) == []


def test_a_collector_that_is_away_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    fill(tmp_path / "triggers.sqlite3", [trigger()])
    port = free_port()
    env = environment(FL_ENDPOINT=f"http://127.0.0.1:{port}/api/v1/", FL_API_KEY=KEY)
    with (
        started(command("export", "--timeout", "30"), env=env) as process,
        serving(tmp_path, "--port", str(port)),
    ):
        out, err = process.communicate()
    assert (process.returncode, len(out.splitlines()), err) == (0, 1, "")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--store", "missing.sqlite3"], "--store: there is no file 'missing.sqlite3'"),
        (["--store", "mysql://x/y"], "--store: give the path of a file"),
        ([], "set FL_ENDPOINT"),
        (["--where", "colour=red"], "--where is 'colour=red'; it should be FIELD=VALUE"),
        (["--since", "yesterday"], "is not a time"),
        (["--format", "parquet"], "needs --output"),
        (["--spreadsheet"], "--spreadsheet is for --format csv"),
        (["--refused", "--format", "csv"], "--refused is for --format ndjson"),
        (["--refused", "--store", "x"], "--refused needs a collector"),
    ],
)
def test_wrong_usage_says_what_is_right(
    arguments: list[str], reason: str, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = export(None, *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert reason in ended.err
    assert list(tmp_path.iterdir()) == []


def test_the_store_may_be_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for `brockman serve`, unless there is an endpoint."""
    fill(tmp_path / "store.sqlite3", [trigger()])
    monkeypatch.setenv("FL_STORE", str(tmp_path / "store.sqlite3"))
    monkeypatch.delenv("FL_ENDPOINT", raising=False)
    assert main(["export"]) == 0
    assert len(lines_of(capsys.readouterr().out)) == 1
    monkeypatch.setenv("FL_ENDPOINT", "http://127.0.0.1:1/")
    assert main(["export", "--timeout", "0"]) == 1


def test_an_output_without_a_directory_is_a_wrong_usage(tmp_path: Path, export: Export) -> None:
    fill(tmp_path / "store.sqlite3", [])
    ended = export(None, "--store", str(tmp_path / "store.sqlite3"), "--output", str(tmp_path / "no" / "x"))
    assert (ended.status, "there is no directory" in ended.err) == (2, True)


def test_a_wrong_key_or_server_is_said(collector: Running, export: Export) -> None:
    assert "403" in export(collector.endpoint, "--api-key", "other").err
    assert "404" in export(collector.endpoint + "elsewhere/").err
    assert export(collector.endpoint + "elsewhere/").status == 1


def test_refused_triggers_are_exported_with_their_reasons(
    start: Callable[..., Running],  # noqa: F811
    location: str,  # noqa: F811
    export: Export,
) -> None:
    """And leave when they are as old as the triggers that are removed."""
    collector = start(database=location)
    collector.post([trigger(action="paid", object=""), trigger(action="", object="x"), trigger()])

    found = lines_of(export(collector.endpoint, "--refused").out)
    paid = lines_of(export(collector.endpoint, "--refused", "--where", "action=paid").out)

    assert [entry["reason"].partition(":")[0] for entry in found] == ["object", "action"]
    assert paid == found[:1]
    assert len(lines_of(export(collector.endpoint, "--refused", "--where", "reason~=ACTION").out)) == 1
    with closing(open_store(location)) as store:
        store.parts = (Refused(store),)
        store.prune(10**17)
    assert export(collector.endpoint, "--refused").out == ""
