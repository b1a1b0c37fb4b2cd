"""The collector as a process: a signal, kill -9, a full disk."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import requests

from brockman.collector.server import serve
from brockman.collector.settings import Settings
from brockman.collector.store import open_store
from tests.cli.conftest import command
from tests.collector.running import Running, head, make_row, read_response, trigger
from tests.support.client import KEY
from tests.support.programs import started
from tests.support.waiting import eventually

Spawn = Callable[..., Running]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(spawn: Spawn, number: signal.Signals) -> None:
    """Status 0, nothing on stderr (not even a ResourceWarning), and one file left."""
    collector = spawn()
    assert collector.process is not None
    assert collector.post(trigger()).status_code == 201  # over a connection that stays open

    collector.process.send_signal(number)
    _, stderr = collector.process.communicate(timeout=10)

    assert (collector.process.returncode, stderr) == (0, "")
    assert [path.name for path in collector.database.parent.iterdir()] == [collector.database.name]


def test_an_upload_that_hangs_does_not_prevent_the_shutdown(spawn: Spawn) -> None:
    collector = spawn()
    assert collector.process is not None
    with collector.connect() as connection:
        connection.sendall(head("Content-Length: 100") + b"{")
        assert collector.post(trigger()).status_code == 201

        collector.process.terminate()
        _, stderr = collector.process.communicate(timeout=10)
        status, _, _ = read_response(connection)

    assert (collector.process.returncode, status) == (0, 503)
    assert stderr == "Cancel 1 running task(s), timeout graceful shutdown exceeded\n"  # by uvicorn


def test_a_request_that_the_shutdown_interrupts_is_answered(spawn: Spawn) -> None:
    """503, for the client to come back; no traceback is on stderr."""
    collector = spawn("--delay", "1m")
    assert collector.process is not None
    with collector.connect() as connection:
        connection.sendall(head("Content-Length: 2") + b"{}")
        collector.stats()  # answered, so the other one is in progress

        collector.process.terminate()
        _, stderr = collector.process.communicate(timeout=10)
        status, headers, body = read_response(connection)

    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(body) == {"error": "the collector is shutting down"}
    assert stderr == "Cancel 1 running task(s), timeout graceful shutdown exceeded\n"  # by uvicorn


def test_a_signal_while_triggers_are_joined_and_removed_is_no_problem(spawn: Spawn, tmp_path: Path) -> None:
    with closing(open_store(tmp_path / "triggers.sqlite3")) as store:
        store.add([make_row(str(number), actor_id=str(number)) for number in range(20_000)])
    collector = spawn("--keep", "1d")
    assert collector.process is not None
    assert eventually(lambda: collector.stats()["removed"] > 0)

    collector.process.terminate()
    _, stderr = collector.process.communicate(timeout=10)

    assert collector.process.returncode == 0
    assert all(line.startswith("brockman: removed ") for line in stderr.splitlines()), stderr


def test_requests_in_progress_end_and_new_connections_are_refused(spawn: Spawn) -> None:
    """A body that still comes is stored, a stream ends, and a client that connects later goes elsewhere."""
    collector = spawn()
    assert collector.process is not None
    body = json.dumps(trigger()).encode()
    stream = head().replace(b"POST /api/v1/trigger/", b"GET /api/v1/stream/")
    with collector.connect() as uploading, collector.connect() as streaming:
        uploading.sendall(head(f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert uploading.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        streaming.sendall(stream)
        assert streaming.recv(12) == b"HTTP/1.1 200"

        collector.process.terminate()
        assert eventually(lambda: is_refused(collector))
        uploading.sendall(body)
        status, headers, _ = read_response(uploading)
        assert (status, headers["connection"]) == (201, "close")
        while streaming.recv(4096):
            pass
        _, stderr = collector.process.communicate(timeout=10)
    assert (collector.process.returncode, stderr) == (0, "")
    assert len(spawn().ids()) == 1


def test_a_request_that_cannot_end_before_the_shutdown_is_to_be_sent_again(spawn: Spawn) -> None:
    """503 with Retry-After, and no 500, which would count as a fault of the triggers."""
    collector = spawn()
    assert collector.process is not None
    assert collector.post(trigger()).status_code == 201
    body = json.dumps(trigger()).encode()
    with (
        closing(sqlite3.connect(collector.database, isolation_level=None)) as other,
        collector.connect() as connection,
    ):
        other.execute("BEGIN IMMEDIATE")
        connection.sendall(head(f"Content-Length: {len(body)}") + body)
        assert collector.get("stats/").status_code == 200
        collector.process.terminate()
        status, headers, _ = read_response(connection)
        assert collector.process.wait(20) == 0
    assert (status, headers["retry-after"]) == (503, "1")


def is_refused(collector: Running) -> bool:
    try:
        collector.connect().close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(spawn: Spawn, number: signal.Signals) -> None:
    """Acknowledged triggers are there; the requests in progress are not waited for."""
    collector = spawn()
    assert collector.process is not None
    assert collector.post(trigger()).status_code == 201
    with collector.connect() as connection:
        connection.sendall(head("Content-Length: 100") + b"{")
        assert collector.post(trigger()).status_code == 201
        collector.process.send_signal(number)
        assert eventually(lambda: is_refused(collector))
        collector.process.send_signal(number)
        assert collector.process.wait(10) == 128 + number
    assert len(spawn().ids()) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces of processes are Linux's")
def test_a_signal_stops_it_as_the_first_process_of_a_container(tmp_path: Path) -> None:
    """Where the kernel ignores signals that have no handler."""
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine allows no namespace of processes")
    serve_command = command("serve", "--port", "0", "--database", str(tmp_path / "t.sqlite3"))
    with started([*unshare, *serve_command]) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        assert [line.split()[0] for line in lines] == ["listening", "page", "database", "key"]
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_acknowledged_triggers_survive_kill_9(spawn: Spawn) -> None:
    """Killed under load and restarted on the same file, it has each of them once."""
    collector = spawn()
    assert collector.process is not None
    acknowledged: list[str] = []

    def load() -> None:
        with requests.Session() as session:
            while True:
                chunk = [trigger() for _ in range(50)]
                try:
                    response = session.post(
                        collector.endpoint + "trigger/", json=chunk, headers={"X-FL-API-KEY": KEY}, timeout=10
                    )
                except requests.RequestException:
                    return
                assert response.status_code == 201
                acknowledged.extend(one["id"] for one in chunk)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: len(acknowledged) > 5000)
    collector.process.kill()
    for thread in threads:
        thread.join(20)

    again = spawn()
    stored = again.ids()
    assert set(acknowledged) <= set(stored)
    assert len(stored) == len(set(stored)) == again.stats()["triggers"]


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process can be set on Linux alone")
def test_it_recovers_from_a_full_disk(spawn: Spawn) -> None:
    collector = spawn()
    assert collector.process is not None
    pid = collector.process.pid
    first, rejected = [trigger() for _ in range(50)], [trigger(variables={"x": "y" * 500}) for _ in range(500)]
    assert collector.post(first).status_code == 201
    sizes = [path.stat().st_size for path in collector.database.parent.iterdir()]
    unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE, (max(sizes), resource.RLIM_INFINITY))

    responses = [collector.post(rejected) for _ in range(2)]
    health = collector.endpoint.replace("api/v1/", "healthz")
    assert requests.get(health, timeout=10).status_code == 503  # though there is room for what a check writes
    resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)

    assert [(response.status_code, response.headers["Retry-After"]) for response in responses] == [(503, "10")] * 2
    assert collector.ids() == [one["id"] for one in first]
    assert collector.post(rejected).status_code == 201
    assert eventually(lambda: requests.get(health, timeout=10).status_code == 200)
    assert collector.stats() == {"triggers": 550, "duplicates": 0, "rejected": 0, "requests": 2, "removed": 0}


def test_an_exception_in_on_ready_stops_the_collector_and_is_raised(tmp_path: Path) -> None:
    def fail(endpoint: str) -> None:
        raise LookupError(endpoint)

    with pytest.raises(LookupError, match="http://127"):
        serve(Settings(port=0, database=tmp_path / "t.sqlite3"), on_ready=fail)
