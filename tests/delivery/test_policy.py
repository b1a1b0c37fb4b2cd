"""The outcome of every answer, and the delay before a retry: the table of the API, written out again."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brockman.delivery.policy import Outcome, backoff, classify, parse_date, parse_retry_after, setup_delay

# The outcome of every status. One that the API's table does not name is decided by whose fault it can be.
OUTCOMES: dict[int, Outcome] = {
    **dict.fromkeys(range(100, 200), Outcome.MISCONFIGURED),
    **dict.fromkeys(range(200, 300), Outcome.ACCEPTED),
    **dict.fromkeys(range(300, 400), Outcome.MISCONFIGURED),
    **dict.fromkeys(range(400, 500), Outcome.REFUSED),
    **dict.fromkeys(range(500, 600), Outcome.SERVER_ERROR),
    207: Outcome.PARTIAL,
    400: Outcome.REFUSED,
    401: Outcome.MISCONFIGURED,
    403: Outcome.MISCONFIGURED,
    404: Outcome.MISCONFIGURED,
    405: Outcome.REFUSED,
    408: Outcome.UNAVAILABLE,
    413: Outcome.TOO_LARGE,
    415: Outcome.REFUSED,
    422: Outcome.REFUSED,
    425: Outcome.UNAVAILABLE,
    429: Outcome.UNAVAILABLE,
    500: Outcome.SERVER_ERROR,
    501: Outcome.REFUSED,
    502: Outcome.UNAVAILABLE,
    503: Outcome.UNAVAILABLE,
    504: Outcome.UNAVAILABLE,
    # not in the API's table: a person has to act
    402: Outcome.MISCONFIGURED,
    407: Outcome.MISCONFIGURED,
    410: Outcome.MISCONFIGURED,
    511: Outcome.MISCONFIGURED,
    # not in the API's table: a content network reports that the origin is unreachable
    521: Outcome.UNAVAILABLE,
    522: Outcome.UNAVAILABLE,
    523: Outcome.UNAVAILABLE,
    524: Outcome.UNAVAILABLE,
    529: Outcome.UNAVAILABLE,
}
PORTAL = b"<!DOCTYPE html>\n<html><body>Please log in to the network</body></html>"
NOW = 1_763_000_000.0
HTTP_DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
HTTP_DATE_SECONDS = 784_111_777.0


@pytest.fixture(params=["UTC0", "EST+5", "IST-5:30"])
def _local_time(request, monkeypatch):
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("content_type", ["", "application/json", "text/plain; charset=utf-8"])
@pytest.mark.parametrize("body", [b"", b'{"id": 1}'])
def test_every_status_means_what_the_table_says(content_type, body):
    """From 100 to 599, with and without a body."""
    assert {status: classify(status, content_type, body) for status in range(100, 600)} == OUTCOMES


@pytest.mark.parametrize("status", [-1, 0, 7, 99, 600, 999])
def test_an_invalid_status_is_misconfigured(status):
    """A status that no HTTP server sends drops nothing: the setup is wrong, and everything is held."""
    assert classify(status) is Outcome.MISCONFIGURED


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", PORTAL),
        ("text/html; charset=utf-8", PORTAL),
        ("Text/HTML", b"<p>log in</p>"),
        ("text/html", b"<!-- portal -->" + PORTAL),
        ("", PORTAL),
        ("application/json", PORTAL.upper()),
        ("text/plain", b"\r\n\t <html lang='en'>"),
        ("application/json", b" " * 400 + b"<html>"),
    ],
)
def test_a_page_is_no_success(content_type, body):
    """A captive portal that answers 200, or any 2xx, with its login page loses no trigger."""
    assert {classify(status, content_type, body) for status in range(200, 300)} == {Outcome.MISCONFIGURED}


@pytest.mark.parametrize("content_type", ["text/html", "text/html; charset=utf-8", "TEXT/HTML"])
def test_an_empty_answer_is_a_success_whatever_its_type(content_type):
    """Frameworks label an empty 201 as HTML."""
    for status in (200, 201, 204):
        for body in (b"", b"\r\n", b"  \n"):
            assert classify(status, content_type, body) is Outcome.ACCEPTED


def test_a_trigger_that_quotes_html_is_still_a_success():
    """Only an answer that begins like a page is taken for one."""
    assert classify(201, "application/json", b'{"object": "<html>"}') is Outcome.ACCEPTED


def test_a_page_with_an_error_status_means_the_error():
    """Frameworks send a page with an error: the status counts."""
    for status in range(300, 600):
        assert classify(status, "text/html", PORTAL) is OUTCOMES[status]


@settings(deadline=None, database=None)
@given(st.integers(1, 10**30), st.floats(1e-3, 1e308), st.floats(1e-3, 1e308), st.floats(0, 1, exclude_max=True))
@example(1, 0.5, 60.0, 0.999)
@example(10**400, 0.5, 60.0, 0.5)
@example(2**63, 1e308, 1e308, 0.999)
def test_a_delay_is_drawn_from_zero_to_the_bound(failures, base, cap, drawn):
    """It is the draw times min(cap, base * 2 ** (failures - 1)), however long the outage."""
    doublings = min(failures - 1, 60)  # 2 ** 60 seconds outlast the sun
    assert backoff(failures, base, cap, lambda: drawn) == drawn * min(cap, base * 2.0**doublings)


def test_the_defaults_double_from_half_a_second_to_a_minute():
    """0.5, 1, 2, 4, ... 32, then 60 seconds are the upper bounds."""
    bounds = [backoff(failures, 0.5, 60.0, lambda: 1.0) for failures in range(1, 11)]
    assert bounds == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_jitter_is_full():
    """The shortest delay is 0: clients that failed together do not retry together."""
    assert backoff(7, 0.5, 60.0, lambda: 0.0) == 0.0


def test_a_wrong_setup_is_retried_slowly():
    """From 30 seconds, doubling to 5 minutes, and no more, however often."""
    assert [setup_delay(failures) for failures in range(1, 8)] == [30, 60, 120, 240, 300, 300, 300]
    assert setup_delay(10**400) == 300


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("1", 1),
        ("120", 120),
        (" 7 ", 7),
        ("007", 7),
        ("0" * 5000 + "7", 7),
        ("300", 300),
        ("301", 300),
        ("86400", 300),
        ("9" * 30, 300),
        ("9" * 5000, 300),
        ("0", None),
        ("000", None),
        ("-5", None),
        ("+5", None),
        ("3.5", None),
        ("1e9", None),
        ("0x10", None),
        ("1_000", None),
        ("5 6", None),
        ("5s", None),
        ("\u0665", None),
        ("\u00b2", None),
        ("\uff15", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        (" ", None),
        (None, None),
        ("\x00", None),
        ("\ud800", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 300),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 300),
        ("Sat, 01 Jan 10000 00:00:00 GMT", None),
        ("Mon, 99 Foo 2025 99:99:99 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
        ("Wed, 12 Nov 2025 25:61:61 GMT", None),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_the_seconds_a_server_asks_for(header, seconds):
    """Whole seconds are obeyed up to five minutes; what is neither seconds nor a future date is ignored."""
    assert parse_retry_after(header, NOW) == seconds


@pytest.mark.parametrize(("ahead", "seconds"), [(1, 1), (90, 90), (300, 300), (4000, 300), (0, None), (-1, None)])
def test_a_date_is_measured_from_now(ahead, seconds):
    """A `Retry-After` date means the time until then, at most five minutes; a past date is ignored."""
    when = datetime.fromtimestamp(NOW, timezone.utc) + timedelta(seconds=ahead)
    assert parse_retry_after(format_datetime(when, usegmt=True), NOW) == seconds


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone of a process cannot be set here")
@pytest.mark.usefixtures("_local_time")
@pytest.mark.parametrize(
    "text",
    [HTTP_DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
    ids=["IMF-fixdate", "RFC 850", "asctime"],
)
def test_all_three_http_dates_are_utc(text):
    """RFC 9110, 5.6.7: a recipient accepts all three forms, each in UTC, in whatever time zone it runs."""
    assert parse_date(text) == HTTP_DATE_SECONDS


@pytest.mark.parametrize("text", [None, "", "soon", "7", "Sun, 06 Nov 1994", "32 Foo"])
def test_what_is_no_date_is_none(text):
    """A header that is no date is ignored, not an error."""
    assert parse_date(text) is None


DATE_LIKE = st.lists(
    st.sampled_from([*"0123456789 ,:+-.", "Sun", "Nov", "GMT", "1994", "-0000", "99999", "EST", "am", "\x00"]),
    max_size=12,
).map("".join)


@settings(deadline=None, database=None, max_examples=500)
@given(st.text(st.characters()) | DATE_LIKE, st.floats(0, 4e9))
@example("Sun, 06 Nov 1994 08:49:37 -9999999999", NOW)
@example("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", NOW)
@example("6 Nov 94 08.49.37", NOW)
@example("Nov 6", NOW)
def test_no_header_of_a_server_is_an_error(header, now):
    """Whatever a server sends is ignored, or a delay above 0 and of at most 300 seconds."""
    seconds = parse_retry_after(header, now)
    assert seconds is None or 0 < seconds <= 300
