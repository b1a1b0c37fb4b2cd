"""`brockman import` delivers every line once, or reports it."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from brockman.cli import ids, main
from brockman.cli.occurrences import Occurrences
from tests.cli.conftest import Import, command, read_terminal, row, serving
from tests.support.client import KEY
from tests.support.programs import environment, ran, started
from tests.support.server import RecordingServer, Reply, Request

BROKEN = (
    "",
    "-",
    '203.0.113.9 - - [10/Oct/2025:13:55:36 +0200] "-" 408 - "-" "-"',
    '203.0.113.9 - - [10/Oct/2025:13:55:36 +0200] "\\x16\\x03\\x01" 400 226 "-" "-"',
    '203.0.113.9 - - [10/Oct/2025:13:55:36 +0200] "GET /cut HT',
)


def log_line(number: int) -> str:
    minute, second = divmod(number // 50 % 3600, 60)
    return (
        f"203.0.113.{number % 250} - - [10/Oct/2025:13:{minute:02d}:{second:02d} +0200]"
        f' "GET /page/{number} HTTP/1.1" 200 {number} "-" "Mozilla/5.0 (\\"quoted\\"; {number % 7})"'
    )


def write_log(path: Path, count: int) -> Path:
    path.write_text("".join(f"{log_line(number)}\n" for number in range(count)))
    return path


def closed_port() -> str:
    """Return an endpoint on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1/"


def test_a_log_of_100_000_lines_arrives_once_each_and_the_20_broken_ones_are_reported(
    run_import: Import, tmp_path: Path
) -> None:
    path = tmp_path / "access.log"
    broken = range(2500, 100_000, 5000)
    lines = [log_line(number) for number in range(100_000)]
    for position, number in enumerate(broken):
        lines[number] = BROKEN[1 + position % 4]
    path.write_text("\n".join(lines) + "\n")

    with serving(tmp_path, "--outage-after", "30000", "--outage-for", "0.5") as collector:
        ended = run_import(collector.endpoint, path)
        paths = Counter(trigger["object"] for trigger in collector.stored())
        assert collector.stats()["duplicates"] == 0

    assert ended.status == 1
    reports = [line for line in ended.err.splitlines() if line.startswith("line ")]
    assert [line.split(":")[0] for line in reports] == [f"line {number + 1}" for number in broken]
    assert (row(ended, "lines read"), row(ended, "new")) == ("100000", "99980")
    assert (row(ended, "bad lines"), row(ended, "refused"), row(ended, "not delivered")) == ("20", "0", "0")
    assert paths == Counter(f"/page/{number}" for number in range(100_000) if number not in broken)


def test_a_rejected_trigger_is_reported_with_the_reason_and_the_line(
    server: RecordingServer, run_import: Import
) -> None:
    def respond(request: Request) -> Reply:
        rejected = [
            {"index": index, "error": "no such\x1bpage"}
            for index, trigger in enumerate(request.triggers)
            if trigger["object"] in ("/page/7", "/page/11000")
        ]
        return Reply(207, json.dumps({"rejected": rejected}).encode())

    server.respond = respond
    ended = run_import(server.endpoint, "\n\n" + "\n".join(map(log_line, range(12_000))))
    assert ended.status == 1
    first, second = ended.err.splitlines()
    assert first.startswith(r"line 10: rejected: the server answered 400: no such\x1bpage: ")
    assert second.startswith("line 11003: rejected: ")
    assert "/page/11000" in second
    assert (row(ended, "new"), row(ended, "refused")) == ("11998", "2")
    assert r"2  the server answered 400: no such\x1bpage" in ended.out


def test_a_line_is_sent_when_it_is_read_not_when_the_input_ends(server: RecordingServer) -> None:
    with started(
        command("import", "-", "--endpoint", server.endpoint, "--api-key", KEY),
        stdin=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(log_line(1) + "\n")
        process.stdin.flush()
        server.wait_until(lambda server: len(server.triggers) == 1)
        out, _ = process.communicate(log_line(2))
    assert process.returncode == 0
    assert [trigger["object"] for trigger in server.triggers] == ["/page/1", "/page/2"]
    assert "new                  2" in out


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_an_outage_stops_it_with_a_summary(tmp_path: Path, number: int, status: int) -> None:
    path = write_log(tmp_path / "access.log", 20_000)
    with started(
        command("import", str(path), "--endpoint", closed_port()),
        env=environment(FL_API_KEY=KEY),
    ) as process:
        assert process.stderr is not None
        assert "is unavailable" in process.stderr.readline()
        process.send_signal(number)
        out, err = process.communicate()
    assert process.returncode == status
    assert "Traceback" not in err
    rows = {line[:13].strip(): line[13:].split(maxsplit=1) for line in out.splitlines()}
    assert rows["new"][0] == "0"
    assert int(rows["not delivered"][0]) > 0
    assert rows["not delivered"][1] == "from line 1 on"


@pytest.fixture
def short_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last attempt takes a tenth of a second."""
    monkeypatch.setenv("FL_SHUTDOWN_TIMEOUT", "0.1")


@pytest.mark.usefixtures("short_close")
@pytest.mark.parametrize("count", [3, 11_000], ids=["at the end", "while the buffer is full"])
def test_timeout_gives_up_during_an_outage(run_import: Import, tmp_path: Path, count: int) -> None:
    ended = run_import(closed_port(), write_log(tmp_path / "access.log", count), "--timeout", "0.2")
    assert ended.status == 1
    assert row(ended, "new") == "0"
    assert "from line 1 on" in ended.out
    assert ("giving up" in ended.err) == (count > 10_000)


def test_without_room_for_a_temporary_file_it_gives_up_and_says_so(
    server: RecordingServer, run_import: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although all that was read is delivered, the exit status is 1: there was more."""
    monkeypatch.setattr(ids, "Occurrences", partial(Occurrences, 50))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    ended = run_import(server.endpoint, write_log(tmp_path / "access.log", 100))
    assert (ended.status, row(ended, "new"), row(ended, "not delivered")) == (1, "50", "0")
    assert "line 51: cannot write to" in ended.err


@pytest.mark.usefixtures("short_close")
def test_what_was_delivered_before_an_outage_is_not_counted_as_missing(
    server: RecordingServer, run_import: Import, tmp_path: Path
) -> None:
    server.respond = lambda request: Reply(201 if len(server.requests) < 2 else 503)
    ended = run_import(server.endpoint, write_log(tmp_path / "access.log", 6000), "--timeout", "0.2")
    delivered = sum(len(request.triggers) for request in server.requests[:2])
    assert 500 <= delivered < 6000  # a backlog is sent in longer batches
    assert (ended.status, row(ended, "new")) == (1, str(delivered))
    assert row(ended, "not delivered") == str(6000 - delivered)
    assert f"from line {delivered + 1} on" in ended.out


def test_a_wrong_setting_or_file_is_a_wrong_usage(run_import: Import, tmp_path: Path) -> None:
    for endpoint, content, error in [
        ("http://127.0.0.1:1/", tmp_path / "none.log", "none.log' cannot be read: No such file or directory"),
        ("http://127.0.0.1:1/", tmp_path, "cannot be read: Is a directory"),
        ("ftp://example.com/", log_line(1), "endpoint is 'ftp://example.com/'; it should be a URL"),
        ("https://*.example.com/", log_line(1), "endpoint is 'https://*.example.com/'; it should be a URL"),
        ("https://\u2603.example/", log_line(1), "endpoint is 'https://\u2603.example/'; it should have a valid"),
        ("https://h/?token=geheim", log_line(1), "endpoint is 'https://h/?token=...'; it should be a URL"),
        ("http://example.com/", log_line(1), "the API key would travel in clear"),
    ]:
        ended = run_import(endpoint, content)
        assert (ended.status, ended.out) == (2, "")
        assert ended.err.startswith("brockman import: ")
        assert error in ended.err
        assert ended.err.count("\n") == 1


@pytest.mark.parametrize("text", ["soon", "nan", "-1", "1e9", "\x1b[31m", ""])
def test_a_wrong_number_is_a_wrong_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in [
        (["import", "-", f"--timeout={text}"], "should be a number from 0 to 1000000"),
        (["demo", f"--triggers={text}"], "should be a whole number from 1"),
    ]:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert f": {text!r} {expected}\n" in capsys.readouterr().err


@pytest.mark.usefixtures("short_close")
def test_a_wrong_key_is_reported_while_waiting(
    server: RecordingServer, run_import: Import, tmp_path: Path
) -> None:
    server.respond = lambda request: Reply(401)
    ended = run_import(server.endpoint, write_log(tmp_path / "access.log", 10), "--timeout", "0.2")
    assert (ended.status, row(ended, "not delivered")) == (1, "10")
    assert "answers 401: check api_key (FL_API_KEY)" in ended.err


@pytest.mark.parametrize(
    ("settings", "error"),
    [({}, "api_key is missing"), ({"FL_API_KEY": KEY, "FL_ENABLED": "0"}, "enabled is off (FL_ENABLED)")],
    ids=["no key", "switched off"],
)
def test_without_a_key_or_switched_off_nothing_is_read(settings: dict[str, str], error: str) -> None:
    ended = ran(command("import", "-"), env=environment(**settings))
    assert (ended.status, ended.out) == (2, "")
    assert error in ended.err


def test_settings_in_the_environment_do_not_make_it_drop(
    server: RecordingServer, run_import: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in [("OVERFLOW", "drop_newest"), ("MAX_QUEUE_SIZE", "1"), ("ON_INVALID", "drop")]:
        monkeypatch.setenv(f"FL_{name}", value)
    path = write_log(tmp_path / "access.log", 2000)
    assert run_import(server.endpoint, path).status == 0
    assert len(server.triggers) == 2000


def test_on_a_terminal_a_bar_shows_the_progress_and_reports_are_on_separate_lines(
    server: RecordingServer, tmp_path: Path
) -> None:
    path = tmp_path / "access.log"
    path.write_text("\n".join([log_line(1), "broken", *map(log_line, range(2, 2000))]))
    ours, theirs = pty.openpty()
    with started(
        command("import", str(path), "--endpoint", server.endpoint),
        env=environment(FL_API_KEY=KEY),
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        output = read_terminal(ours)
    assert process.returncode == 1
    assert "100%|" in output
    assert "delivered=1999 waiting=0 bad=1" in output
    report = next(line for line in output.replace("\r", "\n").split("\n") if "line 2" in line)
    assert report == "line 2: not a line of a common or combined log: 'broken'"


def test_without_tqdm_there_is_no_bar_and_no_warning(server: RecordingServer, tmp_path: Path) -> None:
    (tmp_path / "tqdm.py").write_text("raise ImportError")
    paths = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    ours, theirs = pty.openpty()
    with started(
        command("import", str(write_log(tmp_path / "access.log", 10)), "--endpoint", server.endpoint),
        env=environment(FL_API_KEY=KEY) | {"PYTHONPATH": paths},
        stderr=theirs,
    ) as process:
        os.close(theirs)
        assert read_terminal(ours) == ""
    assert process.returncode == 0


def test_a_closed_pipe_causes_no_traceback(server: RecordingServer, tmp_path: Path) -> None:
    path = write_log(tmp_path / "access.log", 10)
    with started(
        command("import", str(path), "--endpoint", server.endpoint, "--api-key", KEY),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
    assert len(server.triggers) == 10
