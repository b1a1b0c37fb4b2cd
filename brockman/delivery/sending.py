"""Triggers sent in the caller's thread, around the buffer: a single attempt, and what came of it.

`send_now` says so by an exception, for one trigger; `send_each` by a verdict on each of several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from brockman.buffer.counters import Ledger
from brockman.callbacks import Callbacks
from brockman.delivery import policy
from brockman.delivery.endpoint import Lessons
from brockman.delivery.policy import Ruling, classify
from brockman.exceptions import BadRequest, ConnectionFailed, FocusLabError, from_status
from brockman.process.clock import wall
from brockman.transport import Answer, Transport
from brockman.trigger.batch import count_fitting, encode_batch, encoded_size, parse_verdicts

_SAYS_NOTHING = (Ruling.AWAY, Ruling.SETUP)  # of the triggers that were sent


@dataclass(frozen=True)
class Verdict:
    """What came of sending one trigger.

    Attributes:
        ruling: What the answer means for this trigger; None when the client takes none, which it has counted.
        error: What `send_trigger` would raise; None when it was accepted.
        asked: The seconds that the server asks to wait; None when it does not.
    """

    ruling: Ruling | None
    error: FocusLabError | None = None
    asked: float | None = None


_ACCEPTED = Verdict(Ruling.ACCEPTED)


def send_now(transport: Transport, body: bytes) -> None:
    """Send one trigger; see `FocusLabClient.send_trigger`. Blocks.

    Raises:
        ConnectionFailed: When no answer came back.
        AnswerError: When the answer is not a success.
    """
    for verdict in _rule(_attempt(transport, body), 1) or ():
        if verdict.error is not None:
            raise verdict.error


def send_each(transport: Transport, ledger: Ledger, bodies: Sequence[bytes], lessons: Lessons) -> list[Verdict]:
    """Send triggers and return the verdict on each; those accepted are counted as delivered. Blocks.

    One attempt for each trigger: together, and if they are refused together, each alone, as far as the service is
    there. `lessons` is what is known of the endpoint, and is added to; only one thread at a time may use it.
    """
    if len(bodies) > 1 and lessons.singles_only:
        return _send_parts(transport, ledger, [[body] for body in bodies], lessons)
    fitting = count_fitting(bodies, lessons.max_bytes)
    if fitting < len(bodies):
        return _send_parts(transport, ledger, [bodies[:fitting], bodies[fitting:]], lessons)
    answer = _attempt(transport, encode_batch(bodies))
    verdicts = _rule(answer, len(bodies))
    if verdicts is None:
        assert isinstance(answer, Answer)
        return _send_alone(transport, ledger, bodies, lessons, answer)
    accepted = sum(verdict.ruling is Ruling.ACCEPTED for verdict in verdicts)
    with ledger.guard:
        ledger.delivered += accepted
        ledger.batches += accepted > 0
    lessons.arrays_work = lessons.arrays_work or (len(bodies) > 1 and accepted > 0)
    for verdict in verdicts:
        if verdict.error is not None:
            ledger.last_error = str(verdict.error)
    return verdicts


def give_up(ledger: Ledger, callbacks: Callbacks, body: bytes, error: FocusLabError) -> None:
    """Count a trigger as rejected, and tell `on_error`."""
    ledger.last_error = ledger.details["rejected"] = str(error)
    with ledger.guard:
        ledger.rejected += 1
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


def _rule(answer: Answer | ConnectionFailed, count: int) -> list[Verdict] | None:
    """Return the verdict on each of so many triggers; None when they were refused together."""
    if isinstance(answer, ConnectionFailed):
        return [Verdict(Ruling.AWAY, answer)] * count
    ruling = classify(answer.status, answer.content_type, answer.body)
    if ruling is Ruling.ACCEPTED:
        return [_ACCEPTED] * count
    if ruling is Ruling.MIXED:
        rejected = parse_verdicts(answer.body, count)
        if rejected is None:
            return [_ACCEPTED] if count == 1 else None
        return [
            Verdict(Ruling.REFUSED, BadRequest(400, rejected[index])) if index in rejected else _ACCEPTED
            for index in range(count)
        ]
    if count > 1 and ruling not in _SAYS_NOTHING:
        return None
    server_time = policy.parse_date(answer.date)
    asked = policy.parse_retry_after(answer.retry_after, wall() if server_time is None else server_time)
    return [Verdict(ruling, from_status(answer.status, answer.words), asked)] * count


def _send_alone(
    transport: Transport, ledger: Ledger, bodies: Sequence[bytes], lessons: Lessons, answer: Answer
) -> list[Verdict]:
    """Send each alone that were refused together, and learn from it."""
    ruling = classify(answer.status, answer.content_type, answer.body)
    if ruling is Ruling.TOO_LARGE:
        lessons.learn_limit(encoded_size(bodies))
    verdicts = _send_parts(transport, ledger, [[body] for body in bodies], lessons)
    knows_no_arrays = ruling is Ruling.REFUSED or (ruling is Ruling.FAULTY and not lessons.arrays_work)
    if knows_no_arrays and all(verdict.ruling is Ruling.ACCEPTED for verdict in verdicts):
        lessons.learn_singles()
    return verdicts


def _send_parts(
    transport: Transport, ledger: Ledger, parts: Sequence[Sequence[bytes]], lessons: Lessons
) -> list[Verdict]:
    """Send one part after the other; when the service is away, the rest is not tried: a sick one sees no storm."""
    verdicts: list[Verdict] = []
    for part in parts:
        if verdicts and verdicts[-1].ruling in _SAYS_NOTHING:
            verdicts += [verdicts[-1]] * len(part)
        else:
            verdicts += send_each(transport, ledger, part, lessons)
    return verdicts
