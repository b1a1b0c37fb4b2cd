"""The outcome of every answer, and the delay before a retry: the table of the API, written out again."""

from __future__ import annotations

import gzip
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brockman.delivery.policy import (
    Outcome,
    classify,
    describe,
    judge,
    parse_date,
    parse_retry_after,
)
from brockman.transport import Answer

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
    411: Outcome.MISCONFIGURED,
    421: Outcome.MISCONFIGURED,
    426: Outcome.MISCONFIGURED,
    431: Outcome.MISCONFIGURED,
    511: Outcome.MISCONFIGURED,
    # not in the API's table: a content network reports that the origin is unreachable
    521: Outcome.UNAVAILABLE,
    522: Outcome.UNAVAILABLE,
    523: Outcome.UNAVAILABLE,
    524: Outcome.UNAVAILABLE,
    525: Outcome.UNAVAILABLE,
    526: Outcome.UNAVAILABLE,
    529: Outcome.UNAVAILABLE,
    530: Outcome.UNAVAILABLE,
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
    answers = {status: classify(Answer(status, body, content_type), 2) for status in range(100, 600)}
    assert answers == OUTCOMES


@pytest.mark.parametrize("status", [405, 501])
def test_a_refused_method_is_never_the_fault_of_a_single_trigger(status):
    """405 and 501 to a single object are about the endpoint: it is held."""
    assert classify(Answer(status, b'{"error": "no"}'), 1) is Outcome.MISCONFIGURED


@pytest.mark.parametrize("status", [-1, 0, 7, 99, 600, 999])
def test_an_invalid_status_is_misconfigured(status):
    """A status that no HTTP server sends drops nothing: the setup is wrong, and everything is held."""
    assert classify(Answer(status), 1) is Outcome.MISCONFIGURED


def test_a_page_is_no_success():
    """A captive portal that answers 2xx with its page loses no trigger; 201, 202, 204 are the API's words."""
    outcomes = {status: classify(Answer(status, PORTAL), 1) for status in range(200, 300)}
    assert {status for status, outcome in outcomes.items() if outcome is Outcome.ACCEPTED} == {201, 202, 204}
    assert set(outcomes.values()) == {Outcome.ACCEPTED, Outcome.MISCONFIGURED}


@pytest.mark.parametrize("content_type", ["text/html", "text/html; charset=utf-8", "TEXT/HTML"])
def test_an_empty_answer_is_a_success_whatever_its_type(content_type):
    """Frameworks label an empty 200 as HTML."""
    for status in (200, 201, 204):
        for body in (b"", b"\r\n", b"  \n", b"created"):
            assert classify(Answer(status, body, content_type), 1) is Outcome.ACCEPTED


def test_an_answer_that_broke_off_before_it_told_is_no_answer():
    """Of a 200 something must have come, of a 207 everything; 201, 202 and 204 need no body."""
    for status, body, outcome in [
        (200, b"", Outcome.UNAVAILABLE),
        (200, b" \r\n", Outcome.UNAVAILABLE),
        (200, b"<ht", Outcome.MISCONFIGURED),
        (200, b'{"id', Outcome.ACCEPTED),
        (207, b'{"rejected": [', Outcome.UNAVAILABLE),
        (400, b"", Outcome.UNAVAILABLE),
        (400, b"no such", Outcome.REFUSED),
        (201, b"", Outcome.ACCEPTED),
        (202, b"<", Outcome.ACCEPTED),
        (204, b"", Outcome.ACCEPTED),
        (503, b"", Outcome.UNAVAILABLE),
    ]:
        assert classify(Answer(status, body, is_complete=False), 1) is outcome, (status, body)


def test_a_207_that_cannot_be_read_settles_nothing():
    """Neither several triggers nor one: which of them were accepted is unknown."""
    for body in (b"garbled", b"[]", b"\xff\x00\x01", b"", PORTAL):
        for count in (1, 4):
            result = judge(Answer(207, body), count, NOW)
            assert not result.is_decided
            assert result.outcome in (Outcome.PARTIAL, Outcome.MISCONFIGURED)
        assert judge(Answer(207, body), 1, NOW).outcome is Outcome.MISCONFIGURED


def test_a_compressed_207_is_read():
    """A proxy may compress unasked: the one of four that is refused is found."""
    body = gzip.compress(b'{"rejected": [{"index": 2, "error": "no such plan"}]}')
    result = judge(Answer(207, body, content_encoding="gzip"), 4, NOW)
    assert {index: error.words for index, error in result.rejected.items()} == {2: "no such plan"}


def test_a_page_with_an_error_status_means_the_error():
    """Frameworks send a page with an error: the status counts, but a refusal by page is marked."""
    for status in range(300, 600):
        result = judge(Answer(status, PORTAL, "text/html"), 2, NOW)
        assert result.outcome is OUTCOMES[status]
        assert result.by_page is (OUTCOMES[status] is Outcome.REFUSED)


@pytest.mark.parametrize(("status", "setting"), [(403, "FL_API_KEY"), (401, "FL_API_KEY"), (404, "FL_ENDPOINT")])
def test_the_log_line_of_a_wrong_set_up_has_the_servers_words(status, setting):
    """They name the cause when the advice is wrong, such as a host that Django does not allow."""
    result = judge(Answer(status, b"<html><h1>Host 'x' is not allowed</h1>"), 1, NOW)
    line = describe(result, "https://x/", "triggers are held")
    assert "Host 'x' is not allowed" in line
    assert setting in line


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
