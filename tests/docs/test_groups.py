"""The example of a group runs against a real collector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from brockman import FocusLabClient
from tests.cli.conftest import serving
from tests.docs.blocks import only, run_python
from tests.support.client import KEY


def test_the_hot_leads_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the page: pro, viewed the pricing three times, never paid."""
    with serving(tmp_path) as collector:
        monkeypatch.setenv("FL_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("FL_API_KEY", KEY)
        with FocusLabClient() as client:
            for actor, times, plan in (("ada", 3, "pro"), ("bob", 2, "pro"), ("cy", 3, "free"), ("dan", 3, "pro")):
                for _ in range(times):
                    client.record_trigger(actor, "viewed", "pricing", attributes={"plan": plan})
            client.record_trigger("dan", "paid", "order")
        names: Any = run_python(only("a group"))
        names["client"].close()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("('ada',) {} {'plan': 'pro'} 20")


def test_a_group_of_a_test_is_downloaded() -> None:
    """The test of the page passes."""
    test: Any = run_python(only("a group in a test"))["test_hot_leads_get_a_mail"]
    with FocusLabClient(KEY) as client:
        test(lambda members: [member.identities["email"][0] for member in members], client)
