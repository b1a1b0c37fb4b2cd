"""`FL_HANDLE_SIGTERM` in projects that handle requests in threads, where no signal handler can be installed."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import Program, assert_exact, running
from tests.support.scripts import RECORDING
from tests.support.server import RecordingServer

SITE = (
    RECORDING
    + """
import django, signal, threading, time
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from brockman.django.client import DjangoFocusLabClient

def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()

settings.configure(**CHOSEN)
(in_thread if IN_THREAD else lambda call: call())(django.setup)
WSGIHandler()
in_thread(lambda: record(DjangoFocusLabClient(flush_interval=600), "in a request"))
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
"""
)
APP: dict[str, Any] = {"INSTALLED_APPS": ["brockman.django"], "FL_SHUTDOWN_TIMEOUT": 20}
MIDDLEWARE: dict[str, Any] = {"MIDDLEWARE": ["brockman.django.middleware.FocusLabMiddleware"]}


def run_site(
    folder: Path, server: RecordingServer, settings: dict[str, Any], *, in_thread: bool = False, **environment: str
) -> tuple[int, Program]:
    """Run a site that gets SIGTERM after a trigger from a thread, and return its exit status."""
    (folder / "project.py").write_text(f"CHOSEN = {settings!r}\nIN_THREAD = {in_thread}\n{SITE}")
    with running([sys.executable, "project.py"], folder, server, PYTEST_CURRENT_TEST="", **environment) as program:
        return program.wait(30), program


@pytest.mark.parametrize(
    ("settings", "environment"),
    [
        (APP | {"FL_HANDLE_SIGTERM": True}, {}),
        (APP, {"FL_HANDLE_SIGTERM": "1"}),
        (MIDDLEWARE | {"FL_HANDLE_SIGTERM": True}, {}),
    ],
    ids=["setting", "environment", "without the app"],
)
def test_what_a_request_recorded_is_delivered(
    server: RecordingServer, tmp_path: Path, settings: dict[str, Any], environment: dict[str, str]
) -> None:
    """Although the first client was used in another thread than the main one; the exit status stays."""
    status, program = run_site(tmp_path, server, settings, **environment)
    assert status == -signal.SIGTERM, program.text()
    assert_exact(program, server)
    assert "brockman: " not in program.text()


def test_the_handler_is_installed_whatever_else_is_wrong(server: RecordingServer, tmp_path: Path) -> None:
    """A client with keywords of its own, or settings that become right later, need it."""
    settings = APP | {"FL_HANDLE_SIGTERM": "on", "FL_FLUSH_INTERVAL": "soon", "FL_MAY_TRACK": "no.such.function"}
    code = "print('handled', signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)\nos._exit(0)\n"
    (tmp_path / "project.py").write_text(
        f"CHOSEN = {settings!r}\nIN_THREAD = False\n{SITE.split('WSGIHandler()')[0]}{code}"
    )
    with running([sys.executable, "project.py"], tmp_path, server, PYTEST_CURRENT_TEST="") as program:
        program.wait()
    assert program.text() == "handled True\n"


@pytest.mark.parametrize(
    ("settings", "in_thread"),
    [(APP | {"FL_HANDLE_SIGTERM": "perhaps", "DEBUG": True}, False), (APP, False), (APP, True)],
    ids=["wrong", "off", "thread"],
)
def test_setup_changes_no_handler_otherwise(
    server: RecordingServer, tmp_path: Path, settings: dict[str, Any], in_thread: bool
) -> None:
    """Neither with a wrong setting, which the checks report, nor without it, nor in a thread."""
    status, _ = run_site(tmp_path, server, settings, in_thread=in_thread)
    assert status == -signal.SIGTERM
    assert server.triggers == []


def test_a_setup_in_a_thread_is_warned_of(server: RecordingServer, tmp_path: Path) -> None:
    """It raises nothing; the first client says that the setting has no effect."""
    status, program = run_site(tmp_path, server, APP | {"FL_HANDLE_SIGTERM": True}, in_thread=True)
    assert status == -signal.SIGTERM
    assert "brockman: FL_HANDLE_SIGTERM has no effect" in program.text()
    assert program.recorded() == {"in a request": 1}
