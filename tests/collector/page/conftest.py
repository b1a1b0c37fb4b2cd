"""One Chromium for the tests of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.collector.running import Running
from tests.support.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="package")
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
    assert len(hosts - {""}) <= 1
    assert problems == []
