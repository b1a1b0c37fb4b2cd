"""The documentation builds, and README.rst is what a package index accepts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import README, ROOT

pytest.importorskip("sphinx", reason="comes with the extra `docs`")


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    """No dead reference, no page outside the table of contents, no malformed docstring of a public name."""
    options = ["-W", "-n", "--keep-going", "-q", "-E", "-d", str(tmp_path / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(tmp_path / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "record_trigger" in (tmp_path / "html" / "api.html").read_text(encoding="utf-8")


def test_the_readme_needs_nothing_of_sphinx(tmp_path: Path) -> None:
    """Plain docutils, which package indexes use, renders it without a message."""
    from docutils.core import publish_string
    from docutils.writers.null import Writer

    messages = tmp_path / "messages"
    with messages.open("w") as stream:
        settings = {"warning_stream": stream, "report_level": 1, "syntax_highlight": "none"}
        publish_string(README.read_text(encoding="utf-8"), writer=Writer(), settings_overrides=settings)
    assert messages.read_text() == ""
