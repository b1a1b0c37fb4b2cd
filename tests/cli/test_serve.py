"""`brockman serve` runs a collector, says where it listens, and stops at a signal."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import pytest
import requests

from brockman.cli import main
from brockman.cli.numbers import duration
from brockman.client import FocusLabClient
from brockman.exceptions import BadAPIKey
from tests.cli.conftest import command, serving
from tests.collector.running import trigger
from tests.support.client import KEY
from tests.support.programs import ROOT, ran, started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_endpoint_and_database_and_stops_at_a_signal(tmp_path: Path, number: int) -> None:
    with started(
        command("serve", "--port", "0"),
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        endpoint = lines[0].removeprefix("listening on ").strip()
        with FocusLabClient("any", endpoint=endpoint) as client:
            client.send_trigger(1, "viewed", "page")
        process.send_signal(number)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "", "")
    assert lines[1:] == [
        f"page         {endpoint.removesuffix('api/v1/')}\n",
        f"database     {tmp_path / 'focuslab.sqlite3'}\n",
        "key          not checked\n",
    ]
    assert (tmp_path / "focuslab.sqlite3").exists()


def test_the_key_is_read_from_the_environment_and_hidden_from_ps(tmp_path: Path) -> None:
    with serving(tmp_path) as collector:
        assert collector.process is not None
        assert KEY not in Path(f"/proc/{collector.process.pid}/cmdline").read_text()
        with FocusLabClient(KEY, endpoint=collector.endpoint) as client:
            client.send_trigger(1, "viewed", "page")
        with FocusLabClient("other", endpoint=collector.endpoint) as client, pytest.raises(BadAPIKey):
            client.send_trigger(1, "viewed", "page")
        assert len(collector.stored()) == 1


def test_the_line_break_at_the_end_of_a_key_is_left_out(tmp_path: Path) -> None:
    with serving(tmp_path, "--api-key", f"{KEY}\n") as collector:
        with FocusLabClient(KEY, endpoint=collector.endpoint) as client:
            client.send_trigger(1, "viewed", "page")
        assert len(collector.stored()) == 1
    assert main(["serve", "--port", "0", "--database", str(tmp_path / "other"), "--api-key", "\n"]) == 2


def test_keys_are_read_from_a_file_beside_the_one_of_the_environment(tmp_path: Path) -> None:
    """Its lines; blank ones and comments are left out. The keys appear nowhere in the process list."""
    keys = tmp_path / "keys"
    keys.write_text("# until June\nsecond-key\n\n  third-key\n")
    with serving(tmp_path, "--key-file", str(keys)) as collector:
        for key in (KEY, "second-key", "third-key"):
            assert collector.post(trigger(), key=key).status_code == 201
        assert collector.post(trigger(), key="# until June").status_code == 403
        assert collector.process is not None
        assert "second-key" not in Path(f"/proc/{collector.process.pid}/cmdline").read_text()
    with serving(tmp_path, "--api-key", "one", "--api-key", "two") as collector:
        assert [collector.post(trigger(), key=key).status_code for key in ("one", "two", KEY)] == [201, 201, 403]


@pytest.mark.parametrize("content", [None, b"", b"# none\n", b"\xff\xfe"])
def test_a_file_without_a_key_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    """Not taken for a collector that needs no key."""
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--key-file", str(path)])
    assert f"error: argument --key-file: '{path}' " in capsys.readouterr().err


def test_a_host_that_a_proxy_passes_on_can_be_allowed(tmp_path: Path) -> None:
    with serving(tmp_path, "--allow-host", "collector.example") as collector:
        assert collector.post(trigger(), {"Host": "collector.example"}).status_code == 201
        assert collector.post(trigger(), {"Host": "other.example"}).status_code == 403


def test_it_rehearses_trouble(tmp_path: Path) -> None:
    with serving(tmp_path, "--outage-after", "1", "--outage-for", "2m", "--delay", "1ms") as collector:
        assert [collector.post(trigger()).status_code for _ in range(2)] == [201, 503]
    with serving(tmp_path, "--fail", "429:0.5", "--fail", "500:0.5") as collector:
        assert {collector.post(trigger()).status_code for _ in range(30)} == {429, 500}


@pytest.mark.parametrize(
    ("text", "seconds"), [("200ms", 0.2), ("2", 2), ("1.5s", 1.5), ("5m", 300), ("1 h", 3600), ("90d", 7_776_000)]
)
def test_a_time_may_have_a_unit(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "arguments", [("--delay", "fast"), ("--outage-for", "-1"), ("--fail", "503"), ("--fail", "half:0.5")], ids=str
)
def test_what_is_no_time_and_no_share_is_reported(
    arguments: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["serve", *arguments])
    assert f"error: argument {arguments[0]}: '{arguments[1]}' should be a " in capsys.readouterr().err


def test_a_port_in_use_is_reported_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        status = main(["serve", "--database", str(tmp_path / "t.sqlite3"), "--port", port])
    assert status == 1
    error = f"brockman serve: cannot listen on 127.0.0.1 port {port}: Address already in use\n"
    assert capsys.readouterr() == ("", error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--host", "0.0.0.0"), "api_key: '0.0.0.0' can be reached by other machines"),
        (("--host", "host.invalid"), "host: 'host.invalid' is no address"),
        (("--port", "99999"), "port: 99999 is not from 0 to 65535"),
        (("--database", "/dev/null/focuslab.sqlite3"), "database: "),
        (("--fail", "503:0.1", "--fail", "503:0.2"), "--fail: a status is given twice"),
        (("--outage-after", "-1"), "outage_after: give a count from 0, and with it outage_for"),
        (("--outage-after", "1", "--outage-for", "0"), "outage_after: "),
    ],
)
def test_a_wrong_setting_is_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], error: str
) -> None:
    status = main(["serve", "--port", "0", "--database", str(tmp_path / "t.sqlite3"), *arguments])
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert err.startswith(f"brockman serve: {error}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["serve", "demo"])
def test_without_the_extra_it_says_what_to_install(name: str) -> None:
    """In a process that can import nothing but what the client itself needs."""
    needed = str(Path(requests.__file__).parents[1])
    program = (
        "import sys; from importlib.abc import MetaPathFinder\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {needed!r}]\n"
        "import requests, orjson\n"
        f"sys.path.remove({needed!r})\n"
        f"from brockman.cli import main; sys.exit(main([{name!r}]))"
    )
    ended = ran([sys.executable, "-S", "-E", "-c", program])
    assert ended.err == f"brockman {name} needs the collector: pip install 'brockman[collector]'\n"
    assert (ended.status, ended.out) == (2, "")
