"""The commands that send refused triggers again."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import serving
from tests.collector.running import trigger
from tests.docs.blocks import only, run_shell, to_shell
from tests.support.client import KEY


def test_the_commands_send_what_was_refused(tmp_path: Path) -> None:
    """Each does what the page says."""
    with serving(tmp_path) as collector:
        paid = trigger(action="paid", variables={"currency": None})
        collector.post([paid, trigger(variables={"cart": {}}), trigger(variables={"cart": {}})])

        run_shell(to_shell([only("replay")]), tmp_path, FL_ENDPOINT=collector.endpoint, FL_API_KEY=KEY)

        assert collector.stored(action="paid") == [{**paid, "variables": {"currency": "EUR"}}]
        assert len(collector.stored()) == 3
        assert collector.get("refused/").json()["refused"] == []
