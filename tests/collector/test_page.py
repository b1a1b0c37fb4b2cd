"""The live page, in Chromium: what a person sees while triggers arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from brockman.client import FocusLabClient
from tests.collector.running import Running, trigger
from tests.support.browser import chromium
from tests.support.client import KEY
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MARKUP = "<script>document.title = 'broken'</script><img src=x onerror=\"document.title='broken'\">"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def collector(start: Callable[..., Running]) -> Running:
    return start(api_key=None)


@pytest.fixture
def problems() -> list[str]:
    """Messages of the console: errors of the script, and violations of the content security policy."""
    return []


@pytest.fixture
def open_page(browser: Browser, problems: list[str]) -> Iterator[Callable[..., Page]]:
    """Open the page of a collector; at the end nothing was asked of another host, and nothing was wrong."""
    contexts = []
    hosts = set()

    def open_page(collector: Running, path: str = "/", **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        page.goto(collector.endpoint.replace("/api/v1/", path))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert len(hosts) == 1
    assert problems == []


def wait_for(page: Page, expression: str) -> None:
    """Wait until an expression of the page is true. Playwright's own needs a policy that allows `eval`."""
    assert eventually(lambda: page.evaluate(expression), 20), expression


def is_live(page: Page) -> None:
    wait_for(page, "document.getElementById('state').dataset.state === 'live'")


def objects(page: Page) -> list[str]:
    """Return the objects of the rows, the newest first."""
    return [row.text_content() or "" for row in page.locator("#rows tr td:nth-child(4)").all()]


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
    assert eventually(lambda: page.text_content("#stored") == "6", 10)
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


@pytest.mark.parametrize("text", ["ADA", "paid", "invoice 7", "99.5", 'he said "no"', "50%_!", "ada@example.com"])
def test_the_search_finds_actors_actions_objects_and_values(
    text: str, collector: Running, open_page: Callable[..., Page]
) -> None:
    """In what is there and in what comes; letter case does not matter."""
    found = {"actor_id": "ada", "action": "paid", "object": "invoice 7", "variables": {"sum": 99.5}}
    said = {
        "captured_identities": {"email": "ada@example.com"},
        "captured_attributes": {"x": 'he said "no" 50%_!'},
    }
    collector.post([trigger(**found, **said), trigger(object="page", actor_id="bob")])
    page = open_page(collector)
    page.fill("#search", text)
    wait_for(page, "document.getElementById('rows').rows.length === 1")
    is_live(page)
    collector.post(
        [trigger(object="another", actor_id="bob"), trigger(**{**found, "object": "invoice 7 b"}, **said)]
    )
    page.wait_for_selector("td[title='invoice 7 b']")

    assert objects(page) == ["invoice 7 b", "invoice 7"]


def test_markup_in_every_field_is_text(collector: Running, open_page: Callable[..., Page]) -> None:
    """In the rows, in the ranking, and in the trigger that is open."""
    values = {MARKUP: MARKUP, "list": [MARKUP]}
    wild = trigger(actor_id=MARKUP, action=MARKUP, object=MARKUP, variables=values, captured_identities=values)
    collector.post(wild)
    page = open_page(collector, f"/#{wild['id']}")
    page.wait_for_selector("#detail:not([hidden])")
    page.wait_for_selector("#actions li")

    assert page.title() == "Triggers"
    assert page.locator("img").count() == 0
    assert objects(page) == [MARKUP]
    assert MARKUP in (page.text_content("#fields") or "")


def test_odd_values_do_not_break_the_page(collector: Running, open_page: Callable[..., Page]) -> None:
    """A leap second, and line separators that end no line of an event; a hash that is no id."""
    collector.post(trigger(object="old", recorded_at="2016-12-31T23:59:60Z"))
    page = open_page(collector, "/#%")
    is_live(page)
    collector.post(trigger(object="a\u2028b", __proto__="x", constructor={}))
    wait_for(page, "document.getElementById('rows').rows.length === 2")
    assert objects(page) == ["a\u2028b", "old"]


def test_a_trigger_has_a_link_and_is_opened_by_keyboard(
    collector: Running, open_page: Callable[..., Page]
) -> None:
    """Enter opens the one that has the focus, Escape closes it and gives the focus back."""
    one, two = trigger(object="one"), trigger(object="two", variables={"price": 9.5})
    collector.post([one, two])
    page = open_page(collector)
    page.wait_for_selector("#rows tr:nth-child(2)")
    page.focus("#rows tr:first-child a")
    page.keyboard.press("Enter")
    page.wait_for_selector("#detail:not([hidden])")
    assert page.url.endswith(f"#{two['id']}")
    assert '"price": 9.5' in (page.text_content("#json") or "")
    page.keyboard.press("Escape")
    page.wait_for_selector("#detail", state="hidden")
    assert page.evaluate("document.activeElement.getAttribute('href')") == f"#{two['id']}"
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_a_phone_and_the_night(
    width: int, scheme: str, collector: Running, open_page: Callable[..., Page]
) -> None:
    """Nothing is wider than the screen; text and paper have their contrast (WCAG 2.1, 1.4.3)."""
    collector.post(trigger(object="o" * 500, actor_id="a" * 500, variables={"v" * 300: "w" * 500}))
    page = open_page(collector, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.click("#rows tr td:nth-child(3)")
    page.wait_for_selector("#detail:not([hidden])")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) >= 4.5


# The least contrast of any text to the colour behind it.
CONTRAST = """() => {
  const light = (color) => {
    const part = (one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = color.match(/[\\d.]+/g).map((text) => part(text / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = (element) => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if (!/, 0\\)$/.test(color)) return color;
    }
  };
  const texts = [...document.querySelectorAll("body *")].filter((element) => element.checkVisibility() &&
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return Math.min(...texts.map((element) => {
    const [a, b] = [light(getComputedStyle(element).color), light(paper(element))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  }));
}"""
