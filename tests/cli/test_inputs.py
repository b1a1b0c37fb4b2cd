"""`brockman import` reads several files: patterns, in order, each in its own format, each once."""

from __future__ import annotations

import bz2
import gzip
import importlib
import json
import lzma
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from brockman.cli import main
from brockman.cli.inputs import find_inputs
from brockman.cli.source import BadLine, Source
from tests.cli.conftest import Import, command, row
from tests.cli.test_importing import log_line
from tests.support.client import KEY
from tests.support.programs import Ended, environment, ran, started
from tests.support.server import RecordingServer

ORDERS = (
    ("access.log.10.gz", "access.log.2.gz", "access.log.1", "access.log", "error.log.1", "error.log"),
    ("access.log-20251001.gz", "access.log-20251002", "access.log"),
    ("app.log.2025-10-01", "app.log.2025-10-02", "app.log"),
    ("access.log.1759300000", "access.log.1759386400", "access.log"),
    ("part-2.csv", "part-10.csv"),
    ("access-2025-10-01.log", "access-2025-10-02.log"),
)


def ndjson(*objects: str) -> str:
    return "".join(json.dumps({"actor_id": "7", "action": "viewed", "object": name}) + "\n" for name in objects)


@pytest.fixture
def run_all(
    server: RecordingServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Import:
    """Run `brockman import` in this process, with the given arguments."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setenv("FL_ENDPOINT", server.endpoint)
        monkeypatch.setenv("FL_API_KEY", KEY)
        status = main(["import", *map(str, arguments)])
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run


def objects(server: RecordingServer) -> list[str]:
    return [trigger["object"] for trigger in server.triggers]


@pytest.mark.parametrize("names", ORDERS, ids=lambda names: str(names[0]))
def test_files_are_sorted_by_name_and_rotated_logs_by_age(names: tuple[str, ...], tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in names]
    for path in paths:
        Path(path).touch()
    mixed = random.Random(1).sample(paths, len(paths))
    assert find_inputs(["-", *mixed]) == ([*paths, "-"], [])
    assert find_inputs([str(tmp_path / "*")]) == (paths, [])


def test_each_file_of_a_pattern_has_its_own_format_and_header(
    server: RecordingServer, run_all: Import, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("actor_id,action,object\n7,viewed,a\n")
    (tmp_path / "b.csv").write_text("object;action;actor_id\n".replace(";", ",") + "b,viewed,7\n")
    (tmp_path / "c.log.gz").write_bytes(gzip.compress(log_line(1).encode()))
    (tmp_path / "d.json").write_text(ndjson("d"))
    (tmp_path / "folder").mkdir()
    ended = run_all(tmp_path / "*")
    assert (ended.status, ended.err) == (0, "")
    assert objects(server) == ["a", "b", "/page/1", "d"]
    assert (row(ended, "files"), row(ended, "lines read"), row(ended, "new")) == ("4", "6", "4")


def test_a_file_that_cannot_be_read_is_reported_and_the_others_are_imported(
    server: RecordingServer, run_all: Import, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text(ndjson("a") + "broken\n")
    (tmp_path / "b").mkdir()
    (tmp_path / "c").write_text("neither\nof\nthem\n")
    (tmp_path / "e").write_text(ndjson("e"))
    ended = run_all(*(tmp_path / name for name in "abcde"))
    assert (ended.status, objects(server)) == (1, ["a", "e"])
    bad, folder, unknown, missing = ended.err.splitlines()
    assert bad.startswith(f"{tmp_path / 'a'}: line 2: not JSON")
    assert folder == f"brockman import: '{tmp_path / 'b'}' cannot be read: Is a directory"
    assert unknown.startswith(f"brockman import: '{tmp_path / 'c'}': cannot detect the format")
    assert missing == f"brockman import: '{tmp_path / 'd'}' cannot be read: No such file or directory"
    assert "3 of them not read" in ended.out


def test_a_pattern_without_a_match_is_a_wrong_usage(
    run_all: Import, server: RecordingServer, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text(ndjson("a"))
    ended = run_all(tmp_path / "a", tmp_path / "*.log")
    assert (ended.status, ended.out, server.requests) == (2, "", [])
    assert ended.err == f"brockman import: no file matches '{tmp_path / '*.log'}'\n"


def test_a_file_named_like_a_pattern_is_that_file(
    run_all: Import, server: RecordingServer, tmp_path: Path
) -> None:
    (tmp_path / "a[1]").write_text(ndjson("a"))
    assert run_all(tmp_path / "a[1]").status == 0
    assert objects(server) == ["a"]


def test_one_file_under_several_names_is_read_once(
    run_all: Import, server: RecordingServer, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    path.write_text(ndjson("a"))
    (tmp_path / "symlink").symlink_to("a")
    os.link(path, tmp_path / "link")
    ended = run_all(path, path, tmp_path / ".." / tmp_path.name / "a", tmp_path / "link", tmp_path / "symlink")
    assert (ended.status, objects(server)) == (0, ["a"])
    assert ended.err.count("is the same file as") == 3


def compress_with(module: str) -> Callable[[bytes], bytes]:
    return lambda data: importlib.import_module(module).compress(data)


@pytest.mark.parametrize(
    "compress",
    [gzip.compress, bz2.compress, lzma.compress, compress_with("backports.zstd"), compress_with("zstandard")],
    ids=["gzip", "bzip2", "xz", "zstd", "zstandard"],
)
def test_compressed_files_are_read_whatever_their_name(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """Of several members too; where one is cut off, what precedes it is read, and that is reported."""
    try:
        content = compress(b"first\n" * 1000) + compress(b"last\n")
    except ImportError:
        pytest.skip("not installed")
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with Source(str(path)) as source:
        assert list(source)[-1] == (1001, "last")
    path.write_bytes(content[:-6])
    with Source(str(path)) as source:
        *_, before, (_, damage) = source
    assert before in [(1000, "first"), (1001, "last")]
    assert isinstance(damage, BadLine)
    assert damage.reason.startswith("the rest of the file cannot be read: ")


def test_without_a_module_for_it_a_file_is_reported_with_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "access.log.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))
    for name in ("backports.py", "zstandard.py"):
        (tmp_path / name).write_text("raise ImportError")
    paths = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    if sys.version_info >= (3, 14):
        pytest.skip("this Python reads it")
    ended = ran(
        command("import", str(path), "--endpoint", "http://127.0.0.1:9/", "--format", "combined"),
        env=environment(FL_API_KEY=KEY) | {"PYTHONPATH": paths},
    )
    assert ended.status == 1
    assert "compressed with zstd, which this Python lacks: pip install backports.zstd" in ended.err


def read(tmp_path: Path, content: bytes) -> list[object]:
    (tmp_path / "content").write_bytes(content)
    with Source(str(tmp_path / "content")) as source:
        return [text for _, text in source]


def test_nuls_before_a_line_are_left_out(tmp_path: Path) -> None:
    """A log that is truncated in place while it is written has as many as it had bytes."""
    assert read(tmp_path, bytes(3_000_000) + b"first\n" + bytes(7) + b"last\n" + bytes(9)) == ["first", "last"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_utf_16_is_read_as_excel_and_powershell_write_it(
    encoding: str, compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    lines = [f"{number}\tü{'😀' * (number % 7)}" for number in range(20_000)]
    content = ("\ufeff" + "\r\n".join(lines) + "\r\n").encode(encoding)
    assert read(tmp_path, compress(content)) == lines


def test_lines_may_end_with_carriage_returns(tmp_path: Path) -> None:
    assert read(tmp_path, b"a\rb\rc") == ["a", "b", "c"]
    assert read(tmp_path, b"a,b\r" * 400_000) == ["a,b"] * 400_000
    assert read(tmp_path, b"a\r\nb\rb\r\n") == ["a", "b\rb"]


@pytest.mark.parametrize("is_blocking", [True, False])
def test_standard_input_is_read_to_its_end_beside_files(
    server: RecordingServer, tmp_path: Path, is_blocking: bool
) -> None:
    """A program that shares the pipe may have switched it to non-blocking: then nothing is there for a moment."""
    path = tmp_path / "a"
    path.write_text(ndjson("file"))
    ours, theirs = os.pipe()
    os.set_blocking(ours, is_blocking)
    os.set_blocking(theirs, True)
    with started(
        command("import", "-", str(path), "--endpoint", server.endpoint, "--api-key", KEY), stdin=ours
    ) as process:
        os.close(ours)
        server.wait_until(lambda server: objects(server) == ["file"])
        text = ndjson(*(f"line {number}" for number in range(20_000))).encode()
        with suppress(BrokenPipeError), open(theirs, "wb", buffering=0) as pipe:
            pipe.write(text[:7])
            pipe.write(text[7:])
        _, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert objects(server) == ["file", *(f"line {number}" for number in range(20_000))]


def test_nothing_to_read_is_imported_in_no_time(run_all: Import, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "empty.gz").write_bytes(gzip.compress(b""))
    ended = run_all(tmp_path / "empty", tmp_path / "empty.gz", os.devnull)
    assert (ended.status, ended.err, row(ended, "lines read")) == (0, "", "0")


def test_a_named_pipe_is_read(server: RecordingServer, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with started(
        command("import", str(tmp_path / "fifo"), "--endpoint", server.endpoint, "--api-key", KEY),
    ) as process:
        subprocess.run(["sh", "-c", f"cat > {tmp_path / 'fifo'}"], input=ndjson("a"), text=True, check=True)
        process.communicate()
    assert (process.returncode, objects(server)) == (0, ["a"])


@pytest.mark.parametrize(
    ("maps", "error"),
    [
        (["tme=created"], "--map has 'tme=created'; it should be FIELD=NAME with a FIELD out of actor_id,"),
        (["time"], "--map has 'time='; it should be FIELD=NAME"),
        (["variables.=a"], "--map has 'variables.=a'; it should be FIELD=NAME"),
        (["time=a", "recorded_at=b"], "--map is time=a, time=b; it should name each field once"),
    ],
)
def test_a_wrong_or_repeated_map_is_a_wrong_usage(maps: list[str], error: str) -> None:
    options = [part for text in maps for part in ("--map", text)]
    ended = ran(command("import", os.devnull, *options), env=environment(FL_API_KEY=KEY))
    assert ended.status == 2
    assert error in ended.err
