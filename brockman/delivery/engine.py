"""Bring a batch to its end: the only place that decides to retry, to split or to hold.

The engine is a generator of two events. It knows no buffer, counter, thread or Celery: its user counts what is
settled and waits while triggers are held. Callbacks run between two steps, so none of their exceptions unwinds it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from logging import DEBUG

from brockman.delivery import policy
from brockman.delivery.endpoint import EndpointLimits
from brockman.delivery.policy import ACCEPTED, INCONCLUSIVE, Outcome, SendResult
from brockman.exceptions import ConnectionFailed
from brockman.options import Options
from brockman.process.clock import wall
from brockman.process.log import is_debug, say
from brockman.transport import Answer, Transport
from brockman.trigger.batch import encode_batch, encoded_size, halve

_BACKLOG_SHARE = 4  # when one in this many of `max_queue_size` wait, batches grow
_BACKLOG_FACTOR = 10  # to this many times `max_batch_size`, as far as the bytes allow

TimeLeft = Callable[[], "float | None"]


@dataclass(frozen=True)
class Settled:
    """The oldest triggers that were not settled have come to their end.

    Attributes:
        bodies: The triggers.
        result: What became of them: accepted, or why each is refused.
        ends_request: Whether they are the last of a request that was accepted in whole or in part.
        resent: Requests that were sent again at once since the last event.
    """

    bodies: Sequence[bytes]
    result: SendResult
    ends_request: bool
    resent: int

    @property
    def is_accepted(self) -> bool:
        """True when the server has accepted them."""
        return self.result.outcome is Outcome.ACCEPTED


@dataclass(frozen=True)
class Held:
    """Nothing is settled: wait before the next step.

    Attributes:
        result: Why; None when no time was left for an attempt.
        seconds: How long to wait.
        is_final: Whether there is no next step.
        resent: Requests that were sent again at once since the last event.
    """

    result: SendResult | None
    seconds: float
    is_final: bool
    resent: int


class _Plan:
    """The rest of a batch, in pieces that are sent one by one, and what is known of its arrays."""

    def __init__(self, bodies: Sequence[bytes]) -> None:
        self.pieces: deque[Sequence[bytes]] = deque([bodies] if bodies else ())
        self.is_part_accepted = False  # then a 500 is the fault of what was sent
        self._accepted_alone: list[bool] = []  # of each settled trigger
        self._refused_arrays: list[tuple[int, int]] = []

    def split(self, *, singles: bool = False) -> None:
        piece = self.pieces.popleft()
        self.pieces.extendleft(reversed([[body] for body in piece] if singles else halve(piece)))

    def note_refused_array(self) -> None:
        start = len(self._accepted_alone)
        self._refused_arrays.append((start, start + len(self.pieces[0])))

    def settle(self, count: int, *, alone: bool) -> bool:
        """Return whether all triggers of an array that was refused are settled now, each accepted alone."""
        self._accepted_alone += [alone] * count
        ended = [array for array in self._refused_arrays if array[1] <= len(self._accepted_alone)]
        self._refused_arrays = [array for array in self._refused_arrays if array not in ended]
        return any(all(self._accepted_alone[start:stop]) for start, stop in ended)


class Engine:
    """Sends batches to one endpoint, one attempt at a time: a sick server sees no storm. Not thread-safe.

    Triggers are settled strictly from the oldest to the newest, so a buffer needs to know only how many.
    """

    def __init__(
        self, options: Options, transport: Transport, clock: Callable[[], float], rand: Callable[[], float]
    ) -> None:
        self.limits = EndpointLimits(options.max_batch_bytes, clock)
        self._options = options
        self._transport = transport
        self._clock = clock
        self._rand = rand

    def max_count(self, waiting: int) -> int:
        """Return how many triggers the next batch may have when this many wait.

        A backlog goes in longer batches: over a network with a delay, throughput is the triggers in a request
        times the round trips in a second.
        """
        most = self._options.max_batch_size
        if waiting * _BACKLOG_SHARE > self._options.max_queue_size and self.limits.takes_long:
            return most * _BACKLOG_FACTOR
        return most

    def deliver(
        self, bodies: Sequence[bytes], time_left: TimeLeft = lambda: None, *, once: bool = False
    ) -> Iterator[Settled | Held]:
        """Send triggers until each is settled, and yield what happens. Each step blocks for one attempt.

        For a single trigger it neither reads nor changes what was learned of the endpoint.

        Args:
            bodies: The triggers, oldest first.
            time_left: Returns the seconds that an attempt may take: with 0 delivery ends, held; None leaves it to
                the transport.
            once: One attempt for each trigger: the first `Held` is final, and a trigger that meets a 500 alone is
                settled with `SERVER_ERROR`.
        """
        plan = _Plan(bodies)
        failures: Counter[bool] = Counter()  # in a row: by whether the set-up is wrong
        server_errors = resent = 0
        while plan.pieces:
            piece = plan.pieces[0]
            if len(piece) > 1 and (self.limits.singles_only or encoded_size(piece) > self.limits.max_bytes):
                plan.split(singles=self.limits.singles_only)
                continue
            answer, resends = self._send(encode_batch(piece), len(piece), time_left)
            resent += resends
            if answer is None:
                yield Held(None, 0.0, True, resent)
                return
            result = policy.judge(answer, len(piece), wall())
            server_errors += result.outcome is Outcome.SERVER_ERROR
            if result.outcome in INCONCLUSIVE or (not once and self._may_pass(result, plan, server_errors)):
                is_setup = result.outcome is Outcome.MISCONFIGURED
                failures[is_setup] += 1
                yield Held(result, self._delay(result, failures[is_setup]), once, resent)
                if once:
                    return
                resent = 0
                continue
            failures.clear()
            server_errors = 0
            if len(piece) == 1 or result.is_decided:
                yield from self._settle(plan, result, resent)
                resent = 0
            else:
                self._learn_from_refusal(plan, result)
                plan.split()

    def _send(self, body: bytes, count: int, time_left: TimeLeft) -> tuple[Answer | ConnectionFailed | None, int]:
        """Return the answer, or why there is none (None: no time was left), and how often it was sent again."""
        resends = 0
        while True:
            left = time_left()
            if left is not None and left <= 0:
                return None, resends
            started = self._clock()
            try:
                answer = self._transport.send(body, left)
            except ConnectionFailed as error:
                self._log_attempt(count, body, str(error), started)
                if not error.stale or resends:
                    return error, resends
            else:
                self._log_attempt(count, body, str(answer.status), started)
                return answer, resends
            resends += 1  # at once, over a new connection: the server had closed the idle one

    def _log_attempt(self, count: int, body: bytes, result: str, started: float) -> None:
        if is_debug():
            milliseconds = 1000 * (self._clock() - started)
            say(DEBUG, f"sent {count} triggers, {len(body)} bytes: {result} in {milliseconds:.0f} ms")

    def _may_pass(self, result: SendResult, plan: _Plan, server_errors: int) -> bool:
        """Return whether a 500 is worth another attempt; otherwise it is the fault of what was sent."""
        count = len(plan.pieces[0])
        if result.outcome is not Outcome.SERVER_ERROR or (count > 1 and self._may_refuse_arrays(count)):
            return False
        return server_errors < self._options.max_attempts and not (count > 1 and plan.is_part_accepted)

    def _may_refuse_arrays(self, count: int) -> bool:
        """Return whether a 500 to an array may mean that the endpoint takes none, or none this long."""
        return not self.limits.arrays_work or count > self._options.max_batch_size

    def _delay(self, result: SendResult, failures: int) -> float:
        options = self._options
        return policy.delay(result, failures, options.backoff_base, options.backoff_cap, self._rand)

    def _settle(self, plan: _Plan, result: SendResult, resent: int) -> Iterator[Settled]:
        piece = plan.pieces.popleft()
        settled = 0
        for bodies, each in _runs(piece, result):
            settled += len(bodies)
            yield Settled(bodies, each, result.is_decided and settled == len(piece), resent)
            resent = 0
        # Learned after it was counted: an exception that strikes in between doubles nothing.
        if result.is_decided:
            plan.is_part_accepted = True
            if len(piece) > 1:  # not for a single: another thread may send one meanwhile
                self.limits.arrays_work = True
        if plan.settle(len(piece), alone=len(piece) == 1 and result.outcome is Outcome.ACCEPTED):
            self.limits.remember_singles_only()

    def _learn_from_refusal(self, plan: _Plan, result: SendResult) -> None:
        piece = plan.pieces[0]
        if result.outcome is Outcome.TOO_LARGE:
            self.limits.remember_size(encoded_size(piece))
        elif result.outcome is not Outcome.PARTIAL:  # that one was unreadable: half of it is shorter
            if len(piece) > self._options.max_batch_size:
                self.limits.remember_short_arrays()
            if result.outcome is Outcome.REFUSED or self._may_refuse_arrays(len(piece)):
                plan.note_refused_array()


def _runs(bodies: Sequence[bytes], result: SendResult) -> Iterator[tuple[Sequence[bytes], SendResult]]:
    """Yield the triggers of a request in order, in runs of the same result."""
    if result.rejected is None:
        yield bodies, result
        return
    start = 0
    for index in sorted(result.rejected):
        if index > start:
            yield bodies[start:index], ACCEPTED
        yield bodies[index : index + 1], SendResult(Outcome.REFUSED, result.rejected[index])
        start = index + 1
    if start < len(bodies):
        yield bodies[start:], ACCEPTED
