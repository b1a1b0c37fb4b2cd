"""The steps `endpoint`, `key`, `single`, `array` and `clock`: what the endpoint answers to triggers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from brockman.delivery import policy
from brockman.delivery.policy import Outcome, SendResult
from brockman.diagnosis.finding import Finding, good, problem, show_milliseconds, skipped, warning
from brockman.diagnosis.route import Route
from brockman.diagnosis.tls import Left, explain_proxy, speaks_tls
from brockman.exceptions import AnswerError, ConnectionFailed
from brockman.options.endpoint import DEFAULT_ENDPOINT
from brockman.process.clock import monotonic, wall
from brockman.transport import Answer
from brockman.transport.http import HttpTransport
from brockman.trigger.batch import encode_batch

_KEY_STATUSES = (401, 403)
_NEEDED_BYTES = 1024 * 1024  # a server that takes less makes more requests necessary
_FROM_GATEWAYS = (502, 504)
_NO_GET = (400, 405, 415, 422, 501)  # of an API that takes only POST here
_API_PATH = urlsplit(DEFAULT_ENDPOINT).path
_OFF, _FAR_OFF = 60.0, 1800.0  # seconds between two clocks; a wrong time zone makes an hour


@dataclass(frozen=True)
class _Exchange:
    """One request, and its answer.

    Attributes:
        answer: The answer, or why there is none.
        result: What it means.
        seconds: The round trip.
        at: The middle of it, on the clock of this machine.
    """

    answer: Answer | ConnectionFailed
    result: SendResult
    seconds: float
    at: float

    @property
    def status(self) -> int | None:
        return self.answer.status if isinstance(self.answer, Answer) else None

    @property
    def is_page(self) -> bool:
        return isinstance(self.answer, Answer) and self.answer.is_page

    @property
    def shown(self) -> str:
        """The status, with the server's words."""
        words = self.result.error.words if isinstance(self.result.error, AnswerError) else ""
        return f"{self.status} {words if words.startswith('(') else f'({words})'}" if words else f"{self.status}"


class Correspondence:
    """Asks an endpoint, with the client's own transport."""

    def __init__(self, route: Route, transport: HttpTransport, left: Left) -> None:
        self._route = route
        self._transport = transport
        self._left = left

    def send(self, bodies: Sequence[bytes]) -> Iterator[Finding]:
        """Send the first trigger alone, the others together; yield what became of them."""
        first = self._ask(bodies[:1])
        found = self._judge(first)
        if found is not None:
            yield found
        else:
            yield good("endpoint", f"{self._route.endpoint} answers {first.status}", status=first.status)
            yield good("key", "accepted")
            yield good(
                "single", f"a trigger is accepted, in {show_milliseconds(first.seconds)}", **_numbers(first)
            )
            yield self._judge_array(self._ask(bodies[1:]), len(bodies) - 1)
        yield from _compare_clocks(first)

    def look(self) -> Iterator[Finding]:
        """Send no trigger; yield what a GET shows."""
        asked = self._exchange(lambda: self._transport.fetch("GET", "trigger/?limit=1", timeout=self._left()), 1)
        status = asked.status or 0
        if status == 405 or (status in _NO_GET and not asked.is_page):
            yield good("endpoint", f"{self._route.endpoint} answers {status} to GET", status=status)
            yield skipped("key", "unknown: the endpoint takes only triggers, and none is sent")
        else:
            found = self._judge(asked)
            if found is not None and found.step == "key":
                advice = f"{found.advice}; if it is for writing only, check without --no-send"
                yield problem("key", f"{found.seen} to GET", advice, blocks=False, **found.details)
            elif found is not None:
                yield found
            else:
                yield good(
                    "endpoint", f"{self._route.endpoint} answers {status}, in {show_milliseconds(asked.seconds)}"
                )
                yield good("key", "accepted")
        yield skipped("single", "unknown: no trigger is sent")
        yield skipped("array", "unknown: no trigger is sent")
        yield from _compare_clocks(asked)

    def _ask(self, bodies: Sequence[bytes]) -> _Exchange:
        body = encode_batch(bodies)
        return self._exchange(lambda: self._transport.send(body, self._left()), len(bodies))

    def _exchange(self, request: Any, count: int) -> _Exchange:
        begun, at = monotonic(), wall()
        answer: Answer | ConnectionFailed
        try:
            answer = request()
        except ConnectionFailed as error:
            answer = error
        seconds = monotonic() - begun
        return _Exchange(answer, policy.judge(answer, count, wall()), seconds, at + seconds / 2)

    def _judge(self, asked: _Exchange) -> Finding | None:
        """Return why a single trigger is not accepted; None if it is."""
        result, endpoint = asked.result, self._route.endpoint
        details = _numbers(asked)
        if asked.status is None:
            return self._explain_silence(asked)
        if asked.status == 407 and self._route.proxy:
            return explain_proxy(self._route, asked.status)
        seen = f"{endpoint} answers {asked.shown}"
        if result.outcome is Outcome.ACCEPTED or (result.outcome is Outcome.PARTIAL and not result.rejected):
            return None
        if asked.status in _KEY_STATUSES and not asked.is_page:
            return problem("key", f"the key is refused: {seen}", policy.advise(result, asked.status), **details)
        if result.outcome is Outcome.MISCONFIGURED or result.by_page:
            if self._is_tls_port(asked):
                return self._name_tls_port()
            return problem("endpoint", seen, self._advise(asked), **details)
        if asked.status in _FROM_GATEWAYS:
            return problem("endpoint", seen, "a gateway answers: look at the server behind it", **details)
        if result.outcome is Outcome.UNAVAILABLE:
            return problem(
                "endpoint", f"{seen}, it is unavailable", f"wait, and look at {self._beyond}", **details
            )
        if result.outcome is Outcome.SERVER_ERROR:
            return problem("endpoint", f"{seen}, the server fails", "look at its log", **details)
        if result.outcome is Outcome.TOO_LARGE:
            advice = f"let {self._beyond} take requests of {_NEEDED_BYTES} bytes and more"
            return problem("single", f"a small trigger is too large: {seen}", advice, **details)
        words = str(result.rejected[0]) if result.rejected else ""
        advice = "let it accept the action 'checked'; other triggers may pass"
        return problem("single", f"a trigger is refused: {seen} {words}".rstrip(), advice, **details)

    def _advise(self, asked: _Exchange) -> str:
        status, result = asked.status or 0, asked.result
        advice = policy.advise(result, status)
        location = result.location or ""
        if 300 <= status < 400 and location.startswith("http") and location.endswith("/trigger/"):
            return f"{advice}, and write {location.removesuffix('trigger/')}"
        path = urlsplit(self._route.endpoint).path
        if status in (404, 405) and path != _API_PATH:
            return f"{advice}; its path is {path}, and that of the API is {_API_PATH}"
        if status in _KEY_STATUSES:
            return f"{advice}; it answers a page, as a firewall or a log-in in between does"
        return advice

    def _is_tls_port(self, asked: _Exchange) -> bool:
        if self._route.scheme != "http" or self._route.proxy or asked.status not in (None, 400):
            return False  # 400 is what servers with TLS answer to a request without
        return speaks_tls(self._route, self._left)

    def _name_tls_port(self) -> Finding:
        host, port = self._route.target
        seen = f"port {port} of {host} speaks TLS, and the endpoint is http://"
        return problem("endpoint", seen, "write https:// in endpoint (FL_ENDPOINT)")

    @property
    def _beyond(self) -> str:
        """The name of those behind the connection."""
        return f"the proxy ({self._route.setting}) and the server behind it" if self._route.proxy else "the server"

    def _explain_silence(self, asked: _Exchange) -> Finding:
        endpoint = self._route.endpoint
        if self._is_tls_port(asked):
            return self._name_tls_port()
        seen = f"{endpoint} gives no answer ({asked.answer})"
        return problem("endpoint", seen, f"the connection works: look at {self._beyond}, and its log")

    def _judge_array(self, asked: _Exchange, count: int) -> Finding:
        result, details = asked.result, _numbers(asked)
        if result.outcome is Outcome.ACCEPTED or (result.outcome is Outcome.PARTIAL and result.rejected == {}):
            seen = f"{count} triggers in one request are accepted, in {show_milliseconds(asked.seconds)}"
            return good("array", seen, **details)
        if asked.status is None:
            return problem("array", f"an array gets no answer ({asked.answer})", "look at the server", **details)
        seen = f"an array of {count} is answered {asked.shown}"
        if result.outcome in (Outcome.REFUSED, Outcome.TOO_LARGE, Outcome.SERVER_ERROR):
            advice = "each trigger is a request of its own, which is slower; let the endpoint take arrays"
            return warning("array", seen, advice, **details)
        if result.outcome is Outcome.PARTIAL and result.rejected is not None:
            words = str(next(iter(result.rejected.values())))
            return warning("array", f"{seen}, {len(result.rejected)} of {count} are refused", words, **details)
        return problem("array", seen, "triggers are held; look at the server", **details)


def _compare_clocks(asked: _Exchange) -> Iterator[Finding]:
    if not isinstance(asked.answer, Answer):
        return
    served_at = policy.parse_date(asked.answer.date)
    if served_at is None:
        yield skipped("clock", "unknown: the answer has no date")
        return
    ahead = asked.at - served_at - 0.5  # a Date has whole seconds
    details = {"ahead_seconds": round(ahead, 1)}
    if abs(ahead) < _OFF:
        yield good("clock", "as the server's", **details)
        return
    way = "ahead of" if ahead > 0 else "behind"
    seen = f"this machine's clock is {_span(abs(ahead))} {way} the server's, and so are the times of its triggers"
    advice = "correct the one that is wrong (NTP)"
    if abs(ahead) < _FAR_OFF:
        yield warning("clock", seen, advice, **details)
    else:
        yield problem("clock", seen, advice, blocks=False, **details)


def _span(seconds: float) -> str:
    if seconds < 3000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def _numbers(asked: _Exchange) -> dict[str, Any]:
    return {"status": asked.status, "milliseconds": round(1000 * asked.seconds, 2)}
