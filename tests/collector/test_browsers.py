"""Triggers from web pages: which origins may send them, and the script that does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests

from brockman.collector.errors import InvalidSetting
from brockman.collector.settings import Settings
from tests.collector.running import Running, trigger
from tests.support.browser import Site, chromium
from tests.support.client import KEY
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SHOP = "https://shop.example"
PLAIN = {"Content-Type": "text/plain;charset=UTF-8"}  # as a beacon has it
PREFLIGHT = {
    "Origin": SHOP,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type,x-fl-api-key",
}


@pytest.fixture
def shop(start: Callable[..., Running]) -> Running:
    """A collector that accepts triggers from the pages of a shop."""
    return start(allowed_origins=[SHOP], write_keys=["for pages"])


def send(collector: Running, body: Any, headers: dict[str, str], path: str = "trigger/") -> requests.Response:
    return collector.session.post(collector.endpoint + path, data=json.dumps(body), headers=headers, timeout=20)


def test_a_preflight_of_an_allowed_origin_permits_the_key_and_json(shop: Running) -> None:
    answer = shop.session.options(shop.endpoint + "trigger/", headers=PREFLIGHT, timeout=20)

    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == SHOP
    assert answer.headers["Access-Control-Allow-Methods"] == "POST"
    assert {"content-type", "x-fl-api-key"} <= set(
        answer.headers["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
    )
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://shop.example.evil.test"}, {"Origin": "null"}, {"Access-Control-Request-Method": "GET"}],
    ids=str,
)
def test_other_preflights_are_refused(shop: Running, headers: dict[str, str]) -> None:
    answer = shop.session.options(shop.endpoint + "trigger/", headers={**PREFLIGHT, **headers}, timeout=20)

    assert answer.status_code == 400


def test_a_page_of_an_allowed_origin_may_record(shop: Running) -> None:
    """As plain text with the key in the URL, as beacons do, and as JSON with the key in a header."""
    as_text, as_json = trigger(), trigger()
    beacon = send(shop, [as_text], {**PLAIN, "Origin": SHOP}, "trigger/?key=for+pages")
    fetched = shop.post(as_json, {"Origin": SHOP}, key="for pages")

    assert [answer.status_code for answer in (beacon, fetched)] == [201, 201]
    assert fetched.headers["Access-Control-Allow-Origin"] == SHOP
    assert fetched.headers["Vary"] == "Origin"
    assert shop.stored() == [as_text, as_json]


def test_a_page_of_another_origin_may_not(shop: Running) -> None:
    """Browsers send plain text to any host without asking it first."""
    for headers in (PLAIN, {"Content-Type": "application/json"}):
        answer = send(shop, trigger(), {**headers, "Origin": "https://evil.test", "X-FL-API-KEY": KEY})
        assert answer.status_code == 403
        assert answer.json() == {
            "error": "pages of 'https://evil.test' may not send triggers; start with --allow-origin"
        }
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert shop.stored() == []


def test_plain_text_is_only_for_pages(shop: Running) -> None:
    assert send(shop, trigger(), {**PLAIN, "X-FL-API-KEY": KEY}).status_code == 415


def test_every_page_may_record_where_all_origins_are_allowed(start: Callable[..., Running]) -> None:
    collector = start(allowed_origins=["*"], api_key=None)

    assert send(collector, trigger(), {**PLAIN, "Origin": "null"}).status_code == 201


def test_the_key_of_pages_reads_nothing(shop: Running) -> None:
    """Everybody can read it in the page."""
    for path in ("trigger/", "stats/", "trigger/?key=for+pages"):
        headers = {"X-FL-API-KEY": "for pages", "Origin": SHOP}
        answer = shop.session.get(shop.endpoint + path, headers=headers, timeout=20)
        assert answer.status_code == 403 if "key" not in path else answer.status_code in (400, 403)
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_main_key_is_not_taken_from_a_url(shop: Running) -> None:
    """URLs are logged."""
    assert send(shop, trigger(), {**PLAIN, "Origin": SHOP}, f"trigger/?key={KEY}").status_code == 403


@pytest.mark.parametrize("key", ["", "for page", "for pages ", "\u20ac", "for pages\0"], ids=repr)
def test_a_wrong_key_is_rejected(shop: Running, key: str) -> None:
    answer = shop.session.post(
        shop.endpoint + "trigger/",
        params={"key": key},
        data=json.dumps(trigger()),
        headers={**PLAIN, "Origin": SHOP},
        timeout=20,
    )
    assert answer.status_code == 403
    assert shop.stored() == []


def test_the_body_of_the_old_tracker_is_stored_as_it_is(shop: Running) -> None:
    """With empty objects, the browser in the variables, and an actor's id that is no UUID of any version."""
    sent = trigger(
        actor_id="8c1e5a2f-97b4-04d1-35aa-bb0012345678",
        captured_identities={},
        captured_attributes={},
        variables={"title": "Home", "user_agent": "Mozilla/5.0"},
    )
    assert shop.post(sent, {"Origin": SHOP}, key="for pages").status_code == 201
    assert shop.stored() == [sent]


@pytest.mark.parametrize("origin", ["shop.example", "https://a.example/", "HTTPS://A.example", "ftp://a", ""])
def test_an_origin_that_no_browser_sends_is_a_mistake(origin: str) -> None:
    with pytest.raises(InvalidSetting, match=r"allowed_origins: .* should be a scheme, a host and perhaps a port"):
        Settings(database="x", allowed_origins=[origin])


def test_write_keys_need_a_key_for_reading() -> None:
    with pytest.raises(InvalidSetting, match="write_keys: give an api_key too"):
        Settings(database="x", write_keys=["k"])


def test_the_script_is_small_and_cached(shop: Running) -> None:
    """At most 3 KB, and not sent again while the browser has it."""
    url = shop.endpoint.replace("api/v1/", "focuslab.js")
    first = shop.session.get(url, timeout=20)
    again = shop.session.get(url, headers={"If-None-Match": first.headers["ETag"]}, timeout=20)

    assert len(first.content) <= 3 * 1024
    assert first.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert "max-age" in first.headers["Cache-Control"]
    assert (again.status_code, again.content) == (304, b"")


# In a real browser, on a page of another origin.


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def site() -> Iterator[Site]:
    with Site({}) as site:
        yield site


@pytest.fixture
def page(browser: Browser, site: Site, start: Callable[..., Running]) -> Iterator[Page]:
    """A page whose console has no error at the end."""
    context = browser.new_context()
    page = context.new_page()
    yield page
    context.close()


@pytest.fixture
def collector(site: Site, start: Callable[..., Running]) -> Running:
    """A collector that the pages of the site may send to, and whose script they load."""
    collector = start(allowed_origins=[site.origin], write_keys=["for-pages"])
    script = collector.endpoint.replace("api/v1/", "focuslab.js")
    for path, attributes in (("/", ""), ("/quiet", ' data-auto="off"')):
        site.pages[path] = (
            f"<!doctype html><title>Home &amp; garden</title><h1>Hello</h1>"
            f'<script src="{script}" data-key="for-pages"{attributes}></script>'
        )
    return collector


def arrived(collector: Running, count: int) -> list[dict[str, Any]]:
    assert eventually(lambda: len(collector.stored()) >= count, 20), collector.stored()
    stored: list[dict[str, Any]] = collector.stored()
    assert len(stored) == count
    return stored


def test_one_line_records_the_page_view(page: Page, site: Site, collector: Running) -> None:
    """The page is on another origin; its triggers have the cookie's actor, and the time of the view."""
    page.goto(site.origin + "/?utm_source=mail")
    (view,) = arrived(collector, 1)

    (cookie,) = page.context.cookies()
    assert cookie["name"] == "fl_actor_id"
    assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", cookie["value"])
    assert (view["actor_id"], view["action"], view["object"]) == (cookie["value"], "viewed", "page")
    assert view["variables"]["title"] == "Home & garden"
    assert view["variables"]["url"] == site.origin + "/"  # a query may hold anything
    assert "Chrome" in view["variables"]["user_agent"]


def test_the_calls_of_the_old_tracker_work(page: Page, site: Site, collector: Running) -> None:
    """`recordTrigger` with the trigger in an option, and through the function that its loader made."""
    page.goto(site.origin + "/quiet")
    actor = page.evaluate("FocusLab.getActorId()")
    page.evaluate(
        "FocusLab('recordTrigger', {trigger: {action: 'played', object: 'song', captured_identities: {id: 7}}})"
    )
    page.evaluate("FocusLab.recordTrigger({action: 'liked', object: 'song', variables: {title: '</script>'}})")
    one, two = arrived(collector, 2)

    assert (one["action"], one["captured_identities"], one["actor_id"]) == ("played", {"id": 7}, actor)
    assert (two["action"], two["variables"]["title"], two["actor_id"]) == ("liked", "</script>", actor)
    assert page.evaluate("FocusLab('getActorId')") == actor
    page.evaluate("FocusLab.resetTracking()")
    assert page.evaluate("FocusLab.getActorId()") != actor


def test_what_is_recorded_at_the_last_moment_is_sent(page: Page, site: Site, collector: Running) -> None:
    """Also more than fits into one request, and once each."""
    page.goto(site.origin + "/quiet")
    page.evaluate("for (let n = 0; n < 50; n++) FocusLab.recordTrigger({action: 'left', object: `page ${n}`})")
    page.goto("about:blank")

    assert {one["object"] for one in arrived(collector, 50)} == {f"page {n}" for n in range(50)}


def test_a_collector_that_comes_back_gets_everything_once(page: Page, site: Site, collector: Running) -> None:
    """Requests that fail are sent again, with the same ids."""
    failures = [503, 500, 429]

    def fail(route: Any) -> None:
        status = failures.pop(0) if failures else None
        if status == 500:
            route.fetch()  # it arrives, and the answer is lost
            route.abort()
        elif status is None:
            route.continue_()
        else:
            route.fulfill(status=status)

    page.clock.install()
    page.route("**/api/v1/trigger/**", fail)
    page.goto(site.origin + "/")

    def is_stored_a_minute_later() -> bool:
        page.clock.run_for(60_000)
        return collector.stats()["duplicates"] == 1

    assert eventually(is_stored_a_minute_later, 20)
    arrived(collector, 1)
    assert not failures


def test_what_is_refused_is_said_in_the_console(page: Page, site: Site, collector: Running) -> None:
    """With the reason, also when the rest of the request was stored."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "warning" else None)
    page.goto(site.origin + "/quiet")
    page.evaluate("FocusLab.recordTrigger({action: 'a', object: 'o'})")
    page.evaluate("FocusLab.recordTrigger({action: '', object: 'o'})")
    arrived(collector, 1)

    assert eventually(lambda: page.title() and said, 10)
    assert said[0].startswith("FocusLab: refused, 207")
    assert "action" in said[0]


def test_a_page_with_a_strict_policy_names_the_collector_twice(page: Page, site: Site, collector: Running) -> None:
    """The script has no style, no code as text, and asks one host."""
    origin = collector.endpoint.removesuffix("/api/v1/")
    site.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src {origin}; connect-src {origin}; require-trusted-types-for 'script'"
    )
    page.goto(site.origin + "/")
    assert [one["object"] for one in arrived(collector, 1)] == ["page"]


def test_an_endpoint_is_relative_to_the_page(page: Page, site: Site, collector: Running) -> None:
    """Where a proxy of the site passes triggers on."""
    sent: list[str] = []

    def pass_on(route: Any) -> None:
        sent.append(route.request.url)
        route.fulfill(status=201, body="{}")

    page.route("**/events/**", pass_on)
    site.pages["/shop/"] = site.pages["/"].replace("data-key", 'data-endpoint="../events/" data-key')
    page.goto(site.origin + "/shop/")
    assert eventually(lambda: page.title() and sent, 10)
    assert sent == [f"{site.origin}/events/?key=for-pages"]


def test_the_cookie_of_the_old_tracker_is_kept(page: Page, site: Site, collector: Running) -> None:
    """It has no version bits."""
    old = "8c1e5a2f-97b4-04d1-35aa-bb0012345678"
    page.context.add_cookies([{"name": "fl_actor_id", "value": old, "url": site.origin}])
    page.goto(site.origin + "/")

    assert [one["actor_id"] for one in arrived(collector, 1)] == [old]


def test_big_triggers_hold_up_no_others(page: Page, site: Site, collector: Running) -> None:
    """A browser limits what it sends for a page that goes; and nothing is sent when nothing is left."""
    page.goto(site.origin + "/quiet")
    sizes = [100_000, *[20_000] * 5]
    page.evaluate(
        "sizes => sizes.map((size) => FocusLab.recordTrigger("
        "{action: 'a', object: 'o', variables: {t: 'x'.repeat(size)}}))",
        sizes,
    )
    assert [len(one["variables"]["t"]) for one in arrived(collector, 6)] == sizes


def test_a_sandboxed_frame_without_cookies_has_one_actor(
    page: Page, site: Site, start: Callable[..., Running]
) -> None:
    collector = start(allowed_origins=["*"], write_keys=["for-pages"])
    script = collector.endpoint.replace("api/v1/", "focuslab.js")
    site.pages["/inner"] = (
        f'<script src="{script}" data-key="for-pages"></script>'
        '<script>FocusLab.recordTrigger({action: "a", object: "o"})</script>'
    )
    site.pages["/frame"] = '<iframe sandbox="allow-scripts" src="/inner"></iframe>'
    page.goto(site.origin + "/frame")
    one, two = arrived(collector, 2)
    assert one["actor_id"] == two["actor_id"]


def test_a_trigger_that_is_too_big_for_a_beacon_holds_up_no_others(
    page: Page, site: Site, collector: Running
) -> None:
    page.goto(site.origin + "/quiet")
    page.evaluate("""() => [100_000, 10].forEach((size) =>
        FocusLab.recordTrigger({action: 'a', object: 'o', variables: {t: 'x'.repeat(size)}}))""")
    page.goto("about:blank")
    assert "x" * 10 in [one["variables"]["t"] for one in arrived(collector, 1)]
