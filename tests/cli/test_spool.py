"""`brockman spool` shows what waits, disturbs no process, and sends what has no owner, once."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from brockman.buffer.spool.frame import HEADER
from brockman.cli import main
from tests.cli.conftest import command, read_terminal, row
from tests.support.client import KEY
from tests.support.programs import Ended, environment, ran, started
from tests.support.server import RecordingServer, Reply, Request

NOWHERE = "http://127.0.0.1:1/api/v1/"
# Records the numbers from `start` on, `count` for each line on stdin; then a batch is in flight.
RECORDER = """
import sys, threading
from brockman.client import FocusLabClient
spool, endpoint, count, start = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
client = FocusLabClient("k", endpoint=endpoint, spool_dir=spool, flush_interval=0.01, max_batch_size=10)
for line in sys.stdin:
    for number in range(start, start + count):
        assert client.record_trigger("actor", "viewed", "page", variables={"n": number})
    start += count
    tick = threading.Event()
    while not (client.stats().in_flight or client.stats().delivered):
        tick.wait(0.005)
    print("recorded", flush=True)
client.close()
"""
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@contextmanager
def recording(
    spool: Path, endpoint: str = NOWHERE, count: int = 20, start: int = 0
) -> Iterator[subprocess.Popen[str]]:
    """Run a process that has recorded; it is killed at the end."""
    arguments = [sys.executable, "-c", RECORDER, str(spool), endpoint, str(count), str(start)]
    with started(arguments, stdin=subprocess.PIPE, stderr=None) as process:
        record_more(process)
        try:
            yield process
        finally:
            process.kill()


def record_more(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "recorded\n"


def leave(spool: Path, endpoint: str = NOWHERE, count: int = 20, start: int = 0) -> Path:
    """Run a process that records and is killed; return its directory."""
    before = set(folders(spool))
    with recording(spool, endpoint, count, start):
        pass
    (folder,) = set(folders(spool)) - before
    return folder


def folders(spool: Path) -> list[Path]:
    return [path for path in spool.glob("*") if re.fullmatch(r"\d+-[0-9a-f]{16}", path.name)]


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `brockman spool` in this process."""
    monkeypatch.setenv("FL_API_KEY", KEY)

    def run(spool: Path | str, *arguments: str) -> Ended:
        capsys.readouterr()
        status = main(["spool", str(spool), *arguments])
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def numbers(triggers: list[dict[str, Any]]) -> list[int]:
    return [trigger["variables"]["n"] for trigger in triggers]


def listed(ended: Ended) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ended.out.splitlines()]


def rows(ended: Ended) -> dict[str, list[str]]:
    """Return the rows of the table by their first column."""
    return {line.split()[0]: line.split()[1:] for line in ended.out.splitlines()}


def value(ended: Ended, label: str) -> int:
    return int(row(ended, label))


# --- the table and the list ---


def test_the_table_shows_for_each_process_whether_it_is_alive_and_what_waits(spool: Path, run: Run) -> None:
    """Triggers, bytes and the oldest are those of the list, totals are sums; the oldest directory comes first."""
    with recording(spool, count=7) as living:
        living.send_signal(signal.SIGSTOP)  # or it would adopt the other one
        (mine,) = folders(spool)
        dead = leave(spool, count=30, start=100)
        ended, triggers = run(spool), listed(run(spool, "--list"))
    assert (ended.status, ended.err) == (0, "")
    table = rows(ended)
    assert list(table) == ["folder", mine.name, dead.name, "total", "damaged:"]
    assert table[mine.name][:2] == ["alive", "7"]
    assert table[dead.name][:2] == ["gone", "30"]
    sizes = [int(table[name][2]) for name in (mine.name, dead.name)]
    bodies = [len(json.dumps(trigger, separators=(",", ":"))) for trigger in triggers]
    assert sum(bodies) < sum(sizes) <= sum(bodies) + 13 * 37
    assert [table[name][3] for name in (mine.name, dead.name)] == [
        triggers[0]["recorded_at"],
        triggers[7]["recorded_at"],
    ]
    assert table["total"][:5] == ["1", "alive", "37", str(sum(sizes)), triggers[0]["recorded_at"]]
    assert table["total"][6] in ("s", "min")
    assert "damaged: 0 bytes in 0 files" in ended.out


def test_the_list_has_exactly_the_triggers_that_are_not_settled(
    server: RecordingServer, spool: Path, run: Run
) -> None:
    """Not those the server accepted before the process was killed; in the order of recording."""
    server.respond = lambda request: Reply(201 if len(server.requests) < 2 else 503)
    with recording(spool, server.endpoint, count=50):
        server.wait_until(lambda server: len(server.requests) >= 3)  # two are accepted, and noted by then
    accepted = [n for request in server.requests[:2] for n in numbers(request.triggers)]
    ended = run(spool, "--list")
    assert (ended.status, ended.err) == (0, "")
    assert accepted == list(range(len(accepted)))
    assert numbers(listed(ended)) == list(range(len(accepted), 50))
    (folder,) = folders(spool)
    assert rows(run(spool))[folder.name][1] == str(50 - len(accepted))


def test_an_inspection_does_not_disturb_running_processes(server: RecordingServer, spool: Path, run: Run) -> None:
    """A process records and delivers while tables and lists are printed: each trigger arrives once."""
    with recording(spool, server.endpoint, count=500) as process:
        for _ in range(10):
            record_more(process)
            table, lines = run(spool), run(spool, "--list")
            assert (table.status, lines.status, lines.err) == (0, 0, "")
            assert set(numbers(listed(lines))) <= set(range(5500))
            assert "skipped" not in table.out
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0
    assert numbers(server.triggers) == list(range(5500))
    assert len(server.ids()) == 5500
    assert os.listdir(spool) == []


def test_an_inspection_changes_no_file(spool: Path, run: Run) -> None:
    """It creates no lock, acknowledgement or directory, even if the lock is missing."""
    folder = leave(spool)
    (folder / "lock").unlink()

    def state() -> dict[str, tuple[int, int]]:
        found = {str(path): path.stat() for path in [spool, *spool.rglob("*")]}
        return {path: (status.st_mtime_ns, status.st_size) for path, status in found.items()}

    before = state()
    assert rows(run(spool))[folder.name][0] == "gone"
    assert len(listed(run(spool, "--list"))) == 20
    assert state() == before


def test_a_list_that_is_read_in_part_causes_no_traceback(spool: Path) -> None:
    """As in `brockman spool DIR --list | head`."""
    leave(spool, count=3000)
    with started(command("spool", str(spool), "--list")) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["variables"] == {"n": 0}
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_a_name_that_the_output_cannot_show_is_escaped(spool: Path) -> None:
    """The encoding of a terminal or pipe causes no traceback."""
    leave(spool)
    (spool / "café.txt").touch()
    ended = ran(command("spool", str(spool)), env=environment(PYTHONIOENCODING="ascii"))
    assert (ended.status, ended.err) == (0, "")
    assert "skipped: caf\\xe9.txt: not part of the spool\n" in ended.out


def test_without_an_output_one_sentence_says_so(spool: Path) -> None:
    """As with `>&-` in a shell, or under a service manager."""
    leave(spool)
    for option in ([], ["--list"]):
        shell = ["sh", "-c", 'exec "$@" >&-', "sh", *command("spool", str(spool), *option)]
        ended = ran(shell)
        closed = "brockman: standard output is closed; nothing is shown there\n"
        assert (ended.status, ended.out, ended.err) == (0, "", closed)


def test_a_large_spool_is_counted_and_listed_with_a_bar(spool: Path, tmp_path: Path) -> None:
    """On a terminal; the 20 triggers are in 80 MB of files, which are mostly holes."""
    folder = leave(spool)
    for number in (2, 3):
        with open(folder / f"{number:08d}", "wb") as file:
            file.write(HEADER)
            file.truncate(40 * 1024 * 1024)
    output: dict[str, str] = {}
    for option in ([], ["--list"]):
        ours, theirs = pty.openpty()
        with (
            open(tmp_path / "out", "w") as out,
            started(command("spool", str(spool), *option), stdout=out, stderr=theirs) as process,
        ):
            os.close(theirs)
            output["".join(option)] = read_terminal(ours)
        assert process.returncode == 0
        lines = (tmp_path / "out").read_text().splitlines()
        assert len(lines) == 20 if option else lines[1].startswith(f"{folder.name}  gone           20")
    assert "100%|" in output[""]
    assert "counting" in output[""]
    assert "listing" in output["--list"]


# --- sending ---


def test_triggers_without_an_owner_are_sent_and_the_others_are_left_to_it(
    server: RecordingServer, spool: Path, run: Run
) -> None:
    """The status is 1 while something is left; once the owner is gone too, it is sent, and the spool is empty."""
    with recording(spool, count=5) as living:
        living.send_signal(signal.SIGSTOP)
        leave(spool, count=30, start=100)
        ended = run(spool, "--send", "--endpoint", server.endpoint)
        assert (ended.status, ended.err) == (1, "")
        assert [value(ended, label) for label in ("delivered", "rejected", "damaged")] == [30, 0, 0]
        assert [value(ended, label) for label in ("left, in use", "left, no owner")] == [5, 0]
        assert numbers(server.triggers) == list(range(100, 130))
    ended = run(spool, "--send", "--endpoint", server.endpoint)
    assert (ended.status, value(ended, "delivered")) == (0, 5)
    assert numbers(server.triggers) == [*range(100, 130), *range(5)]
    assert os.listdir(spool) == []


def test_the_spool_of_another_machine_is_sent_from_a_copy(
    server: RecordingServer, spool: Path, tmp_path: Path, run: Run
) -> None:
    """The copy has no owner, though the process that wrote the original is alive; ids and timestamps are kept."""
    with recording(spool, count=12) as living:
        living.send_signal(signal.SIGSTOP)
        shutil.copytree(spool, tmp_path / "copy")
        triggers = listed(run(tmp_path / "copy", "--list"))
        ended = run(tmp_path / "copy", "--send", "--endpoint", server.endpoint)
        assert len(listed(run(spool, "--list"))) == 12
    assert (ended.status, value(ended, "delivered")) == (0, 12)
    assert server.triggers == triggers
    assert numbers(triggers) == list(range(12))
    assert os.listdir(tmp_path / "copy") == []


def test_more_processes_than_are_adopted_at_once_are_sent_in_one_call(
    server: RecordingServer, spool: Path, run: Run
) -> None:
    """A flush adopts 64 directories at most; here are 140."""
    folder = leave(spool, count=2)
    for number in range(139):
        shutil.copytree(folder, spool / f"1-{number:016x}")
    ended = run(spool, "--send", "--endpoint", server.endpoint)
    assert (ended.status, value(ended, "delivered"), len(server.triggers)) == (0, 280, 280)
    assert os.listdir(spool) == []


def test_a_rejected_trigger_is_reported_and_the_status_is_1(
    server: RecordingServer, spool: Path, run: Run
) -> None:
    def respond(request: Request) -> Reply:
        bad = [index for index, trigger in enumerate(request.triggers) if trigger["variables"]["n"] == 3]
        return Reply(
            207, json.dumps({"rejected": [{"index": index, "error": "no\x1b"} for index in bad]}).encode()
        )

    server.respond = respond
    leave(spool)
    ended = run(spool, "--send", "--endpoint", server.endpoint)
    assert ended.status == 1
    assert [value(ended, label) for label in ("delivered", "rejected", "left, no owner")] == [19, 1, 0]
    assert ended.err.startswith(r"rejected: the server answered 400: no\x1b: ")


def test_two_that_send_at_once_send_everything_once(server: RecordingServer, spool: Path) -> None:
    """Beside a third that inspects; each leaves alone what the other has adopted."""
    folder = leave(spool, count=4)
    for number in range(29):
        shutil.copytree(folder, spool / f"1-{number:016x}")
    arguments = command("spool", str(spool), "--send", "--endpoint", server.endpoint)
    settings = {"env": environment(FL_API_KEY=KEY)}
    with started(arguments, **settings) as one, started(arguments, **settings) as other:
        assert ran(command("spool", str(spool))).status == 0
        ended = [Ended(process.wait(), *process.communicate()) for process in (one, other)]
    assert sorted(server.ids().values()) == [30, 30, 30, 30]  # the copies have the same ids
    assert sum(value(each, "delivered") for each in ended) == 120
    assert {each.status for each in ended} <= {0, 1}
    assert os.listdir(spool) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_an_outage_stops_it_and_loses_nothing(spool: Path, run: Run, number: int) -> None:
    leave(spool)
    before = listed(run(spool, "--list"))
    arguments = command("spool", str(spool), "--send", "--endpoint", NOWHERE)
    with started(arguments, env=environment(FL_API_KEY=KEY)) as process:
        assert process.stderr is not None
        assert "is unavailable" in process.stderr.readline()
        process.send_signal(number)
        out, err = process.communicate()
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert value(Ended(0, out, err), "left, no owner") == 20
    assert listed(run(spool, "--list")) == before


def test_after_the_timeout_it_gives_up_and_leaves_the_rest(
    server: RecordingServer, spool: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FL_SHUTDOWN_TIMEOUT", "0.1")
    server.respond = lambda request: Reply(503)
    leave(spool)
    ended = run(spool, "--send", "--endpoint", server.endpoint, "--timeout", "0.2")
    assert (ended.status, value(ended, "delivered"), value(ended, "left, no owner")) == (1, 0, 20)
    assert "is unavailable" in ended.err


def test_sending_shows_a_bar_on_a_terminal(server: RecordingServer, spool: Path) -> None:
    leave(spool, count=700)
    ours, theirs = pty.openpty()
    arguments = command("spool", str(spool), "--send", "--endpoint", server.endpoint)
    with started(arguments, env=environment(FL_API_KEY=KEY), stderr=theirs) as process:
        os.close(theirs)
        output = read_terminal(ours)
    assert process.returncode == 0
    assert "100%|" in output
    assert "700/700" in output
    assert "delivered=700" in output


# --- damage, and what is skipped ---


def test_damage_is_reported_kept_and_removed_on_request(server: RecordingServer, spool: Path, run: Run) -> None:
    """One flipped bit: 19 of 20 are listed and sent; the damaged one is kept until it is removed."""
    folder = leave(spool)
    segment = folder / "00000001"
    content = bytearray(segment.read_bytes())
    content[content.index(b'"n":11') + 4] ^= 1
    segment.write_bytes(content)

    ended = run(spool, "--list")
    assert numbers(listed(ended)) == [n for n in range(20) if n != 11]
    assert (ended.status, ended.err) == (0, "skipped 1 damaged places\n")

    ended = run(spool, "--send", "--endpoint", server.endpoint)
    assert (ended.status, value(ended, "delivered"), value(ended, "damaged")) == (1, 19, 1)
    (kept,) = (spool / "damaged").iterdir()
    size = kept.stat().st_size
    assert f"damaged: {size} bytes in 1 file" in run(spool).out

    ended = run(spool, "--drop-damaged")
    assert (ended.status, ended.out) == (0, f"removed {size} bytes in 1 file\n")
    assert "damaged: 0 bytes in 0 files" in run(spool).out
    assert run(spool, "--drop-damaged").out == "removed 0 bytes in 0 files\n"


def test_a_newer_format_and_unknown_files_are_skipped_with_the_reason(
    server: RecordingServer, spool: Path, run: Run
) -> None:
    """The rest is sent. A directory of a newer brockman counts as left, an unknown file does not."""
    later, other = leave(spool), leave(spool, count=4, start=100)
    (spool / "notes\x1b.txt").write_text("mine")
    (other / "core").write_text("")
    text = b"brockman-spool 2"
    (later / "00000002").write_bytes(b"%b %d\n" % (text, zlib.crc32(text)))
    table = run(spool)
    assert rows(table)[later.name][:2] == ["gone", "20"]
    assert f"skipped: {later.name}: 00000002: format 2 of a later brockman\n" in table.out
    assert "skipped: notes\\x1b.txt: not part of the spool\n" in table.out
    assert f"skipped: {other.name}/core: not part of the spool\n" in table.out
    ended = run(spool, "--list")
    assert ended.status == 1
    assert ended.err == f"skipped: {later.name}/00000002: format 2 of a later brockman\n"
    ended = run(spool, "--send", "--endpoint", server.endpoint)
    assert (ended.status, numbers(server.triggers)) == (1, [*range(20), 100, 101, 102, 103])
    # No trigger is counted as left, yet not all are delivered.
    assert run(spool, "--send", "--endpoint", server.endpoint).status == 1
    shutil.rmtree(later)
    assert run(spool, "--send", "--endpoint", server.endpoint).status == 0
    assert (spool / "notes\x1b.txt").read_text() == "mine"


# --- wrong usage ---


def test_a_directory_that_is_not_a_spool_is_reported_and_not_changed(tmp_path: Path, run: Run) -> None:
    """A missing directory is not created; an empty one is a spool without triggers."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("")
    (tmp_path / "home").chmod(0o777)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "file").write_text("")
    for name, error in [
        ("missing", "No such file or directory; name the directory that spool_dir"),
        ("home", "not a spool: it has no file of brockman"),
        ("open", "others may write into it (mode 777); chmod 700"),
        ("link", "it is a symbolic link; name the directory itself"),
        ("file", "Not a directory"),
    ]:
        for option in ([], ["--list"], ["--send"], ["--drop-damaged"]):
            ended = run(tmp_path / name, *option)
            assert (ended.status, ended.out) == (2, "")
            assert ended.err.startswith(f"brockman spool: {str(tmp_path / name)!r}: {error}")
            assert ended.err.count("\n") == 1
    assert not (tmp_path / "missing").exists()
    for option in ([], ["--list"], ["--send"], ["--drop-damaged"]):
        assert run(tmp_path / "empty", *option).status == 0
    assert os.listdir(tmp_path / "empty") == []


@root_only
def test_a_spool_of_another_user_is_rejected_and_names_the_owner(spool: Path, run: Run) -> None:
    """A single directory of another user is skipped, and the rest is shown."""
    folder = leave(spool)
    os.chown(folder, 65534, 65534)
    ended = run(spool)
    assert ended.status == 0
    assert rows(ended)[folder.name][:2] == ["-", "0"]
    assert f"skipped: {folder.name}: it belongs to user 65534, not to 0\n" in ended.out
    os.chown(spool, 65534, 65534)
    for option in ([], ["--list"], ["--send"], ["--drop-damaged"]):
        ended = run(spool, *option)
        assert (ended.status, ended.out) == (2, "")
        assert "it belongs to user 65534, not to 0; run this as" in ended.err


@root_only
def test_a_read_only_spool_can_be_inspected_and_advises_a_copy(spool: Path, tmp_path: Path, run: Run) -> None:
    """Nothing is sent from a read-only mount, on which nothing can be acknowledged."""
    leave(spool)
    mount = tmp_path / "mount"
    mount.mkdir()
    subprocess.run(["mount", "--bind", str(spool), str(mount)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(mount)], check=True)
        assert len(listed(run(mount, "--list"))) == 20
        ended = run(mount, "--send", "--endpoint", NOWHERE)
    finally:
        subprocess.run(["umount", str(mount)], check=True)
    assert (ended.status, ended.out) == (2, "")
    assert "cannot be written to; copy it (cp -a), and name the copy" in ended.err


def test_conflicting_options_are_wrong_usage(spool: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(spool)
    with pytest.raises(SystemExit) as ended:
        run(spool, "--list", "--send")
    assert ended.value.code == 2
    wrong = run(spool, "--api-key", "k")
    assert (wrong.status, wrong.err) == (2, "brockman spool: --api-key goes with --send\n")
    monkeypatch.delenv("FL_API_KEY")
    wrong = run(spool, "--send")
    assert wrong.status == 2
    assert "api_key is missing" in wrong.err
    assert len(listed(run(spool, "--list"))) == 20


def test_the_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["spool", "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "usage: brockman spool" in out
    assert all(option in out for option in ("--list", "--send", "--drop-damaged", "--timeout", "exit status"))
