"""The collector's page on web pages: its line of HTML, and its command."""

from __future__ import annotations

import shlex
from pathlib import Path

import requests

from tests.cli.conftest import listening
from tests.docs.blocks import only
from tests.support.browser import Site, chromium
from tests.support.waiting import eventually


def test_a_page_with_the_line_records_its_view(tmp_path: Path) -> None:
    """In Chromium, into the collector that the command starts; only address and origin are others."""
    setting, command = only("a collector for pages").code.replace("$ ", "").splitlines()
    key = setting.partition("=")[2]
    with Site({}) as site:
        arguments = shlex.split(command.replace("https://shop.example", site.origin))[1:]
        database = tmp_path / "triggers.sqlite3"
        options = [*arguments, "--port", "0", "--database", str(database), "--api-key", key]
        with listening(["-m", "brockman", *options], database) as collector, chromium() as browser:
            script = collector.endpoint.replace("/api/v1/", "")
            site.pages["/"] = only("a page of its own").code.replace("http://127.0.0.1:8765", script)
            page = browser.new_page()
            page.goto(site.origin)

            def stored() -> int:
                url, headers = collector.endpoint + "trigger/", {"X-FL-API-KEY": key}
                return int(requests.get(url, headers=headers, timeout=20).json()["total"])

            assert eventually(lambda: stored() == 1, 20)
