"""Judge answers, and decide how long to wait before the next attempt.

Pure: no I/O, no threads, no clock. The table is that of the FocusLab API; a status it does not list counts as the
x00 of its class (RFC 9110, section 15).
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime

from brockman.exceptions import AnswerError, BadRequest, ConnectionFailed, FocusLabError, from_status
from brockman.transport.answer import Answer, printable

RETRY_AFTER_CAP = 300.0  # seconds; a server that asks for more is asked again after this
SETUP_DELAY = 30.0  # seconds before the first retry when the set-up is wrong: a person has to act
SETUP_DELAY_CAP = 300.0
_ADVICE = {
    400: "check endpoint (FL_ENDPOINT)",
    401: "check api_key (FL_API_KEY)",
    403: "check api_key (FL_API_KEY)",
    404: "check endpoint (FL_ENDPOINT)",
    405: "check endpoint (FL_ENDPOINT)",
    407: "check the proxy's user and password",
    421: "check endpoint (FL_ENDPOINT)",
    426: "check endpoint (FL_ENDPOINT)",
    501: "check endpoint (FL_ENDPOINT)",
}
_OWN_SUCCESSES = (201, 202, 204)  # the API's own words; a proxy or a captive portal answers 200
_ABOUT_ARRAYS = (405, 501)  # refuse an array; for a single object they are about the endpoint


class Outcome(enum.Enum):
    """The meaning of an answer for the triggers that were sent."""

    ACCEPTED = "accepted"
    PARTIAL = "accepted or refused one by one"
    REFUSED = "refused together"
    TOO_LARGE = "too large"
    MISCONFIGURED = "the set-up is wrong"
    UNAVAILABLE = "the service is away"
    SERVER_ERROR = "may be caused by this batch"


# Answers that say nothing about the triggers: they are held, and sent again.
INCONCLUSIVE = (Outcome.UNAVAILABLE, Outcome.MISCONFIGURED)

_BY_STATUS = {
    207: Outcome.PARTIAL,
    413: Outcome.TOO_LARGE,
    501: Outcome.REFUSED,  # an array
    **dict.fromkeys((401, 403, 404), Outcome.MISCONFIGURED),
    # Not in the API's table, and no trigger's fault: payment, a proxy, a retired endpoint, a wrong host name,
    # missing TLS, a key that is too long, a portal.
    **dict.fromkeys((402, 407, 410, 411, 421, 426, 431, 511), Outcome.MISCONFIGURED),
    **dict.fromkeys((408, 425, 429, 502, 503, 504), Outcome.UNAVAILABLE),
    # A content delivery network's statuses for an origin that does not answer, or not with TLS.
    **dict.fromkeys((521, 522, 523, 524, 525, 526, 529, 530), Outcome.UNAVAILABLE),
}
_BY_CLASS = {2: Outcome.ACCEPTED, 4: Outcome.REFUSED, 5: Outcome.SERVER_ERROR}


@dataclass(frozen=True)
class SendResult:
    """The result of one request, for each trigger in it.

    Attributes:
        outcome: What the answer means.
        error: What `send_trigger` raises; None when the request was accepted in whole or in part.
        rejected: For `PARTIAL`, the error of each refused trigger by its index; None when it cannot be read.
        retry_after: Seconds that the server asks to wait; None when it does not, or when the set-up is wrong.
        location: Where a redirect points.
        by_page: Whether a web page, a text about TLS or HTTP, or what cannot be decoded refuses the request: no
            verdict on a trigger.
        repeated: Of the accepted triggers, how many the server says it had already; None when it does not say.
    """

    outcome: Outcome
    error: FocusLabError | None = None
    rejected: Mapping[int, FocusLabError] | None = None
    retry_after: float | None = None
    location: str | None = None
    by_page: bool = False
    repeated: int | None = None

    @property
    def is_decided(self) -> bool:
        """True when the server has accepted the triggers, or decided on each."""
        return self.outcome is Outcome.ACCEPTED or self.rejected is not None


ACCEPTED = SendResult(Outcome.ACCEPTED)


def judge(answer: Answer | ConnectionFailed, count: int, now: float) -> SendResult:
    """Return what an answer means for a request with `count` triggers.

    `now`, in seconds since the epoch, is for a `Retry-After` date of a server that sends no `Date`.
    """
    if isinstance(answer, ConnectionFailed):
        return SendResult(Outcome.UNAVAILABLE, answer)
    outcome = classify(answer, count)
    if outcome is Outcome.ACCEPTED:
        return SendResult(outcome, repeated=count_repeated(answer.text or "", count))
    if outcome is Outcome.UNAVAILABLE and 200 <= answer.status < 300:
        return SendResult(outcome, ConnectionFailed("the answer broke off"))
    if outcome is Outcome.PARTIAL:
        words = parse_rejections(answer.text or "", count)
        if words is not None or count > 1:
            rejected = None if words is None else {index: BadRequest(400, said) for index, said in words.items()}
            repeated = count_repeated(answer.text or "", count - len(words or ()))
            return SendResult(outcome, rejected=rejected, repeated=repeated)
        outcome = Outcome.MISCONFIGURED  # no smaller request would get a readable answer
    server_time = parse_date(answer.date)
    asked = parse_retry_after(answer.retry_after, now if server_time is None else server_time)
    return SendResult(
        outcome,
        from_status(answer.status, answer.words),
        retry_after=None if outcome is Outcome.MISCONFIGURED else asked,
        location=answer.location,
        by_page=outcome is Outcome.REFUSED and (answer.is_page or answer.text is None or answer.is_about_protocol),
    )


def classify(answer: Answer, count: int) -> Outcome:
    """Return what an answer means for a request with `count` triggers.

    201, 202 and 204 are believed whatever comes with them. Another success is one of the API if its body is empty,
    JSON, or text without markup: frameworks label all answers `text/html`. A page comes from a captive portal or a
    proxy.
    """
    status = answer.status
    outcome = _BY_STATUS.get(status) or _BY_CLASS.get(status // 100, Outcome.MISCONFIGURED)
    if status in _ABOUT_ARRAYS and count == 1:
        return Outcome.MISCONFIGURED
    if status in _OWN_SUCCESSES or outcome not in (Outcome.ACCEPTED, Outcome.PARTIAL, Outcome.REFUSED):
        return outcome
    if not answer.is_complete and (not answer.text or outcome is Outcome.PARTIAL):
        return Outcome.UNAVAILABLE  # it broke off before it said anything
    if outcome is Outcome.REFUSED:
        return outcome
    return Outcome.MISCONFIGURED if answer.is_page or answer.text is None else outcome


def describe(result: SendResult, target: str, waiting: str) -> str:
    """Return the text of the log line for a result that settles nothing: the cause, and what to change.

    Args:
        result: The result.
        target: The endpoint's URL, or the class of a transport of the user's.
        waiting: What becomes of the triggers meanwhile.
    """
    error = result.error
    if result.outcome is not Outcome.MISCONFIGURED or not isinstance(error, AnswerError):
        cause = f"status {error.status}" if isinstance(error, AnswerError) else str(error)
        return f"{target} is unavailable ({cause}); {waiting} and retried"
    status = error.status or 0  # which an answer always has
    advice = advise(result, status) if "://" in target else "it should answer as the API does"
    words = f" ({error.words})" if error.words else ""
    return f"{target} answers {status}{words}: {advice}; until then {waiting}"


def advise(result: SendResult, status: int) -> str:
    """Return the advice for an answer that says that the set-up is wrong."""
    if 300 <= status < 400:
        return f"it redirects to {result.location!r}, which is not followed; check endpoint (FL_ENDPOINT)"
    if 200 <= status < 300:
        return "that is no answer of the API, but of a captive portal or proxy; check endpoint (FL_ENDPOINT)"
    if result.by_page:
        return "that is no answer of the API, but of a proxy or another server; check endpoint (FL_ENDPOINT)"
    return _ADVICE.get(status, "check api_key and endpoint (FL_API_KEY, FL_ENDPOINT)")


def delay(result: SendResult, failures: int, base: float, cap: float, rand: Callable[[], float]) -> float:
    """Return the seconds to wait after a result that settles nothing.

    `failures` counts such results in a row, this one included; `rand` returns a number from 0 up to 1.
    """
    if result.outcome is Outcome.MISCONFIGURED:
        return setup_delay(failures)
    if result.retry_after is not None:
        return result.retry_after + backoff(1, base, cap, rand)
    return backoff(failures, base, cap, rand)


def backoff(failures: int, base: float, cap: float, rand: Callable[[], float]) -> float:
    """Return seconds to wait after the given number of failures in a row (1 is the first).

    Exponential with full jitter: between 0 and min(cap, base * 2 ** (failures - 1)), so that many clients do not
    come back together.
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


def count_repeated(answer: str, accepted: int) -> int | None:
    """Return how many of the accepted triggers the server had already.

    The answer has `"repeated"`: a number for an array, true or false for an object. None when it does not say, or
    says a number out of range: no server can falsify the counts.
    """
    try:
        repeated = json.loads(answer)["repeated"]
        return int(repeated) if type(repeated) in (int, bool) and 0 <= repeated <= accepted else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def parse_rejections(answer: str | bytes, count: int) -> dict[int, str] | None:
    """Return the indices of the triggers that a 207 rejects, each with the server's error text.

    The answer looks like `{"rejected": [{"index": 3, "error": "..."}]}`. An index out of range or repeated is
    ignored, so that no server can falsify the counts.

    Returns:
        None when the answer has another form, or an index that is not a whole number: then it is unknown which
        trigger was rejected.
    """
    try:
        rejected = json.loads(answer)["rejected"]
        errors: dict[int, str] = {}
        if type(rejected) is not list:
            return None
        for entry in rejected:
            index = entry["index"]
            if type(index) is not int:
                return None
            if 0 <= index < count:
                errors.setdefault(index, printable(str(entry.get("error") or "")))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return errors
