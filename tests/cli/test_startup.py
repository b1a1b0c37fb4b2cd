"""Every command ends with a sentence and a status, never with a traceback."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.conftest import command
from tests.support.client import KEY
from tests.support.endpoint import Endpoint
from tests.support.programs import Ended, environment, ran, started
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

CLOSED = "brockman: standard output is closed; nothing is shown there\n"
# Sends Ctrl-C when the modules of a command are being imported, at the import with a number.
INTERRUPTED = """
import os, signal, sys
number, imports = int(sys.argv.pop(1)), 0

def count(event, arguments):
    global imports
    if event == "import":
        imports += 1
        if imports == number:
            os.kill(os.getpid(), signal.SIGINT)

from brockman.cli import main
sys.addaudithook(count)
sys.exit(main())
"""


@pytest.fixture
def triggers(tmp_path: Path) -> Path:
    path = tmp_path / "triggers"
    path.write_text('{"actor_id": "7", "action": "viewed", "object": "page"}\n' * 3)
    (tmp_path / "spool").mkdir()
    return tmp_path


def run_in_shell(redirection: str, folder: Path, endpoint: str, *arguments: str) -> Ended:
    return ran(
        ["bash", "-c", f'"$@" {redirection}', "bash", *command(*arguments)],
        env=environment(FL_API_KEY=KEY, FL_ENDPOINT=endpoint),
        cwd=folder,
    )


def test_a_closed_stdin_is_said(triggers: Path, server: RecordingServer) -> None:
    ended = run_in_shell("<&-", triggers, server.endpoint, "import", "-")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == "brockman import: '-' cannot be read: standard input is closed\n"
    ended = run_in_shell("<&-", triggers, server.endpoint, "import", "-", "triggers")
    assert (ended.status, len(server.triggers)) == (1, 3)
    assert ended.err == "brockman import: '-' cannot be read: standard input is closed\n"


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&-", "<&- >&- 2>&-", "2>/dev/full"])
@pytest.mark.parametrize("arguments", [("import", "triggers"), ("spool", "spool"), ("demo", "--triggers", "9")])
def test_without_a_stream_a_command_does_its_work(
    redirection: str, arguments: tuple[str, ...], triggers: Path, server: RecordingServer
) -> None:
    ended = run_in_shell(redirection, triggers, server.endpoint, *arguments)
    assert ended.status == 0
    assert ended.err == (CLOSED if redirection == ">&-" else "")
    assert bool(ended.out) == (">&-" not in redirection.replace("2>&-", ""))
    assert len(server.triggers) == (3 if arguments[0] == "import" else 0)


@pytest.mark.parametrize(
    "arguments",
    [("import", "triggers"), ("spool", "spool"), ("demo", "--triggers", "9"), ("serve", "--port", "0")],
    ids=lambda arguments: str(arguments[0]),
)
def test_a_full_disk_behind_stdout_is_reported(
    arguments: tuple[str, ...], triggers: Path, server: RecordingServer
) -> None:
    ended = run_in_shell(">/dev/full", triggers, server.endpoint, *arguments)
    assert ended.status == 1
    assert ended.err.startswith(f"brockman {arguments[0]}: ")
    assert ended.err.endswith("No space left on device\n")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [("--help",), ("import", "--help"), ("serve", "--port", "0")])
def test_a_reader_that_leaves_ends_it_without_a_traceback(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """As `head -1` does."""
    with started(command(*arguments), cwd=tmp_path, env=environment(PYTHONUNBUFFERED="1")) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, err = process.communicate()
    assert process.returncode in (0, 1)  # argparse ignores that nobody reads its help
    assert err in ("", "brockman serve: cannot write to standard output: Broken pipe\n")


def test_a_terminal_that_is_closed_does_not_stop_an_import(tmp_path: Path, server: RecordingServer) -> None:
    """While the progress bar runs."""
    ours, theirs = pty.openpty()
    with started(
        command("import", "-", "--endpoint", server.endpoint),
        env=environment(FL_API_KEY=KEY),
        stdin=subprocess.PIPE,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        assert process.stdin is not None
        process.stdin.write('{"actor_id": "7", "action": "viewed", "object": "page"}\n')
        process.stdin.flush()
        os.read(ours, 1)  # the bar is there
        os.close(ours)
        out, _ = process.communicate('broken\n{"actor_id": "7", "action": "viewed", "object": "page"}\n')
    assert process.returncode == 1
    assert "bad lines            1" in out
    assert len(server.triggers) == 2


@pytest.mark.parametrize("number", [1, 20, 60, 150, 250])
def test_ctrl_c_while_modules_are_imported_ends_it_in_one_line(number: int, tmp_path: Path) -> None:
    ended = ran(
        [sys.executable, "-W", "error", "-c", INTERRUPTED, str(number), "serve", "--port", "0"],
        env=environment(),
        cwd=tmp_path,
    )
    assert (ended.status, ended.out, ended.err.strip()) == (130, "", "brockman: interrupted")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("serve", "--port", "x"), "--port: 'x' should be a whole number"),
        (("serve", "--outage-after", "1.5"), "--outage-after: '1.5' should be a whole number"),
        (
            ("serve", "--outage-for", "long"),
            "--outage-for: 'long' should be a number and a unit, such as 200ms, 2s, 5m, 90d, 12w",
        ),
        (("demo", "--seed", "x"), "--seed: 'x' should be a whole number"),
        (("demo", "--triggers", "0"), "--triggers: '0' should be a whole number from 1"),
        (("import", "a", "--timeout", "abc"), "--timeout: 'abc' should be a number from 0 to 1000000"),
        (("spool", "a", "--send", "--timeout", "-1"), "--timeout: '-1' should be a number from 0 to 1000000"),
    ],
)
def test_a_number_that_is_none_is_a_wrong_usage(arguments: tuple[str, ...], error: str) -> None:
    ended = ran(command(*arguments), env=environment())
    assert (ended.status, ended.out) == (2, "")
    assert f"argument {error}\n" in ended.err


def test_ctrl_c_ends_a_command_in_a_line_that_says_what_was_done(tmp_path: Path, server: RecordingServer) -> None:
    """While it waits for the endpoint."""
    endpoint = Endpoint(server)
    endpoint.hold()
    spool = str(tmp_path / "spool")
    ended = {
        ("export", "--output", "file"): "brockman export: interrupted; the file is as before",
        ("erase", "--actor", "7", "--yes"): "brockman erase: interrupted; some or all may be erased;",
        ("record", "7", "viewed", "page"): f"brockman record: not delivered (no answer yet); kept in {spool},",
    }
    env = environment(FL_API_KEY=KEY, FL_ENDPOINT=server.endpoint, FL_SPOOL_DIR=spool)
    with ExitStack() as stack:
        processes = [
            stack.enter_context(started(command(*arguments), env=env, cwd=tmp_path)) for arguments in ended
        ]
        assert eventually(lambda: endpoint.arrived == len(processes))
        for process, line in zip(processes, ended.values(), strict=True):
            process.send_signal(signal.SIGINT)
            _, err = process.communicate()
            assert process.returncode == 130
            assert err.splitlines()[-1].startswith(line)
            assert "Traceback" not in err
        endpoint.release()
