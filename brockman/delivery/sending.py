"""Triggers sent in the caller's thread, around the buffer: a single attempt, and what came of it.

`send_now` says so by an exception, for one trigger; `send_each` by a verdict on each of several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from brockman.buffer.counters import Callbacks, Counters
from brockman.delivery import policy
from brockman.delivery.endpoint import EndpointLimits
from brockman.delivery.policy import Outcome, classify
from brockman.exceptions import BadRequest, ConnectionFailed, FocusLabError, from_status
from brockman.process.clock import wall
from brockman.transport import Answer, Transport
from brockman.trigger.batch import count_fitting, encode_batch, encoded_size, parse_verdicts

_SAYS_NOTHING = (Outcome.UNAVAILABLE, Outcome.MISCONFIGURED)  # of the triggers that were sent


@dataclass(frozen=True)
class SendResult:
    """What came of sending one trigger.

    Attributes:
        outcome: What the answer means for this trigger; None when the client takes none, which it has counted.
        error: What `send_trigger` would raise; None when it was accepted.
        asked: The seconds that the server asks to wait; None when it does not.
    """

    outcome: Outcome | None
    error: FocusLabError | None = None
    asked: float | None = None


_ACCEPTED = SendResult(Outcome.ACCEPTED)


def send_now(transport: Transport, body: bytes) -> None:
    """Send one trigger; see `FocusLabClient.send_trigger`. Blocks.

    Raises:
        ConnectionFailed: When no answer came back.
        AnswerError: When the answer is not a success.
    """
    for verdict in _rule(_attempt(transport, body), 1) or ():
        if verdict.error is not None:
            raise verdict.error


def send_each(
    transport: Transport, counters: Counters, bodies: Sequence[bytes], limits: EndpointLimits
) -> list[SendResult]:
    """Send triggers and return the verdict on each; those accepted are counted as delivered. Blocks.

    One attempt for each trigger: together, and if they are refused together, each alone, as far as the service is
    there. `limits` is what is known of the endpoint, and is added to; only one thread at a time may use it.
    """
    if len(bodies) > 1 and limits.singles_only:
        return _send_parts(transport, counters, [[body] for body in bodies], limits)
    fitting = count_fitting(bodies, limits.max_bytes)
    if fitting < len(bodies):
        return _send_parts(transport, counters, [bodies[:fitting], bodies[fitting:]], limits)
    answer = _attempt(transport, encode_batch(bodies))
    verdicts = _rule(answer, len(bodies))
    if verdicts is None:
        assert isinstance(answer, Answer)
        return _send_alone(transport, counters, bodies, limits, answer)
    accepted = sum(verdict.outcome is Outcome.ACCEPTED for verdict in verdicts)
    with counters.guard:
        counters.delivered += accepted
        counters.batches += accepted > 0
    limits.arrays_work = limits.arrays_work or (len(bodies) > 1 and accepted > 0)
    for verdict in verdicts:
        if verdict.error is not None:
            counters.last_error = str(verdict.error)
    return verdicts


def give_up(counters: Counters, callbacks: Callbacks, body: bytes, error: FocusLabError) -> None:
    """Count a trigger as rejected, and tell `on_error`."""
    counters.last_error = counters.details["rejected"] = str(error)
    with counters.guard:
        counters.rejected += 1
    callbacks.refused(error, (body,))


def _attempt(transport: Transport, body: bytes) -> Answer | ConnectionFailed:
    try:
        return transport.send(body)
    except ConnectionFailed as error:
        if not error.stale:
            return error
    try:
        return transport.send(body)  # the server had hung up while the connection was idle
    except ConnectionFailed as error:
        return error


def _rule(answer: Answer | ConnectionFailed, count: int) -> list[SendResult] | None:
    """Return the verdict on each of so many triggers; None when they were refused together."""
    if isinstance(answer, ConnectionFailed):
        return [SendResult(Outcome.UNAVAILABLE, answer)] * count
    outcome = classify(answer.status, answer.content_type, answer.body)
    if outcome is Outcome.ACCEPTED:
        return [_ACCEPTED] * count
    if outcome is Outcome.PARTIAL:
        rejected = parse_verdicts(answer.body, count)
        if rejected is None:
            return [_ACCEPTED] if count == 1 else None
        return [
            SendResult(Outcome.REFUSED, BadRequest(400, rejected[index])) if index in rejected else _ACCEPTED
            for index in range(count)
        ]
    if count > 1 and outcome not in _SAYS_NOTHING:
        return None
    server_time = policy.parse_date(answer.date)
    asked = policy.parse_retry_after(answer.retry_after, wall() if server_time is None else server_time)
    return [SendResult(outcome, from_status(answer.status, answer.words), asked)] * count


def _send_alone(
    transport: Transport, counters: Counters, bodies: Sequence[bytes], limits: EndpointLimits, answer: Answer
) -> list[SendResult]:
    """Send each alone that were refused together, and learn from it."""
    outcome = classify(answer.status, answer.content_type, answer.body)
    if outcome is Outcome.TOO_LARGE:
        limits.remember_size(encoded_size(bodies))
    verdicts = _send_parts(transport, counters, [[body] for body in bodies], limits)
    knows_no_arrays = outcome is Outcome.REFUSED or (outcome is Outcome.SERVER_ERROR and not limits.arrays_work)
    if knows_no_arrays and all(verdict.outcome is Outcome.ACCEPTED for verdict in verdicts):
        limits.remember_singles_only()
    return verdicts


def _send_parts(
    transport: Transport, counters: Counters, parts: Sequence[Sequence[bytes]], limits: EndpointLimits
) -> list[SendResult]:
    """Send one part after the other; when the service is away, the rest is not tried: a sick one sees no storm."""
    verdicts: list[SendResult] = []
    for part in parts:
        if verdicts and verdicts[-1].outcome in _SAYS_NOTHING:
            verdicts += [verdicts[-1]] * len(part)
        else:
            verdicts += send_each(transport, counters, part, limits)
    return verdicts
