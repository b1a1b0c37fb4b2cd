"""What `brockman serve` promises: a collector that says where it is, and ends when it is told to."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import pytest
import requests

from brockman.client import FocusLabClient
from brockman.exceptions import BadAPIKey
from tests.cli.conftest import ROOT, Ended, command, ran, served, started
from tests.collector.running import KEY


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_listens_and_where_the_database_is_and_ends_at_a_signal(
    tmp_path: Path, number: int
) -> None:
    with started(
        command("serve", "--port", "0"),
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        endpoint = lines[0].removeprefix("listening on ").strip()
        with FocusLabClient("any", endpoint=endpoint) as client:
            client.send_trigger(1, "viewed", "page")
        process.send_signal(number)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "", "")
    assert lines[1:] == [
        f"database     {tmp_path / 'focuslab.sqlite3'}\n",
        "key          none was given: any key is taken\n",
    ]
    assert (tmp_path / "focuslab.sqlite3").exists()


def test_it_takes_no_other_key_than_its_own(tmp_path: Path) -> None:
    with served(tmp_path) as collector:
        with FocusLabClient(KEY, endpoint=collector.endpoint) as client:
            client.send_trigger(1, "viewed", "page")
        with FocusLabClient("other", endpoint=collector.endpoint) as client, pytest.raises(BadAPIKey):
            client.send_trigger(1, "viewed", "page")
        assert len(collector.stored()) == 1


def test_it_rehearses_an_outage(tmp_path: Path) -> None:
    with served(tmp_path, "--outage-after", "0", "--outage-for", "100") as collector:
        assert collector.post({"actor_id": "1", "action": "viewed", "object": "page"}).status_code == 503


def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        ended = run(tmp_path, "--port", port)
    assert ended.status == 1
    assert ended.err == f"brockman serve: cannot listen on 127.0.0.1 port {port}: Address already in use\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--host", "0.0.0.0"), "api_key"),
        (("--port", "99999"), "port"),
        (("--database", "none/focuslab.sqlite3"), "database"),
        (("--outage-after", "1", "--outage-for", "-1"), "outage_after"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    ended = run(tmp_path, "--port", "0", *arguments)
    assert ended.status == 2
    assert ended.err.startswith("brockman serve: ")
    assert told in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("name", ["serve", "demo"])
def test_without_the_extra_it_says_what_to_install(name: str) -> None:
    """Nothing that is installed can be imported in this process, but what the client itself needs."""
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


def run(folder: Path, *arguments: str) -> Ended:
    return ran(command("serve", *arguments), cwd=folder)
