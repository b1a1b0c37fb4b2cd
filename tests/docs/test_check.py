"""The example of `brockman check` in docs/commands.rst."""

from __future__ import annotations

import re
from email.utils import formatdate

import pytest

from brockman.cli import main
from tests.docs.blocks import only
from tests.support.client import KEY
from tests.support.server import RecordingServer, Reply


def test_check_prints_what_the_page_shows(
    server: RecordingServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for the port, the milliseconds, and the breaks in long lines."""
    server.respond = lambda request: Reply(403, b"wrong API key", {"Date": formatdate(usegmt=True)})
    monkeypatch.setenv("FL_ENDPOINT", server.endpoint)
    monkeypatch.setenv("FL_API_KEY", KEY)
    assert main(["check"]) == 1
    printed = re.sub(r"[0-9.]+ ms", "0.3 ms", capsys.readouterr().out.replace(str(server.port), "8765"))
    assert printed.split() == only("check output").code.split()
