"""The rules of retrying: what an answer means, and how long to wait. No I/O, no threads, no clock.

The table is that of the FocusLab API. A status it does not list counts as the x00 of its class (RFC 9110, 15).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from datetime import timezone
from email.utils import parsedate_to_datetime

RETRY_AFTER_CAP = 300.0  # seconds; a server that asks for more is asked again after this
SETUP_DELAY = 30.0  # seconds before the first retry when the set-up is wrong: a person has to act
SETUP_DELAY_CAP = 300.0


class Outcome(enum.Enum):
    """What an answer means for the triggers that were sent."""

    ACCEPTED = "accepted"
    PARTIAL = "a result for each trigger"
    REFUSED = "this request is refused"
    TOO_LARGE = "too large"
    MISCONFIGURED = "the set-up is wrong"
    UNAVAILABLE = "the service is unavailable"
    SERVER_ERROR = "may be caused by this batch"


_LISTED = {
    207: Outcome.PARTIAL,
    413: Outcome.TOO_LARGE,
    501: Outcome.REFUSED,
    **dict.fromkeys((401, 403, 404), Outcome.MISCONFIGURED),
    # Not in the API's table, and no trigger's fault: payment, a proxy's login, an endpoint retired, a portal.
    **dict.fromkeys((402, 407, 410, 511), Outcome.MISCONFIGURED),
    **dict.fromkeys((408, 425, 429, 502, 503, 504), Outcome.UNAVAILABLE),
    # A content network's words for "the origin is away": nothing of a trigger was looked at.
    **dict.fromkeys((521, 522, 523, 524, 529), Outcome.UNAVAILABLE),
}
_BY_CLASS = {2: Outcome.ACCEPTED, 4: Outcome.REFUSED, 5: Outcome.SERVER_ERROR}


def classify(status: int, content_type: str = "", body: bytes = b"") -> Outcome:
    """Return what an answer means.

    A success that carries an HTML page is a captive portal or a proxy speaking, not the API. A body that is empty,
    or a word such as "created", is believed whatever its content type: frameworks label all answers `text/html`.
    """
    outcome = _LISTED.get(status) or _BY_CLASS.get(status // 100, Outcome.MISCONFIGURED)
    if outcome in (Outcome.ACCEPTED, Outcome.PARTIAL) and _is_html(content_type, body):
        return Outcome.MISCONFIGURED
    return outcome


def _is_html(content_type: str, body: bytes) -> bool:
    start = body[:512].lstrip().lower()
    if content_type.lower().startswith(("text/html", "application/xhtml")):
        return start.startswith(b"<")
    return start.startswith((b"<!doctype html", b"<html"))


def backoff(failures: int, base: float, cap: float, rand: Callable[[], float]) -> float:
    """Return seconds to wait after the given number of failures in a row (1 is the first).

    Exponential with full jitter: anywhere between 0 and min(cap, base * 2 ** (failures - 1)), so that many
    clients do not come back together.
    """
    return rand() * min(cap, base * 2.0 ** min(failures - 1, 60))


def setup_delay(failures: int) -> float:
    """Return seconds to wait when the set-up is wrong: 30, 60, 120, 240, then 300."""
    return min(SETUP_DELAY_CAP, SETUP_DELAY * 2.0 ** min(failures - 1, 60))


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3), at most `RETRY_AFTER_CAP`.

    Args:
        value: The header: whole seconds, or an HTTP date. None when there is none.
        now: Seconds since the epoch, to measure a date against; best the server's own `Date`.

    Returns:
        None for no header, one that is neither form, zero, or a date that has passed.
    """
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]+", text):
        # More digits than this are beyond the cap; int() of thousands of digits raises.
        seconds = RETRY_AFTER_CAP if len(text.lstrip("0")) > 6 else float(text)
    else:
        moment = parse_date(text)
        if moment is None:
            return None
        seconds = moment - now
    return min(seconds, RETRY_AFTER_CAP) if seconds > 0 else None


def parse_date(value: str | None) -> float | None:
    """Return an HTTP date as seconds since the epoch, or None when it is not one."""
    try:
        moment = parsedate_to_datetime(value or "")
        # The third form of RFC 9110, 5.6.7, names no zone, and all three are UTC.
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError, OSError):
        return None
