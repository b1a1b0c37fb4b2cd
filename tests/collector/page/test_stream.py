"""The stream, in Chromium: what a person sees while triggers arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from brockman.client import FocusLabClient
from tests.collector.page.opened import MARKUP, column, is_live, is_untouched, wait_for, wait_for_text
from tests.collector.running import Running, trigger
from tests.support.client import KEY
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Page


def objects(page: Page) -> list[str]:
    """Return the objects of the rows, the newest first."""
    return column(page, "rows", 4)


def test_what_is_recorded_appears_without_a_reload(collector: Running, open_page: Callable[..., Page]) -> None:
    """The newest first, once each, whether it was there before, or came while the page was open."""
    collector.post([trigger(object=f"before {number}") for number in range(3)])
    page = open_page(collector)
    is_live(page)
    with FocusLabClient(KEY, collector.endpoint) as client:
        for number in range(3):
            client.record_trigger("ada", "viewed", f"after {number}")
    page.wait_for_selector("td[title='after 2']")

    assert objects(page) == [f"{when} {number}" for when in ("after", "before") for number in (2, 1, 0)]
    assert eventually(lambda: page.text_content("#stored") == "6", 20)
    assert page.text_content("#objects li") is not None


def test_a_page_of_a_collector_that_restarts_misses_nothing(
    start: Callable[..., Running], open_page: Callable[..., Page], problems: list[str]
) -> None:
    """It catches up with what was stored meanwhile."""
    first = start(api_key=None)
    page = open_page(first)
    is_live(page)
    first.stop.set()
    assert first.thread is not None
    first.thread.join(10)
    wait_for(page, "document.getElementById('state').dataset.state === 'lost'")
    second = start(api_key=None, port=first.address[1])
    second.post([trigger(object=f"page {number}") for number in range(150)])
    is_live(page)
    page.wait_for_selector("td[title='page 149']")

    assert sorted(objects(page)) == sorted(f"page {number}" for number in range(150))
    problems.clear()  # of the time without a collector


def test_a_page_that_is_paused_shows_what_came_when_it_goes_on(
    collector: Running, open_page: Callable[..., Page]
) -> None:
    page = open_page(collector)
    is_live(page)
    page.click("#pause")
    assert page.get_attribute("#pause", "aria-pressed") == "true"
    collector.post([trigger(object="one"), trigger(object="two")])
    wait_for(page, "document.getElementById('notice').textContent.startsWith('2 new')")
    assert objects(page) == []
    page.click("#pause")

    assert objects(page) == ["two", "one"]


def test_the_search_finds_actors_actions_objects_and_values(
    collector: Running, open_page: Callable[..., Page]
) -> None:
    """In what is there and in what comes; letter case does not matter."""
    found = {"actor_id": "ada", "action": "paid", "object": "invoice 7", "variables": {"sum": 99.5}}
    said = {
        "captured_identities": {"email": "ada@example.com"},
        "captured_attributes": {"x": 'he said "no" 50%_!'},
    }
    collector.post([trigger(**found, **said), trigger(object="page", actor_id="bob")])
    page = open_page(collector)
    stored = ["invoice 7"]
    for number, text in enumerate(["ADA", "99.5", 'he said "no" 50%_!']):
        page.fill("#search", "nobody")
        wait_for_text(page, "#notice", "Nothing matches.")
        with page.expect_response(lambda answer: "/stream/" in answer.url):
            page.fill("#search", text)
        wait_for(page, f"document.getElementById('rows').rows.length === {len(stored)}")
        stored.insert(0, f"invoice 7 {number}")
        collector.post(
            [trigger(object="another", actor_id="bob"), trigger(**{**found, "object": stored[0]}, **said)]
        )
        page.wait_for_selector(f"td[title='{stored[0]}']")
        assert objects(page) == stored


def test_markup_in_every_field_is_text(collector: Running, open_page: Callable[..., Page]) -> None:
    """In the rows, in the ranking, and in the trigger that is open."""
    values = {MARKUP: MARKUP, "list": [MARKUP]}
    wild = trigger(actor_id=MARKUP, action=MARKUP, object=MARKUP, variables=values, captured_identities=values)
    collector.post(wild)
    page = open_page(collector, f"/#trigger={wild['id']}")
    page.wait_for_selector("#detail:not([hidden])")
    page.wait_for_selector("#actions li")

    assert is_untouched(page)
    assert objects(page) == [MARKUP]
    assert MARKUP in (page.text_content("#fields") or "")


def test_odd_values_do_not_break_the_page(collector: Running, open_page: Callable[..., Page]) -> None:
    """A leap second, line separators that end no line of an event, a hash that is no id, a number of 20 digits."""
    collector.post(trigger(object="old", recorded_at="2016-12-31T23:59:60Z"))
    page = open_page(collector, "/#%")
    is_live(page)
    order = {"order": 12345678901234567890, "lines": [9007199254740993]}
    collector.post(trigger(object="a\u2028b", __proto__="x", constructor={}, variables=order))
    wait_for(page, "document.getElementById('rows').rows.length === 2")
    assert objects(page) == ["a\u2028b", "old"]
    page.click("#rows tr")
    wait_for_text(page, "#fields", "12345678901234567890")
    assert "9007199254740993" in column(page, "rows", 5)[0]
    assert '"order": 12345678901234567890' in (page.text_content("#json") or "")


def test_a_trigger_has_a_link_and_is_opened_by_keyboard(
    collector: Running, open_page: Callable[..., Page]
) -> None:
    """Enter opens the one that has the focus, Escape closes it and gives the focus back."""
    one, two = trigger(object="one"), trigger(object="two", variables={"price": 9.5})
    collector.post([one, two])
    page = open_page(collector)
    page.wait_for_selector("#rows tr:nth-child(2)")
    page.focus("#rows tr:first-child a")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_selector("#detail:not([hidden])")
    assert page.get_attribute("#rows tr:first-child a", "aria-current") == "true"
    assert page.url.endswith(f"#trigger={two['id']}")
    assert '"price": 9.5' in (page.text_content("#json") or "")
    page.keyboard.press("Escape")
    page.wait_for_selector("#detail", state="hidden")
    assert page.evaluate("document.activeElement.getAttribute('href')") == f"#trigger={two['id']}"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"


def test_older_ones_are_shown_on_demand(collector: Running, open_page: Callable[..., Page]) -> None:
    collector.post([trigger(object=f"page {number}") for number in range(230)])
    page = open_page(collector)
    for expected in (200, 230):
        page.click("#more")
        wait_for(page, f"document.getElementById('rows').rows.length === {expected}")

    assert objects(page) == [f"page {number}" for number in reversed(range(230))]
    assert page.is_hidden("#more")


def test_a_page_asks_for_the_key(
    start: Callable[..., Running], open_page: Callable[..., Page], problems: list[str]
) -> None:
    """Again if it is wrong; it is in no URL."""
    collector = start()
    collector.post(trigger(object="secret"))
    page = open_page(collector)
    for key in ("wrong", KEY):
        page.wait_for_selector("#ask[open]")
        assert objects(page) == []
        page.fill("#key", key)
        page.click("#ask button")
    page.wait_for_selector("td[title='secret']")

    assert KEY not in page.url
    assert all("40" in problem for problem in problems)  # the browser reports each 401 and 403
    problems.clear()


def test_what_was_trimmed_is_found_again(
    collector: Running, open_page: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that is open for long keeps 500 rows, and shows all older ones on demand, without a gap."""
    collector.post([trigger(object=f"page {number}") for number in range(150)])
    page = open_page(collector)
    is_live(page)
    for first in range(150, 750, 150):
        collector.post([trigger(object=f"page {number}") for number in range(first, first + 150)])
        page.wait_for_selector(f"td[title='page {first + 149}']")
    wait_for(page, "document.getElementById('rows').rows.length === 500")
    while page.is_visible("#more"):
        before = len(objects(page))
        page.click("#more")
        wait_for(page, f"document.getElementById('rows').rows.length > {before}")

    assert objects(page) == [f"page {number}" for number in reversed(range(750))]


def test_a_gap_in_what_is_shown_is_said_and_filled(collector: Running, open_page: Callable[..., Page]) -> None:
    page = open_page(collector)
    is_live(page)
    collector.post([trigger(object=f"page {number}") for number in range(450)])
    page.click("tr.gap button")
    wait_for(page, "document.getElementById('rows').rows.length === 100")
    page.click("#more")
    wait_for(page, "document.getElementById('rows').rows.length === 200")

    assert objects(page) == [f"page {number}" for number in reversed(range(250, 450))]


def test_an_empty_store_says_how_to_record(collector: Running, open_page: Callable[..., Page]) -> None:
    """The code is for this collector, and works as it stands."""
    page = open_page(collector)
    code = page.text_content("#first-python") or ""
    wait_for(page, "document.querySelector('#first-steps').checkVisibility()")
    assert eventually(lambda: page.text_content("#first-python") != "", 10)
    code = page.text_content("#first-python") or ""
    exec(compile(code, "first steps", "exec"), {})
    page.wait_for_selector("#rows td[title='page']")
    assert page.is_hidden("#first-steps")


def test_the_rate_is_read_minute_by_minute(collector: Running, open_page: Callable[..., Page]) -> None:
    """By keyboard, and with the pointer."""
    collector.post([trigger() for _ in range(12)])
    page = open_page(collector)
    wait_for(page, "document.querySelector('#chart').getAttribute('aria-label')?.startsWith('12 triggers')")
    page.focus("#chart")
    read = set()
    for _ in range(3):
        read.add((page.text_content("#minute") or "").partition(": ")[2])
        page.keyboard.press("ArrowLeft")
    assert read == {"12 triggers", "0 triggers"}


def test_a_search_that_takes_too_long_says_so(
    collector: Running, open_page: Callable[..., Page], problems: list[str]
) -> None:
    """In the words of the collector."""
    page = open_page(collector)
    is_live(page)
    text = "reading took longer than 10 s; ask for less"
    page.route("**/trigger/?*", lambda route: route.fulfill(status=503, json={"error": text}))
    page.fill("#search", "needle")
    wait_for_text(page, "#notice", "Reading took longer than 10 s; ask for less.")
    problems.clear()


def test_a_page_that_comes_back_goes_on(collector: Running, open_page: Callable[..., Page]) -> None:
    """From another page, by the browser's back button."""
    page = open_page(collector)
    is_live(page)
    page.goto("about:blank")
    collector.post(trigger(object="meanwhile"))
    page.go_back()
    page.wait_for_selector("td[title='meanwhile']")
    collector.post(trigger(object="later"))
    page.wait_for_selector("td[title='later']")
    assert objects(page) == ["later", "meanwhile"]
