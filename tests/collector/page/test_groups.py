"""The groups of the page, in Chromium."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.collector.page.opened import MARKUP, check_look, column, is_untouched, wait_for, wait_for_text
from tests.collector.running import Running, trigger
from tests.support.client import KEY

if TYPE_CHECKING:
    from playwright.sync_api import Page

WORDS = "plan is pro, viewed pricing (price is at least 5) at least 3 times in 30 days, never paid"


def record(collector: Running, actor: str, plan: str, *deeds: str) -> None:
    """Record what somebody did, just now."""
    said = {"captured_identities": {"email": f"{actor}@example.com"}, "captured_attributes": {"plan": plan}}
    what = {"object": "pricing", "variables": {"price": 9}, "recorded_at": datetime.now(timezone.utc).isoformat()}
    triggers = [trigger(actor_id=actor, action=deed, **what, **said) for deed in deeds]
    assert collector.post(triggers).status_code == 201


def put(collector: Running, name: str, definition: Any) -> None:
    headers = {"X-FL-API-KEY": KEY}
    url = f"{collector.endpoint}group/{name}/"
    assert collector.session.put(url, json=definition, headers=headers, timeout=20).status_code == 201


def make_group(page: Page, name: str) -> None:
    """Fill in the form as a person does."""
    page.fill("#form-name", name)
    page.fill("#form-where [name=name]", "plan")
    page.fill("#form-where [name=value]", "pro")
    page.fill("#form-did [name=action]", "viewed")
    page.fill("#form-did [name=object]", "pricing")
    page.fill("#form-did [name=times]", "3")
    page.fill("#form-did [name=within_days]", "30")
    page.click("#form-did [data-add=variable]")
    page.keyboard.type("price")
    page.select_option("#form-did .variables [name=operator]", "at_least")
    page.fill("#form-did .variables [name=value]", "5")
    page.click("[data-add=did_not]")
    page.keyboard.type("paid")


def download(page: Page, button: str) -> str:
    with page.expect_download() as waiting:
        page.click(button)
    return Path(waiting.value.path()).read_text(encoding="utf-8")


def test_a_group_is_made_and_downloaded(
    start: Callable[..., Running], open_page: Callable[..., Page], problems: list[str]
) -> None:
    """In the form, with its members and their identities; with a key, which no link could send."""
    collector = start()
    record(collector, "ada", "pro", "viewed", "viewed", "viewed")
    record(collector, "bob", "pro", "viewed", "viewed", "viewed", "paid")
    record(collector, "eve", "free", "viewed", "viewed", "viewed")
    page = open_page(collector, "/#stream", accept_downloads=True)
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    page.click("nav a[href='#groups']")
    page.click("#groups-empty a")
    make_group(page, "Nearly customers")
    wait_for_text(page, "#form-words", WORDS)
    page.click("#form [type=submit]")
    wait_for_text(page, "#group-notice", "1 person")
    assert page.text_content("#group-words") == WORDS
    assert column(page, "group-rows", 2) == ["email: ada@example.com"]

    (member,) = csv.DictReader(io.StringIO(download(page, "#group-csv")))
    assert "ada@example.com" in member.values()
    assert json.loads(download(page, "#group-ndjson"))["identities"] == {"email": ["ada@example.com"]}
    assert all("401" in problem for problem in problems)
    problems.clear()


def test_a_group_is_changed_renamed_and_deleted(collector: Running, open_page: Callable[..., Page]) -> None:
    put(collector, "pros", {"where": {"attributes.plan": "pro"}, "did_not": [{"action": "paid", "times": 2}]})
    put(collector, "others", {})
    page = open_page(collector, "/#group=pros")
    page.click("#group-edit")
    wait_for_text(page, "#form-words", "plan is pro, did not: paid at least 2 times")
    page.fill("#form-name", "others")
    page.click("#form [type=submit]")
    wait_for_text(page, "#form-error", "There is a group with this name already")
    page.fill("#form-name", "customers & co")
    page.click("#form-did_not .remove")
    page.click("#form [type=submit]")
    wait_for_text(page, "#group-title", "customers & co")
    page.reload()
    wait_for_text(page, "#group-words", "plan is pro")
    assert download(page, "#group-csv").startswith("actor_ids,")
    page.click("nav a[href='#groups']")
    wait_for(page, "document.querySelectorAll('#groups-list li').length === 2")
    page.click("#groups-list a:text('customers & co')")
    wait_for(page, "document.activeElement.matches('h2[tabindex]')")  # the view is there
    page.focus("#group-delete")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")  # which keeps it
    wait_for(page, "document.activeElement.id === 'group-delete'")
    page.keyboard.press("Enter")
    page.click("#confirm button[value=yes]")
    wait_for(page, "document.querySelectorAll('#groups-list li').length === 1")


def test_a_mistake_in_a_group_is_said(
    collector: Running, open_page: Callable[..., Page], problems: list[str]
) -> None:
    """In the words of the collector, and nothing that was filled in is lost."""
    page = open_page(collector, "/#new-group")
    page.fill("#form-name", "a/b")
    page.fill("#form-where [name=name]", "plan")
    page.click("#form-did .remove")
    page.click("#form [type=submit]")
    wait_for_text(page, "#form-error", "name: 'a/b' should be")
    assert page.input_value("#form-where [name=name]") == "plan"
    assert problems
    problems.clear()


def test_what_the_form_cannot_show_is_edited_as_json(collector: Running, open_page: Callable[..., Page]) -> None:
    """Nothing of a definition is lost by opening it."""
    definition = {
        "where": {"attributes.plan": ["pro", "team"]},
        "did": [{"action": "viewed", "since": "2026-01-01T00:00:00Z"}],
        "did_not": [],
    }
    put(collector, "long", definition)
    page = open_page(collector, "/#edit-group=long")
    wait_for(page, "!document.getElementById('form-json').hidden")
    assert json.loads(page.input_value("#form-text")) == definition
    page.click("#form-mode")
    wait_for_text(page, "#form-error", "The form has no fields for this")
    page.fill("#form-text", "{")
    page.click("#form [type=submit]")
    wait_for_text(page, "#form-error", "This is not JSON")
    page.fill("#form-text", json.dumps({**definition, "where": {"attributes.age": {"at_least": 18}}}))
    page.click("#form [type=submit]")
    wait_for_text(page, "#group-words", "age is at least 18, viewed since 2026-01-01")


def test_saving_a_group_as_it_is_changes_nothing(
    collector: Running, open_page: Callable[..., Page], problems: list[str]
) -> None:
    """Every operator is in the form; a text that a field cannot hold, or would change, is edited as JSON."""
    texts = ["pro", "12", "true", '"quoted"', "שלום & <b>", "__proto__", "007", "1e5"]
    values = [*({"value": text} for text in texts), *({"value": one} for one in (12, -0.5, 1e21, 1e-7, True))]
    conditions = [one["value"] for one in values] + [{"not": one["value"]} for one in values]
    conditions += [{"contains": "12"}, {"at_least": 1e21}, {"at_most": -1}, {"exists": True}, {"exists": False}]
    in_form = [
        {
            "where": {f"attributes.a {number}": wanted for number, wanted in enumerate(conditions[at : at + 20])},
            "did": [{"action": "viewed", f"variables.{at}:v": wanted} for wanted in conditions[at : at + 9]],
            "did_not": [{"object": "book", "times": 2, "within_days": 0.5}, {"variables.x": {"exists": True}}],
        }
        for at in range(0, len(conditions), 20)
    ]
    as_json = [
        *({"where": {"attributes.a": wanted}} for wanted in (" a", "a\nb", {"contains": "a "}, [1, "a"])),
        {"where": {"attributes. a": 1}},
        {"where": {"attributes.a": 12345678901234567890}},
        {"where": {"attributes.a": {"at_least": 1, "at_most": 2}}},
        {"did": [{"action": "viewed "}]},
        {"did": [{"action": ["viewed", "paid"]}]},
        {"did": [{"variables.x": "a\tb\n"}]},
    ]
    page = open_page(collector)
    for number, given in enumerate([*in_form, *as_json]):
        definition = {"where": {}, "did": [], "did_not": [], **given}
        put(collector, str(number), definition)
        page.evaluate(f"location.hash = 'edit-group={number}'")
        wait_for_text(page, "#form-title", f"“{number}”")
        wait_for_text(page, "#form-words", "In words: ")
        assert page.is_visible("#form-json") == (given in as_json), given
        page.click("#form [type=submit]")
        wait_for_text(page, "#group-title", str(number))
        url = f"{collector.endpoint}group/{number}/"
        found = collector.session.get(url, headers={"X-FL-API-KEY": KEY}, timeout=20).json()
        assert {name: found[name] for name in definition} == definition

    # A definition that cannot be read is not saved as that of the group before.
    page.route("**/api/v1/group/", lambda route: route.fulfill(status=503, json={"error": "busy"}))
    page.evaluate("location.hash = 'edit-group=0'")
    wait_for_text(page, "#form-error", "Busy.")
    assert page.is_disabled("#form-save")
    assert page.text_content("#form-words") == ""
    problems.clear()


def test_groups_are_shown_as_text_and_fit(collector: Running, open_page: Callable[..., Page]) -> None:
    name = "<script>x<img src=x onerror=x>"
    wild = {"action": MARKUP, "object": "o" * 500, "variables.x": MARKUP, "times": 3, "within_days": 9}
    put(collector, name, {"where": {"attributes.a": MARKUP}, "did": [wild], "did_not": [wild]})
    put(collector, "n" * 100, {})
    said = {"captured_identities": {MARKUP: MARKUP}, "captured_attributes": {"a": [MARKUP, "y" * 300]}}
    collector.post(trigger(actor_id=MARKUP, **said))
    page = open_page(collector, "/#groups")
    wait_for_text(page, "#groups-list", name)
    check_look(page)
    page.click(f"#groups-list a:text('{name}')")
    wait_for_text(page, "#group-words", MARKUP)
    check_look(page)
    page.click("#group-edit")
    wait_for_text(page, "#form-words", MARKUP)
    check_look(page)
    page.evaluate(f"location.hash = 'group={'n' * 100}'")
    wait_for_text(page, "#group-notice", "1 person")
    check_look(page)
    assert is_untouched(page)
