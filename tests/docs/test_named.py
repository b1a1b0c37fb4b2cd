"""Blocks of the documentation that need more than a server: each runs here, and does what the page says."""

from __future__ import annotations

import json
import logging
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from brockman import FocusLabClient
from brockman.testing import capture
from tests.docs.blocks import ROOT, Block, named, only, run_python
from tests.support.client import KEY, record
from tests.support.programs import environment, ran_python
from tests.support.server import RecordingServer, Reply


@pytest.fixture
def endpoint(server: RecordingServer, monkeypatch: pytest.MonkeyPatch) -> RecordingServer:
    """A server that clients find through the environment."""
    monkeypatch.setenv("FL_ENDPOINT", server.endpoint)
    monkeypatch.setenv("FL_API_KEY", KEY)
    return server


@pytest.mark.parametrize("block", named("capture"), ids=str)
def test_the_test_passes_and_fails(block: Block) -> None:
    """It passes if the page records, and fails if it records something else."""
    test: Any = run_python(block)["test_an_order_is_recorded"]

    class Browser:
        def __init__(self, title: str) -> None:
            self.title = title

        def post(self, path: str) -> None:
            FocusLabClient(KEY).record_trigger(7, "ordered", "book", variables={"title": self.title})

    test(Browser("Queues for Everyone"))
    with pytest.raises(AssertionError, match="should be recorded 1 times"):
        test(Browser("Another book"))


def test_the_fixture_is_there(focuslab_outbox: Any) -> None:
    """The test of the page passes with it."""
    test: Any = run_python(only("the fixture"))["test_a_page_is_recorded"]
    test(focuslab_outbox)
    assert len(focuslab_outbox) == 1


def test_an_invalid_trigger_says_what_the_page_says(
    endpoint: RecordingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The comment beside `print` is what is printed."""
    block = only("an invalid trigger")
    run_python(block)
    (promised,) = re.findall(r"print\(error\)  # (.+)", block.code)
    assert capsys.readouterr().out == promised + "\n"


def test_the_callbacks_are_called(endpoint: RecordingServer, capsys: pytest.CaptureFixture[str]) -> None:
    """One for a rejected trigger, one for a dropped one."""
    endpoint.respond = lambda request: Reply(422, b"no such thing")
    client: Any = run_python(only("callbacks"))["client"]
    record(client, 1)
    assert client.flush().rejected == 1
    client.close()
    record(client, 1)
    rejected, dropped = capsys.readouterr().out.splitlines()
    assert rejected.startswith("rejected (")
    assert dropped.startswith("dropped (closed)")


def test_the_console_transport_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """One line of JSON."""
    run_python(only("transports"))
    assert json.loads(capsys.readouterr().out)["object"] == "blog post"


def test_the_memory_transport_answers_from_a_script() -> None:
    """The assertions of the page hold."""
    run_python(only("memory transport"))


def test_a_library_that_intercepts_requests_answers() -> None:
    """No server is there, and the trigger is delivered all the same."""
    run_python(only("responses"))


def test_capture_sees_clients_made_before() -> None:
    """Made before the block or inside of it."""
    client = FocusLabClient(KEY)
    with capture() as outbox:
        record(client, 1)
        record(FocusLabClient(KEY), 1)
    assert len(outbox) == 2


def test_the_log_says_what_the_page_says(endpoint: RecordingServer, caplog: pytest.LogCaptureFixture) -> None:
    """The same lines, but for endpoint and duration."""
    caplog.set_level(logging.DEBUG, "brockman")
    answers = iter((503, 201))
    endpoint.respond = lambda request: Reply(next(answers, 401))
    with FocusLabClient(backoff_base=0.01) as client:
        record(client, 1)
        assert client.flush()
        assert client.stats().retries == 1
    client = FocusLabClient()
    record(client, 1)
    client.close(1)
    promised = [line for block in named("log lines") for line in block.code.splitlines()]
    said = [plain(record.getMessage(), endpoint.endpoint) for record in caplog.records]
    assert [line for line in promised if plain(line, "http://127.0.0.1:8765/api/v1/") not in said] == []


SERVES = """
import socket
from brockman import FocusLabClient
with socket.create_server(("127.0.0.1", 0)), FocusLabClient() as client:
    client.record_trigger(1, "viewed", "page")
    client.flush()
"""


def test_a_server_is_warned_of_sigterm_as_the_page_says(server: RecordingServer) -> None:
    """A real process that listens, and leaves SIGTERM to its default action."""
    ended = ran_python(
        SERVES, env=environment(FL_API_KEY=KEY, FL_ENDPOINT=server.endpoint, PYTEST_CURRENT_TEST="")
    )
    assert ended.err.split() == only("warning of SIGTERM").code.split()


def plain(line: str, endpoint: str) -> str:
    """Return a line of the log without endpoint and seconds."""
    return re.sub(r"after \d+ s", "after", line.replace(endpoint, "ENDPOINT"))


def test_figures_follow_the_command_that_prints_them() -> None:
    """Each command names a benchmark that exists; the words of each table are those that this benchmark prints."""
    source = ""
    for block in named("benchmark"):
        if block.language == "console":
            module = ROOT.joinpath(*shlex.split(block.code)[shlex.split(block.code).index("-m") + 1].split("."))
            paths = sorted(module.glob("*.py")) if module.is_dir() else [module.with_suffix(".py")]
            source = "".join(map(Path.read_text, paths))
        else:
            words = set(re.findall(r"[A-Za-z_]{3,}", block.code))
            assert {word for word in words if word not in source} == set()
