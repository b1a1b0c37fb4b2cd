"""The senders on the page, in Chromium."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

from brockman.client import FocusLabClient
from tests.collector.page.opened import MARKUP, check_look, is_untouched, wait_for_text
from tests.collector.running import Running, trigger
from tests.support.client import KEY

if TYPE_CHECKING:
    from playwright.sync_api import Page


def identify(host: str, pid: int, **counts: int) -> dict[str, str]:
    """Return the headers of a process that says what it has counted."""
    return {
        "X-FL-Sender": f"id={pid:032x}; host={quote(host)}; pid={pid}; started=2026-11-23T17:22:32Z",
        "X-FL-Counts": "; ".join(f"{name.replace('__', '.')}={count}" for name, count in counts.items()),
    }


def test_a_process_and_its_counts_are_seen(collector: Running, open_page: Callable[..., Page]) -> None:
    """While the page is open: the counts, and that everything has arrived."""
    page = open_page(collector, "/#senders")
    page.wait_for_selector("#senders-empty:not([hidden])")
    with FocusLabClient(KEY, collector.endpoint) as client:
        for number in range(12):
            client.record_trigger("ada", "viewed", f"page {number}")
        client.flush()
        client.record_trigger("ada", "viewed", "the last page")
    wait_for_text(page, "#senders-list h3", socket.gethostname())
    wait_for_text(page, "#senders-list .words", "recorded 13, dropped 0, arrived 13")
    assert page.inner_text("#senders-list .badge") == "complete"


def test_what_is_missing_or_dropped_is_said(collector: Running, open_page: Callable[..., Page]) -> None:
    """With the time since when, and the reason."""
    collector.post([trigger()], identify("web-4", 4, recorded=1, waiting=1))
    collector.post([trigger()], identify("web-4", 4, recorded=10, delivered=9, waiting=1))
    collector.post([trigger()], identify("web-5", 5, recorded=8, waiting=1, dropped__full=7))
    page = open_page(collector, "/#senders")
    wait_for_text(page, "#senders-list", "7 dropped")
    assert "dropped: full" in page.inner_text("#senders-list")
    assert "8 missing" in page.inner_text("#senders-list .badge.bad")


def test_senders_are_shown_as_text_and_fit(collector: Running, open_page: Callable[..., Page]) -> None:
    for pid, host in enumerate((MARKUP, "h" * 200), 1):
        collector.post([trigger()], identify(host, pid, recorded=8, waiting=1, dropped__full=7))
    page = open_page(collector, "/#senders")
    wait_for_text(page, "#senders-list", MARKUP)
    check_look(page)
    assert is_untouched(page)
