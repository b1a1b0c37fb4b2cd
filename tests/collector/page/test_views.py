"""The views of the page, in Chromium: addresses, keyboard, key, and look."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import requests

from tests.collector.page.opened import check_look, is_live, wait_for, wait_for_text
from tests.collector.running import Running, trigger
from tests.support.client import KEY

if TYPE_CHECKING:
    from playwright.sync_api import Page

TITLES = {"stream": "Stream", "people": "People", "groups": "Groups", "refused": "Refused", "senders": "Senders"}


def is_shown(page: Page, view: str) -> None:
    wait_for(page, f"!document.getElementById('view-{view}').hidden")
    assert page.locator("main > section:visible").count() == 1


def test_back_and_forward_go_through_the_views(collector: Running, open_page: Callable[..., Page]) -> None:
    """Each has an address that can be loaded again, and a title."""
    page = open_page(collector)
    for view, title in TITLES.items():
        page.click(f"nav a[href='#{view}']")
        is_shown(page, view)
        wait_for(page, f"document.title === '{title} · FocusLab'")
        assert page.get_attribute("nav a[aria-current]", "href") == f"#{view}"
    page.go_back()
    is_shown(page, "refused")
    page.reload()
    is_shown(page, "refused")
    page.go_forward()
    is_shown(page, "senders")


def test_every_view_is_reached_by_keyboard(collector: Running, open_page: Callable[..., Page]) -> None:
    """The views by tab and Enter; the search of each by a slash."""
    page = open_page(collector)
    is_live(page)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "stream-title"
    page.focus("nav a")
    for view in TITLES:
        page.keyboard.press("Enter")
        is_shown(page, view)
        field = page.locator(f"#view-{view} input[type=search]")
        if field.count():
            page.keyboard.press("/")
            assert field.evaluate("field => field === document.activeElement")
            page.focus(f"nav a[href='#{view}']")
        page.keyboard.press("Tab")


def test_a_search_has_an_address(collector: Running, open_page: Callable[..., Page]) -> None:
    """It can be shared, with the trigger that is open."""
    one = trigger(object="wanted")
    collector.post([trigger(), one])
    page = open_page(collector, "/#stream&search=wanted")
    wait_for(page, "document.getElementById('rows').rows.length === 1")
    page.click("#rows tr")
    page.wait_for_selector("#detail:not([hidden])")
    page.reload()
    page.wait_for_selector("#detail:not([hidden])")
    assert page.input_value("#search") == "wanted"
    page.fill("#search", "nothing")
    wait_for_text(page, "#notice", "Nothing matches.")
    assert page.url.endswith("search=nothing")


def test_each_view_asks_for_the_key(
    start: Callable[..., Running], open_page: Callable[..., Page], problems: list[str]
) -> None:
    """And keeps it for the others, in no URL."""
    collector = start()
    page = open_page(collector)
    for view in TITLES:
        page.evaluate(f"sessionStorage.clear(); location.hash = '{view}'")
        page.reload()
        page.wait_for_selector("#ask[open]")
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        is_live(page)
        assert KEY not in page.url
    assert all("40" in problem for problem in problems)  # the browser reports each 401
    problems.clear()


def test_a_view_of_a_collector_that_was_away_is_shown_when_it_is_back(
    start: Callable[..., Running], open_page: Callable[..., Page], problems: list[str]
) -> None:
    """Without a reload: what could not be read is read then, also for a search of the stream."""
    first = start(api_key=None)
    first.post(trigger(actor_id="ada", object="needle"))
    pages = {notice: open_page(first) for notice in ("people-notice", "person-notice", "groups-notice", "notice")}
    for page in pages.values():
        is_live(page)
    first.stop.set()
    assert first.thread is not None
    first.thread.join(10)
    for notice, page in pages.items():
        wait_for(page, "document.getElementById('state').dataset.state === 'lost'")
        place = {"person-notice": "person=ada", "notice": "stream&search=needle"}.get(notice, notice.split("-")[0])
        page.evaluate(f"location.hash = '{place}'")
        wait_for_text(page, f"#{notice}", "The collector cannot be reached.")
    start(api_key=None, port=first.address[1])
    wait_for_text(pages["people-notice"], "#people-notice", "1 person")
    wait_for_text(pages["person-notice"], "#person-timeline", "needle")
    wait_for_text(pages["notice"], "#rows", "needle")
    wait_for(pages["groups-notice"], "!document.getElementById('groups-empty').hidden")
    problems.clear()  # of the time without a collector


def test_it_fits_a_phone_and_the_night(collector: Running, open_page: Callable[..., Page]) -> None:
    """Each view, with nothing in it and with long values."""
    page = open_page(collector)
    for view in (*TITLES, "new-group"):
        page.evaluate(f"location.hash = '{view}'")
        wait_for(page, f"location.hash === '#{view}'")
        check_look(page)
    long = trigger(object="o" * 500, actor_id="a" * 500, variables={"v" * 300: "w" * 500})
    collector.post({**long, "captured_identities": {"i" * 300: "x" * 500}})
    page.evaluate("location.hash = 'stream'")
    page.click("#rows tr td:nth-child(3)")
    page.wait_for_selector("#detail:not([hidden])")
    check_look(page)


def test_files_are_kept_by_the_browser_until_they_change(collector: Running) -> None:
    """It asks each time, and gets what it has not. Nothing else of the collector's folders is served."""
    root = collector.endpoint.removesuffix("api/v1/")
    for path in ("page/main.js", "page/page.css", ""):
        headers = {"Accept": "text/html"}
        first = requests.get(root + path, headers=headers, timeout=20)
        again = requests.get(root + path, headers={**headers, "If-None-Match": first.headers["ETag"]}, timeout=20)
        assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
        assert first.headers["Cache-Control"] == "no-cache"
        policy = first.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    for path in ("page/", "page/../focuslab.js", "page/%2e%2e/page.html", "page.html"):
        assert requests.get(root + path, timeout=20).status_code == (200 if path.endswith("focuslab.js") else 404)
