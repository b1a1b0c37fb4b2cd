"""Bring one batch to its end: the only place that decides to retry, to halve or to hold.

The triggers of a batch are settled strictly from the oldest to the newest, so that the buffer needs to know only
how many. One attempt at a time: a sick server sees no storm.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import Protocol

from brockman.buffer.counters import Callbacks, Counters
from brockman.delivery import policy
from brockman.delivery.endpoint import EndpointLimits
from brockman.delivery.policy import Outcome
from brockman.delivery.report import Report
from brockman.exceptions import ConnectionFailed, FocusLabError, from_status
from brockman.options import Options
from brockman.process.clock import monotonic, wall
from brockman.transport import Answer, Transport
from brockman.trigger.batch import encode_batch, encoded_size, halve, parse_verdicts

_ADVICE = {
    401: "check api_key (FL_API_KEY)",
    403: "check api_key (FL_API_KEY)",
    404: "check endpoint (FL_ENDPOINT)",
    407: "check the proxy's user and password",
}


_CROWDED = 4  # when one in so many of `max_queue_size` wait, batches grow
_LONGEST = 10  # to so many times `max_batch_size`, as far as the bytes allow


class DeliveryStopped(BaseException):
    """Raised out of a wait when the client closes and its time is over. What is in flight stays in flight."""


class Pause(Protocol):
    """Waits until the next attempt; raises `DeliveryStopped` when there is to be none."""

    def __call__(self, seconds: float, *, server_requested: bool) -> None: ...


Settle = Callable[[int, bool], None]


class Delivery:
    """Delivers batches, one after the other. Belongs to the flusher's role."""

    def __init__(
        self,
        options: Options,
        transport: Transport,
        settle: Settle,
        counters: Counters,
        callbacks: Callbacks,
        report: Report,
        pause: Pause,
        time_left: Callable[[], float | None],
        *,
        clock: Callable[[], float] = monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        """Wire a delivery.

        Args:
            options: The settings.
            transport: What sends.
            settle: Takes how many of the oldest in flight are at their end, and whether they were delivered.
            counters: Where retries, batches and the last error are noted.
            callbacks: Told of what the server refuses.
            report: Told of outages.
            pause: Waits between attempts.
            time_left: Returns the seconds that an attempt may take; None leaves it to the transport.
            clock: Seconds that only move forward.
            rand: A number from 0 up to 1, for the jitter.
        """
        self._options = options
        self._transport = transport
        self._settle = settle
        self._counters = counters
        self._callbacks = callbacks
        self._report = report
        self._pause = pause
        self._time_left = time_left
        self._rand = rand
        self._limits = EndpointLimits(options.max_batch_bytes, clock)
        self._part_accepted = False  # of the batch at hand: then a 500 is the fault of what was sent

    @property
    def max_bytes(self) -> int:
        """How many bytes the next batch may have, as far as the endpoint has taught."""
        return self._limits.max_bytes

    def max_count(self, waiting: int) -> int:
        """Return how many triggers the next batch may have.

        A backlog goes in longer ones: over a network with a delay the triggers in a second are those in a request
        by the round trips in a second.
        """
        most = self._options.max_batch_size
        if waiting * _CROWDED > self._options.max_queue_size and self._limits.takes_long:
            return most * _LONGEST
        return most

    def deliver(self, bodies: Sequence[bytes]) -> None:
        """Settle every trigger of a batch, however long it takes. Blocks.

        Raises:
            DeliveryStopped: As `pause` does.
        """
        self._part_accepted = False
        self._deliver(bodies)

    def _deliver(self, bodies: Sequence[bytes]) -> bool:
        """Settle these; return whether each was accepted as a single object."""
        if len(bodies) > 1 and self._limits.singles_only:
            return min([self._deliver([body]) for body in bodies])
        if len(bodies) > 1 and encoded_size(bodies) > self._limits.max_bytes:
            return self._deliver_halves(bodies)
        outcome, answer = self._send_until_decided(bodies)
        if outcome is Outcome.PARTIAL:
            verdicts = parse_verdicts(answer.body, len(bodies))
            if verdicts is not None or len(bodies) == 1:
                self._settle_each(bodies, verdicts or {}, answer)
                return False
            return self._deliver_halves(bodies)  # no readable verdict: that on half of them is shorter
        if outcome is Outcome.ACCEPTED:
            self._accepted(bodies)
            return len(bodies) == 1
        if len(bodies) == 1:
            self._reject(bodies[0], from_status(answer.status, answer.words))
            return False
        if len(bodies) > self._options.max_batch_size and outcome is not Outcome.TOO_LARGE:
            self._limits.remember_short_arrays()
        if outcome is Outcome.TOO_LARGE:
            self._limits.remember_size(encoded_size(bodies))
        alone = self._deliver_halves(bodies)
        if alone and outcome is Outcome.REFUSED:
            self._limits.remember_singles_only()
        return alone

    def _deliver_halves(self, bodies: Sequence[bytes]) -> bool:
        older, newer = [self._deliver(half) for half in halve(bodies)]
        return older and newer

    def _send_until_decided(self, bodies: Sequence[bytes]) -> tuple[Outcome, Answer]:
        """Send until the answer rules on these triggers. What says nothing of them is waited out, for ever."""
        body = encode_batch(bodies)
        faults = failures = misconfigured = 0
        while True:
            answer = self._send(body)
            if isinstance(answer, ConnectionFailed):
                outcome = Outcome.UNAVAILABLE
            else:
                outcome = policy.classify(answer.status, answer.content_type, answer.body)
                if outcome is Outcome.SERVER_ERROR:
                    faults += 1
                    outcome = self._decide_on_server_error(len(bodies), faults)
                if outcome not in (Outcome.UNAVAILABLE, Outcome.MISCONFIGURED):
                    self._report.over()
                    return outcome, answer
            if outcome is Outcome.MISCONFIGURED:
                misconfigured += 1
                delay, server_requested = policy.setup_delay(misconfigured), False
            else:
                failures += 1
                delay, server_requested = self._delay(answer, failures)
            self._hold(outcome, answer)
            self._pause(delay, server_requested=server_requested)
            self._counters.retries += 1

    def _decide_on_server_error(self, count: int, faults: int) -> Outcome:
        """Rule on a 500: away for now, refused (arrays may be unknown here), or the fault of what was sent."""
        if count > 1 and not self._limits.arrays_work:
            return Outcome.REFUSED
        if count > self._options.max_batch_size:  # it may be that there are too many
            return Outcome.REFUSED
        if faults >= self._options.max_attempts or (count > 1 and self._part_accepted):
            return Outcome.SERVER_ERROR
        return Outcome.UNAVAILABLE

    def _send(self, body: bytes) -> Answer | ConnectionFailed:
        try:
            return self._attempt(body)
        except ConnectionFailed as error:
            if not error.stale:
                return error
        self._counters.retries += 1  # over a fresh connection, at once: the server had hung up while it was idle
        try:
            return self._attempt(body)
        except ConnectionFailed as error:
            return error

    def _attempt(self, body: bytes) -> Answer:
        left = self._time_left()
        if left is not None and left <= 0:
            raise DeliveryStopped
        return self._transport.send(body, left)

    def _delay(self, answer: Answer | ConnectionFailed, failures: int) -> tuple[float, bool]:
        """Return the seconds to wait, and whether the server asked for them."""
        jitter = policy.backoff(failures, self._options.backoff_base, self._options.backoff_cap, self._rand)
        if isinstance(answer, ConnectionFailed):
            return jitter, False
        server_time = policy.parse_date(answer.date)
        asked = policy.parse_retry_after(answer.retry_after, wall() if server_time is None else server_time)
        if asked is None:
            return jitter, False
        return asked + policy.backoff(1, self._options.backoff_base, self._options.backoff_cap, self._rand), True

    def _hold(self, outcome: Outcome, answer: Answer | ConnectionFailed) -> None:
        endpoint = self._options.endpoint
        if isinstance(answer, ConnectionFailed):
            self._counters.last_error = str(answer)
            self._report.trouble(logging.WARNING, f"{endpoint} is away ({answer}); triggers are held and retried")
            return
        self._counters.last_error = str(from_status(answer.status, answer.words))
        if outcome is not Outcome.MISCONFIGURED:
            text = f"{endpoint} is away (status {answer.status}); triggers are held and retried"
            self._report.trouble(logging.WARNING, text)
            return
        if 300 <= answer.status < 400:
            advice = f"it redirects to {answer.location!r}, which is not followed; check endpoint (FL_ENDPOINT)"
        elif 200 <= answer.status < 300:
            advice = "an HTML page came back, as from a captive portal or proxy; check endpoint (FL_ENDPOINT)"
        else:
            advice = _ADVICE.get(answer.status, "check api_key and endpoint (FL_API_KEY, FL_ENDPOINT)")
        text = f"{endpoint} answers {answer.status}: {advice}; until then triggers are held"
        self._report.trouble(logging.ERROR, text)

    def _accepted(self, bodies: Sequence[bytes]) -> None:
        self._part_accepted = True
        self._limits.arrays_work = self._limits.arrays_work or len(bodies) > 1
        self._settle(len(bodies), True)
        self._counters.batches += 1

    def _settle_each(self, bodies: Sequence[bytes], verdicts: dict[int, str], answer: Answer) -> None:
        """Settle by the verdicts of a 207, in order, in runs of the same verdict."""
        self._part_accepted = True
        self._limits.arrays_work = self._limits.arrays_work or len(bodies) > 1
        self._counters.batches += 1
        settled = 0
        for index in sorted(verdicts):
            if index > settled:
                self._settle(index - settled, True)
            self._reject(bodies[index], from_status(400, verdicts[index]))
            settled = index + 1
        if len(bodies) > settled:
            self._settle(len(bodies) - settled, True)

    def _reject(self, body: bytes, error: FocusLabError) -> None:
        self._counters.last_error = self._counters.details["rejected"] = str(error)
        self._settle(1, False)
        self._callbacks.refused(error, (body,))
