"""`brockman tail` follows a real collector."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from brockman.cli import main
from brockman.cli.lines import refusal_line, trigger_line
from tests.cli.conftest import command, serving
from tests.collector.conftest import start  # noqa: F401
from tests.collector.running import Running, trigger
from tests.support.client import KEY
from tests.support.programs import environment, free_port, ran, started


@pytest.fixture
def collector(start: Callable[..., Running]) -> Running:  # noqa: F811
    return start()


@contextmanager
def tailing(endpoint: str, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run `brockman tail`, until it is interrupted after the block: status 130, one line on stderr."""
    env = environment(FL_ENDPOINT=endpoint, FL_API_KEY=KEY, **options.pop("env", {}))
    with started(command("tail", *arguments), env=env, **options) as process:
        yield process
        process.send_signal(signal.SIGINT)


def take(process: subprocess.Popen[str], count: int) -> list[dict[str, Any]]:
    """Return the next triggers of `--json`."""
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def test_the_last_and_each_new_trigger_is_shown_once(collector: Running) -> None:
    """In order, also when more arrive at once than the stream has, and of those that match only."""
    before = [trigger(action="paid", variables={"n": n}) for n in range(5)]
    collector.post([*before, trigger()])
    conditions = ("--where", "variables.n~=", "--search", "paid")
    with tailing(collector.endpoint, "--json", "-n", "2", *conditions) as process:
        assert take(process, 2) == before[-2:]
        for _ in range(2):
            many = [trigger(action="paid", variables={"n": n}) for n in range(1000)]
            collector.post([*many, trigger(), trigger(action="paid")])
            assert take(process, 1000) == many
        one = trigger(action="paid", variables={"n": "é"})
        collector.post(one)
        assert take(process, 1) == [one]
        process.send_signal(signal.SIGINT)
        assert process.communicate() == ("", "\nbrockman tail: interrupted\n")
    assert process.returncode == 130


def test_a_restart_of_the_collector_loses_and_repeats_nothing(tmp_path: Path) -> None:
    """The outage is said in one line, and its end in another."""
    port = str(free_port())
    first, second, third = ([trigger(variables={"n": n}) for n in range(20)] for _ in range(3))
    with serving(tmp_path, "--port", port) as collector, tailing(collector.endpoint, "--json") as process:
        assert process.stderr is not None
        assert collector.process is not None
        collector.post(trigger())
        take(process, 1)
        collector.post(first)
        assert take(process, 20) == first
        collector.process.kill()
        collector.process.wait()
        lost = process.stderr.readline()
        with serving(tmp_path, "--port", port) as again:
            again.post(second)
            assert take(process, 20) == second
            again.post(third)
            assert take(process, 20) == third
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()
    assert lost == f"brockman tail: {collector.endpoint}: Connection refused; trying again\n"
    assert out == ""
    assert err.startswith(f"brockman tail: {collector.endpoint} responds again after ")
    assert err.count("\n") == 3  # with that of Ctrl-C


def test_refused_triggers_are_followed_with_their_reasons(collector: Running) -> None:
    wrong, other = trigger(action="paid", variables=7), trigger(variables=7)
    collector.post(wrong)
    with tailing(collector.endpoint, "--refused", "--json", "--where", "reason~=VARIABLES") as process:
        assert take(process, 1)[0]["trigger"] == wrong
        collector.post(b"no json")
        collector.post(other)
        (entry,) = take(process, 1)
    assert (entry["trigger"], "variables" in entry["reason"]) == (other, True)


def test_it_ends_when_the_reader_of_the_pipe_leaves(collector: Running) -> None:
    """As `head` does, though nothing more arrives."""
    collector.post([trigger(object=f"page {n}") for n in range(5)])
    ended = ran(
        ["bash", "-c", '"$@" | head -3; exit ${PIPESTATUS[0]}', "bash", *command("tail")],
        env=environment(FL_ENDPOINT=collector.endpoint, FL_API_KEY=KEY),
        limit=30,
    )
    assert (ended.status, ended.err) == (0, "")
    assert [line.split("  ")[3] for line in ended.out.splitlines()] == ["page 0", "page 1", "page 2"]


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_are_for_a_terminal(collector: Running, no_color: str) -> None:
    """Which can say that it wants none, by NO_COLOR."""
    collector.post(trigger())
    ours, theirs = pty.openpty()
    with tailing(collector.endpoint, stdout=theirs, env={"NO_COLOR": no_color, "TERM": "xterm"}):
        os.close(theirs)
        shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert ("\x1b[" in shown) is (no_color == "")
    assert "viewed" in shown


def test_what_a_trigger_holds_does_not_reach_the_terminal_as_control_characters() -> None:
    text = "a\x1b[2J\u202eb"
    sent = trigger(actor_id=text, variables={text: [text]}, captured_identities={"email": text})
    entry = {"reason": text, "received_at": "2026-11-28T00:00:00Z", "trigger": sent, "text": None}
    for line in (
        trigger_line(sent, has_colours=False),
        refusal_line(entry, has_colours=False),
        refusal_line({**entry, "trigger": None, "text": text}, has_colours=False),
    ):
        assert line.isprintable()
        assert "a\\x1b[2J\\u202eb" in line


def test_wrong_usage_a_wrong_key_and_a_wrong_endpoint_are_named(
    collector: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FL_ENDPOINT", collector.endpoint)
    monkeypatch.setenv("FL_API_KEY", KEY)
    for arguments, status, words in (
        (["--api-key", "another"], 1, " responds 403: "),
        (["--endpoint", collector.endpoint.replace("v1", "v2")], 1, " responds 404: "),
        (["--endpoint", "http://127.0.0.1:1/", "--timeout", "0"], 1, "Connection refused"),
        (["--where", "verb=x"], 2, "--where is 'verb=x'"),
        (["--refused", "--search", "x"], 2, "--search is for triggers"),
    ):
        assert main(["tail", *arguments]) == status
        shown = capsys.readouterr()
        assert (shown.out, shown.err.count("\n"), words in shown.err) == ("", 1, True), shown.err
        assert shown.err.startswith("brockman tail: ")
