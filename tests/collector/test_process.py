"""The collector as a process: it begins, it ends, it is killed, its disk fills up."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from brockman.collector.__main__ import main
from brockman.collector.server import serve
from tests.collector.running import KEY, Running, head, read_answer, trigger
from tests.support.waiting import eventually

Spawn = Callable[..., tuple["subprocess.Popen[str]", Running]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(spawn: Spawn, number: signal.Signals) -> None:
    """Status 0, nothing on stderr (not even a ResourceWarning), one line on stdout, and one file left."""
    process, collector = spawn()
    assert collector.post(trigger()).status_code == 201  # over a connection that stays open

    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=10)

    assert (process.returncode, stdout, stderr) == (0, "", "")
    assert [path.name for path in collector.database.parent.iterdir()] == [collector.database.name]


def test_an_upload_that_hangs_does_not_keep_it_from_ending(spawn: Spawn) -> None:
    process, collector = spawn()
    with collector.connect() as connection:
        connection.sendall(head("Content-Length: 100") + b"{")
        assert collector.post(trigger()).status_code == 201

        process.terminate()
        _, stderr = process.communicate(timeout=10)
        status, _, _ = read_answer(connection)

    assert (process.returncode, status) == (0, 503)
    assert stderr == "Cancel 1 running task(s), timeout graceful shutdown exceeded\n"  # uvicorn's words


def test_what_was_acknowledged_outlives_kill_9(spawn: Spawn) -> None:
    """Killed in mid-load, and started again on the same file, it has everything, each once."""
    process, collector = spawn()
    acknowledged: list[str] = []

    def load() -> None:
        with requests.Session() as session:
            while True:
                part = [trigger() for _ in range(50)]
                try:
                    answer = session.post(
                        collector.endpoint + "trigger/", json=part, headers={"X-FL-API-KEY": KEY}, timeout=10
                    )
                except requests.RequestException:
                    return
                assert answer.status_code == 201
                acknowledged.extend(one["id"] for one in part)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: len(acknowledged) > 5000)
    process.kill()
    for thread in threads:
        thread.join(20)

    _, again = spawn()
    stored = again.ids()
    assert set(acknowledged) <= set(stored)
    assert len(stored) == len(set(stored)) == again.stats()["triggers"]


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process can be set on Linux alone")
def test_a_full_disk_refuses_and_recovers(spawn: Spawn) -> None:
    process, collector = spawn()
    first, refused = [trigger() for _ in range(50)], [trigger(variables={"x": "y" * 500}) for _ in range(500)]
    assert collector.post(first).status_code == 201
    sizes = [path.stat().st_size for path in collector.database.parent.iterdir()]
    unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (max(sizes), resource.RLIM_INFINITY))

    answers = [collector.post(refused) for _ in range(2)]
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)

    assert [(answer.status_code, answer.headers["Retry-After"]) for answer in answers] == [(503, "10")] * 2
    assert collector.ids() == [one["id"] for one in first]
    assert collector.post(refused).status_code == 201
    assert collector.stats() == {"triggers": 550, "duplicates": 0, "rejected": 0, "requests": 2}


def test_wrong_settings_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = str(tmp_path / "t.sqlite3")
    cases = {
        ("--host", "0.0.0.0"): "api_key: '0.0.0.0' can be reached by other machines",
        ("--host", "host.invalid"): "host: 'host.invalid' is no address",
        ("--port", "70000"): "port: 70000 is not from 0 to 65535",
        ("--port", "0", "--outage-after", "5"): "outage_after: give a count from 0, and with it outage_for",
        ("--port", "0", "--database", str(tmp_path)): "database: ",
    }
    for arguments, text in cases.items():
        assert main(["--database", database, *arguments]) == 2, arguments
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(text)
        assert err.count("\n") == 1


def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        assert main(["--database", str(tmp_path / "t.sqlite3"), "--port", str(port)]) == 1

    assert capsys.readouterr().err == f"cannot listen on 127.0.0.1 port {port}: Address already in use\n"
    assert list(tmp_path.iterdir()) == []


def test_the_key_is_taken_from_the_environment(spawn: Spawn) -> None:
    """There it does not show in `ps`."""
    process, collector = spawn(key="from-the-environment")

    assert collector.post(trigger(), key="from-the-environment").status_code == 201
    assert collector.post(trigger()).status_code == 403
    assert "from-the-environment" not in Path(f"/proc/{process.pid}/cmdline").read_text()


def test_a_failing_on_ready_ends_the_collector_and_is_told(tmp_path: Path) -> None:
    def fail(endpoint: str) -> None:
        raise LookupError(endpoint)

    with pytest.raises(LookupError, match="http://127"):
        serve(port=0, database=tmp_path / "t.sqlite3", on_ready=fail)
