"""The examples run as their READMEs say."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.conftest import recorded
from tests.collector.running import Running
from tests.support.client import KEY
from tests.support.programs import ROOT, environment, find_program, free_port, ran, started
from tests.support.redis_server import redis_server
from tests.support.server import RecordingServer

EXAMPLES = ROOT / "examples"


def test_the_script_delivers_and_says_so(collector: Running) -> None:
    ended = ran(
        [sys.executable, "-W", "error", str(EXAMPLES / "script" / "reminders.py")],
        env=environment(FL_ENDPOINT=collector.endpoint, FL_API_KEY=KEY),
    )
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == "3 delivered, 0 rejected, 0 still on their way\n"
    assert ended.out in (EXAMPLES / "script" / "README.rst").read_text()
    assert recorded(collector)[0] == {
        "actor_id": "17",
        "action": "received",
        "object": "payment reminder",
        "captured_identities": {"email": "ada@example.com"},
        "captured_attributes": {"plan": "team"},
        "variables": {"invoices": ["2025-031", "2025-044"]},
    }


def test_the_web_application_records_a_trigger_for_each_request(collector: Running) -> None:
    with started(
        [sys.executable, "-W", "error", str(EXAMPLES / "web" / "app.py"), "0"],
        env=environment(FL_ENDPOINT=collector.endpoint, FL_API_KEY=KEY),
    ) as process:
        assert process.stdout is not None
        port = urlsplit(process.stdout.readline().removeprefix("serving on ").strip()).port
        assert port is not None
        for path in ("/pricing", "/blog", "/pricing"):
            assert b" 200 OK\r\n" in get(port, path)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out) == (0, "recorded 3\n"), err
    assert "Traceback" not in err
    assert [trigger["object"] for trigger in recorded(collector)] == ["/pricing", "/blog", "/pricing"]


@pytest.mark.parametrize(
    ("folder", "library", "command", "said"),
    [
        ("rq_job", "rq", ["rq", "worker", "--burst", "--path", "{}"], "2 jobs are in the queue\n"),
        (
            "dramatiq_actor",
            "dramatiq",
            ["dramatiq", "report", "--path", "{}", "--processes", "1"],
            "2 messages are in the queue\n",
        ),
    ],
    ids=["rq", "dramatiq"],
)
def test_a_task_has_the_actor_of_its_caller(
    server: RecordingServer, tmp_path: Path, folder: str, library: str, command: list[str], said: str
) -> None:
    pytest.importorskip(library)
    pytest.importorskip("redis")
    port, place = free_port(), EXAMPLES / folder
    url = f"redis://127.0.0.1:{port}"
    options = [option.format(place) for option in command[1:]] + (["--url", url] if library == "rq" else [])
    env = environment(FL_ENDPOINT=server.endpoint, FL_API_KEY=KEY, REDIS_URL=url)
    with redis_server(tmp_path / "redis", server, port):
        ended = ran([sys.executable, "-W", "error", str(place / "report.py")], env=env)
        assert (ended.status, ended.out) == (0, said), ended.err
        with started([find_program(command[0]), *options], env=env) as worker:
            server.wait_until(lambda server: len(server.triggers) == 2)
            worker.send_signal(signal.SIGTERM)
            worker.communicate()
    assert said in (place / "README.rst").read_text()
    assert {(trigger["actor_id"], trigger["captured_attributes"]["plan"]) for trigger in server.triggers} == {
        ("17", "team"),
        ("23", "team"),
    }


def get(port: int, path: str) -> bytes:
    """Return a response after the server closed the connection: before that wsgiref treats Ctrl-C as an error."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("folder", sorted(EXAMPLES.glob("[a-z]*")), ids=lambda path: path.name)
def test_an_example_is_short_and_has_a_readme(folder: Path) -> None:
    (program,) = folder.glob("*.py")
    readme = (folder / "README.rst").read_text()
    if program.name == "manage.py":
        assert f"cd examples/{folder.name}\n" in readme
    else:
        assert len(program.read_text().splitlines()) <= 60
        assert f"python examples/{folder.name}/{program.name}" in readme
    assert all(title in readme for title in ("What you learn", "Run it\n------", "What you should see\n-------"))
