"""The refused triggers on the page, in Chromium."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.collector.page.opened import MARKUP, check_look, is_untouched, wait_for, wait_for_text
from tests.collector.running import Running, trigger

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_what_is_refused_is_seen_with_its_reason(collector: Running, open_page: Callable[..., Page]) -> None:
    """The body opens by keyboard; later ones appear, and the list is filtered by a reason."""
    collector.post([trigger(), trigger(action="", object="an order")])
    page = open_page(collector, "/#refused")
    wait_for_text(page, "#refused-notice", "1 trigger kept")
    assert "action" in (page.text_content("#refused-list .reason") or "")
    page.focus("#refused-list summary")
    page.keyboard.press("Enter")
    wait_for(page, "document.querySelector('#refused-list details').open")
    assert '"object": "an order"' in page.inner_text("#refused-list pre")
    page.keyboard.press("Enter")

    collector.post([trigger(), trigger(variables={"price": {"EUR": 5}})])
    wait_for(page, "document.querySelectorAll('#refused-list li').length === 2")
    page.click("#refused-list li:last-child summary")
    page.click("#refused-list li:last-child a")
    wait_for(page, "document.querySelectorAll('#refused-list li').length === 1")
    assert "reason=" in page.url
    page.go_back()
    wait_for(page, "document.querySelectorAll('#refused-list li').length === 2")
    page.fill("#refused-reason", "VARIABLES['price']")
    wait_for(page, "document.querySelectorAll('#refused-list li').length === 1")


def test_what_made_room_is_counted(start: Callable[..., Running], open_page: Callable[..., Page]) -> None:
    """The newest are kept."""
    collector = start(api_key=None, max_refused=60)
    for _ in range(2):
        collector.post([trigger(), *(trigger(action="", object=f"{number}") for number in range(60))])
    page = open_page(collector, "/#refused")
    wait_for_text(page, "#refused-notice", "older ones made room for newer ones")
    while page.is_visible("#refused-more"):
        count = page.locator("#refused-list li").count()
        page.click("#refused-more")
        wait_for(page, f"document.querySelectorAll('#refused-list li').length > {count}")
    kept, _, removed = (page.text_content("#refused-notice") or "").partition(" · ")
    assert page.locator("#refused-list li").count() == int(kept.split()[0])
    assert int(kept.split()[0]) + int(removed.split()[0]) == 120


def test_what_is_refused_is_shown_as_text_and_fits(collector: Running, open_page: Callable[..., Page]) -> None:
    """Whatever it is."""
    wild = {MARKUP: {MARKUP: MARKUP}, "actor_id": MARKUP, "action": MARKUP, "object": "o" * 500, "variables": 5}
    collector.post([trigger(), wild, MARKUP, ["x" * 3000], trigger(variables={MARKUP: {MARKUP: 1}})])
    page = open_page(collector, "/#refused")
    wait_for_text(page, "#refused-notice", "4 triggers kept")
    check_look(page)
    for summary in page.locator("#refused-list summary").all():
        summary.click()
    check_look(page)
    assert MARKUP in page.inner_text("#refused-list")
    assert is_untouched(page)
