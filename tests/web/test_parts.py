"""Reading a request and changing its headers keep to the rules of HTTP, whatever other programs have written."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from brockman import asgi, wsgi
from brockman.client import FocusLabClient
from brockman.web.bots import is_bot
from brockman.web.headers import is_public, varied, without_caches
from brockman.web.request import find_cookie

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
        "Mozilla/5.0 (compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
        "facebookexternalhit/1.1",
        "kube-probe/1.30",
        "GoogleHC/1.0",
        "ELB-HealthChecker/2.0",
        "Amazon-Route53-Health-Check-Service (ref 0123; report http://amzn.to/1vsZADi)",
        "Edge Health Probe",
        "",
    ],
)
def test_crawlers_monitors_and_probes_are_known_by_their_names(agent: str) -> None:
    """So `skip_bots` leaves them out."""
    assert is_bot(agent)


@pytest.mark.parametrize(
    "agent",
    [
        BROWSER,
        "Mozilla/5.0 (Linux; Android 12; CUBOT KINGKONG) AppleWebKit/537.36 Chrome/131.0.0.0 Mobile Safari/537.36",
        "curl/8.5.0",
        "python-requests/2.32.3",
        "okhttp/4.12.0",
    ],
)
def test_browsers_and_clients_of_an_api_are_no_bots(agent: str) -> None:
    """Their users are actors."""
    assert not is_bot(agent)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("id=1", "1"),
        ("a=b; id=1; c=d", "1"),
        ("a=b;id=1;c=d", "1"),
        ('id="1"', "1"),
        ("id=1; id=2", "1"),
        ("myid=2; id=1", "1"),
        ("a=id=2; id=1", "1"),
        ("myid=2", ""),
        ("my id=2", ""),
        (" id=1", "1"),
        ("id", ""),
        ("id=", ""),
        ("", ""),
    ],
)
def test_the_cookie_of_a_name_is_found(header: str, value: str) -> None:
    """Another one whose name or value ends alike is not."""
    assert find_cookie(header, "id") == value


def test_of_several_cookies_of_a_name_the_first_right_one_is_found() -> None:
    """One that another program set for a domain above, or that was set before, is skipped."""
    assert find_cookie('id=old; xid=7; id="5"; id=6', "id", str.isdigit) == "5"
    assert find_cookie("id=old; id=7x", "id", str.isdigit) == ""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "private"),
        ("public", "private"),
        ("public, max-age=60", "max-age=60, private"),
        ("max-age=60, Public", "max-age=60, private"),
        ("max-age=60", "max-age=60, private"),
        ("private, max-age=60", "private, max-age=60"),
        ("no-store", "no-store, private"),  # Django 4.2 caches what is not private
        ("public, no-store, s-maxage=60", "no-store, s-maxage=60, private"),
        ('private="set-cookie"', 'private="set-cookie", private'),
    ],
)
def test_what_a_view_says_of_caches_is_kept_but_for_public(before: str, after: str) -> None:
    """No shared cache may keep the response."""
    assert without_caches(before) == after
    assert is_public(before) == ("public" in before.lower())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "Cookie"),
        ("Accept", "Accept, Cookie"),
        ("accept, COOKIE", "accept, COOKIE"),
        ("*", "*"),
        ("X-Cookie", "X-Cookie, Cookie"),
    ],
)
def test_vary_names_the_cookie_once(before: str, after: str) -> None:
    """Beside what it named before."""
    assert varied(before) == after


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
@pytest.mark.parametrize("may_track", [None, bool], ids=["everybody", "consent"])
def test_a_request_needs_no_garbage_collection(
    make_client: Callable[..., FocusLabClient], kind: str, may_track: Any
) -> None:
    """It ends with its uploads, also where nothing was recorded, and a function for consent was never asked."""

    class Upload:
        pass

    async def asgi_app(*_: Any) -> None:
        pass

    upload = Upload()
    end = weakref.ref(upload)
    client = make_client()
    gc.disable()
    try:
        if kind == "wsgi":
            app = wsgi.FocusLabMiddleware(lambda environ, start: [], client=client, may_track=may_track)
            app({"wsgi.input": upload}, lambda *_: None)
        else:
            scope = {"type": "http", "headers": (), "state": {"upload": upload}}
            asyncio.run(asgi.FocusLabMiddleware(asgi_app, client=client, may_track=may_track)(scope, *[Any] * 2))
            del scope
        del upload
        assert end() is None
    finally:
        gc.enable()
