"""The people of the page, in Chromium."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from brockman.client import FocusLabClient
from tests.collector.page.opened import MARKUP, check_look, column, is_untouched, wait_for, wait_for_text
from tests.collector.running import Running, trigger
from tests.support.client import KEY

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_ids_that_share_an_identity_are_one_person(collector: Running, open_page: Callable[..., Page]) -> None:
    """With one timeline; from the stream it is one step to the person, and back."""
    ada = {"email": "ada@example.com"}
    with FocusLabClient(KEY, collector.endpoint) as client:
        client.record_trigger("cookie-7", "viewed", "pricing", identities=ada)
        client.record_trigger("phone-9", "paid", "invoice 7", identities=ada, attributes={"plan": "pro"})
        client.record_trigger("bob", "viewed", "page")
    page = open_page(collector, "/#people")
    wait_for_text(page, "#people-notice", "2 people")
    page.click("#people-rows a:text('ada@example.com')")
    wait_for_text(page, "#person-timeline", "invoice 7")
    fields = page.inner_text("#person-fields")
    assert all(text in fields for text in ("cookie-7", "phone-9", "ada@example.com", "pro"))
    assert page.locator("#person-timeline li").count() == 2

    page.click("#person-timeline a:has-text('pricing')")
    page.wait_for_selector("#detail:not([hidden])")
    page.click("#fields a:text('ada@example.com')")
    wait_for_text(page, "#person-title", "ada@example.com")
    wait_for_text(page, "#person-timeline", "pricing")
    page.go_back()
    page.go_back()
    wait_for_text(page, "#person-timeline", "pricing")


def test_people_are_found_while_typing(collector: Running, open_page: Callable[..., Page]) -> None:
    collector.post([trigger(actor_id=f"person {number}") for number in range(60)])
    page = open_page(collector, "/#people")
    wait_for_text(page, "#people-notice", "60 people")
    page.click("#people-more")
    wait_for(page, "document.getElementById('people-rows').rows.length === 60")
    page.fill("#people-search", "person 42")
    wait_for(page, "document.getElementById('people-rows').rows.length === 1")
    page.reload()
    wait_for(page, "document.getElementById('people-rows').rows.length === 1")
    page.focus("#people-rows a")
    page.keyboard.press("Enter")
    wait_for_text(page, "#person-title", "person 42")


def test_an_identity_that_joins_nobody_is_said(
    start: Callable[..., Running], open_page: Callable[..., Page], problems: list[str]
) -> None:
    """In words, on the list and for each of its people."""
    collector = start(api_key=None, max_actors_per_identity=3)
    shared = {"email": "unknown@example.com"}
    collector.post([trigger(actor_id=f"id {number}", captured_identities=shared) for number in range(4)])
    page = open_page(collector, "/#people")
    wait_for_text(page, "#people-warnings", "unknown@example.com joins nobody (4 ids)")
    page.evaluate("location.hash = 'person=id 2'")
    wait_for_text(page, "#person-warnings", "unknown@example.com joins nobody (4 ids)")
    page.evaluate("location.hash = 'identity=email:unknown@example.com'")
    wait_for_text(page, "#person-notice", "joins nobody")
    assert all("404" in problem for problem in problems)
    problems.clear()


def test_older_triggers_of_a_person_follow(collector: Running, open_page: Callable[..., Page]) -> None:
    collector.post([trigger(actor_id="ada", object=f"page {number}") for number in range(70)])
    page = open_page(collector, "/#person=ada")
    wait_for(page, "document.querySelectorAll('#person-timeline li').length === 50")
    page.click("#person-more")
    wait_for(page, "document.querySelectorAll('#person-timeline li').length === 70")
    assert page.is_hidden("#person-more")


def test_people_are_shown_as_text_and_fit(collector: Running, open_page: Callable[..., Page]) -> None:
    """Markup, and values that are wider than the screen."""
    values = {MARKUP: MARKUP, "k" * 200: "v" * 500, "list": ["x" * 100, MARKUP]}
    wild = trigger(actor_id=MARKUP, captured_identities=values, captured_attributes=values, action=MARKUP)
    collector.post(wild)
    page = open_page(collector, "/#people")
    wait_for_text(page, "#people-notice", "1 person")
    assert MARKUP in column(page, "people-rows", 1)[0]
    check_look(page)
    page.click("#people-rows td:nth-child(2)")
    wait_for_text(page, "#person-timeline", MARKUP)
    assert MARKUP in (page.text_content("#person-fields") or "")
    check_look(page)
    assert is_untouched(page)
