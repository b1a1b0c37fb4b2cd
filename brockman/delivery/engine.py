"""Bring a batch to its end: the only place that decides to retry, to split or to hold.

The engine is a generator of two events. It knows no buffer, counter, thread or Celery: its user counts what is
settled and waits while triggers are held. Callbacks run between two steps, so none of their exceptions unwinds it.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from logging import DEBUG

from brockman.delivery import policy
from brockman.delivery.endpoint import EndpointLimits
from brockman.delivery.plan import Piece, Plan
from brockman.delivery.policy import ACCEPTED, INCONCLUSIVE, Outcome, SendResult
from brockman.exceptions import ConnectionFailed
from brockman.options import Options
from brockman.process.clock import wall
from brockman.process.log import count_of, is_debug, say
from brockman.transport import Answer, Transport
from brockman.trigger.batch import count_fitting, encode_batch, encoded_size

_BACKLOG = 2500  # when more triggers wait, batches grow
_BACKLOG_SHARE = 4  # or when one in this many of `max_queue_size` wait, if that is less
_BACKLOG_FACTOR = 10  # to this many times `max_batch_size`, as far as the bytes allow
_CONFIRMATIONS = 2  # in a row: of two servers behind a balancer, one may be broken
_FIRST_SUSPECTS, _MOST_SUSPECTS = 8, 512  # triggers that a page may refuse before a wait; doubled by each wait

TimeLeft = Callable[[], "float | None"]
Bodies = Sequence[bytes]
TakeMore = Callable[[], Bodies]


@dataclass(frozen=True)
class Settled:
    """The oldest triggers that were not settled have come to their end.

    Attributes:
        bodies: The triggers.
        result: What became of them: accepted, or why each is refused.
        ends_request: Whether they are the last of a request that was accepted in whole or in part.
        resent: Requests that were sent again at once since the last event.
        repeated: See `SendResult`; None but for the last triggers of a request.
    """

    bodies: Bodies
    result: SendResult
    ends_request: bool
    resent: int
    repeated: int | None

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
        is_final: Whether there is no next step: the triggers may be delivered again, with others behind them.
        resent: Requests that were sent again at once since the last event.
    """

    result: SendResult | None
    seconds: float
    is_final: bool
    resent: int


class _Step(enum.Enum):
    """The step that follows an answer."""

    GO_ON = "send the next piece"
    HOLD = "wait, and send it again"
    HOLD_FOR_OTHERS = "wait, and deliver it with other triggers: one of them has to be accepted"
    SETTLE = "settle the first piece"
    SPLIT = "send the first piece in halves"


class Engine:
    """Sends batches to one endpoint, one attempt at a time: a sick server sees no storm. Not thread-safe.

    Triggers are settled strictly from the oldest to the newest, so a buffer needs to know only how many.

    Attributes:
        limits: What was learned of the endpoint.
        target: The endpoint's URL, or the class of a transport of the user's.
    """

    def __init__(
        self, options: Options, transport: Transport, clock: Callable[[], float], rand: Callable[[], float]
    ) -> None:
        self.target: str = getattr(transport, "target", options.endpoint)
        self.limits = EndpointLimits(options.max_batch_bytes, clock)
        self._options = options
        self._transport = transport
        self._clock = clock
        self._rand = rand
        self._failures: Counter[bool] = Counter()  # in a row: by whether the set-up is wrong
        self._unanswered = 0  # requests in a row that broke off while they were sent
        self._has_accepted = False  # since the last failure, or verdict by page: vouches for the next one
        self._suspect: bytes | None = None  # the oldest trigger that a page refused, when nothing could vouch
        self._max_suspects = _FIRST_SUSPECTS
        self._known: dict[bytes, SendResult] = {}  # of triggers that were sent ahead of their turn

    def max_count(self, waiting: int) -> int:
        """Return how many triggers the next batch may have when this many wait.

        A backlog goes in longer batches: over a network with a delay, throughput is the triggers in a request
        times the round trips in a second.
        """
        backlog = min(_BACKLOG, self._options.max_queue_size // _BACKLOG_SHARE)
        return self._longest_array if waiting > backlog else self._options.max_batch_size

    @property
    def _longest_array(self) -> int:
        return self._options.max_batch_size * (_BACKLOG_FACTOR if self.limits.takes_long else 1)

    def deliver(
        self, bodies: Bodies, time_left: TimeLeft = lambda: None, more: TakeMore = tuple, *, once: bool = False
    ) -> Iterator[Settled | Held]:
        """Send triggers until each is settled, and yield what happens. Each step blocks for one attempt.

        Args:
            bodies: The triggers, oldest first.
            time_left: Returns the seconds that an attempt may take: with 0 delivery ends, held; None leaves it to
                the transport.
            more: Returns the triggers to settle next, one of which may be accepted where a page refused all
                others; none when there are none.
            once: One attempt for each trigger: the first `Held` is final, and a trigger that meets a 500 alone is
                settled with `SERVER_ERROR`.
        """
        plan = self._plan(bodies, more)
        server_errors = resent = 0
        while plan.pieces:
            piece = plan.next_piece()
            if piece.result is not None:
                yield from self._settle(plan, piece.result, resent)
                resent = 0
                continue
            if len(piece.bodies) > 1 and self._cut_to_limits(plan):
                continue
            answer, resends = self._send(piece.bodies, time_left)
            resent += resends
            result = None if answer is None else policy.judge(answer, len(piece.bodies), wall())
            if plan.known_result and (result is None or self._is_last_attempt(result, time_left, once=once)):
                yield from self._settle_suspects(plan, resent)
                resent = 0
                continue
            if result is None:
                yield Held(None, 0.0, True, resent)
                return
            server_errors += piece is plan.front and result.outcome in (Outcome.SERVER_ERROR, Outcome.TOO_LARGE)
            step = self._next_step(plan, piece, result, None if once else server_errors)
            if step in (_Step.HOLD, _Step.HOLD_FOR_OTHERS):
                is_final = once or step is _Step.HOLD_FOR_OTHERS
                yield self._hold(plan, result, time_left, is_final=is_final, resent=resent)
                resent = 0
                if is_final:
                    return
            elif step is _Step.SETTLE:
                yield from self._settle(plan, result, resent)
                server_errors = resent = 0
            elif step is _Step.SPLIT:
                self._learn_from_refusal(plan, result)
                plan.halve()
                server_errors = 0

    def _plan(self, bodies: Bodies, take_more: TakeMore) -> Plan:
        if self._known:  # others, which Celery's broker took back, may never come again
            self._known = {body: self._known[body] for body in bodies if body in self._known}
        plan = Plan(bodies, self._suspect, self._known, take_more)
        if self._suspect is not None:
            self._extend(plan)
        return plan

    def _cut_to_limits(self, plan: Plan) -> bool:
        """Return whether the first piece was larger than the endpoint takes, and is split now."""
        bodies = plan.front.bodies
        count = 1 if self.limits.singles_only else count_fitting(bodies, self.limits.max_bytes)
        count = min(count, self._longest_array)  # more may be in flight: those that were to vouch for suspects
        if count < len(bodies):
            plan.cut(plan.front, count)
        return count < len(bodies)

    def _send(self, bodies: Bodies, time_left: TimeLeft) -> tuple[Answer | ConnectionFailed | None, int]:
        """Return the answer, or why there is none (None: no time was left), and how often it was sent again."""
        body, count, resends = encode_batch(bodies), len(bodies), 0
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
            say(DEBUG, f"sent {count_of(count, 'trigger')}, {len(body)} bytes: {result} in {milliseconds:.0f} ms")

    def _next_step(self, plan: Plan, piece: Piece, result: SendResult, server_errors: int | None) -> _Step:
        """Return the step that follows a result. `server_errors` counts those in a row; None means one attempt."""
        is_single = len(piece.bodies) == 1
        if result.outcome in INCONCLUSIVE:
            return _Step.HOLD
        if piece is not plan.front:
            if result.is_decided or (result.outcome is Outcome.REFUSED and not result.by_page):
                self._known[piece.bodies[0]] = result
                plan.note(piece, result)
                return _Step.GO_ON
            return self._suspect_trigger(plan, piece, result)
        if result.by_page and is_single:
            if not (plan.is_vouched or self._was_vouched(plan)):
                return self._suspect_trigger(plan, piece, result)
            piece.confirmations += 1
            if piece.confirmations < _CONFIRMATIONS:
                return _Step.GO_ON
        if server_errors is not None and self._may_pass(result, plan, server_errors):
            return _Step.HOLD
        return _Step.SETTLE if is_single or result.is_decided else _Step.SPLIT

    def _suspect_trigger(self, plan: Plan, piece: Piece, result: SendResult) -> _Step:
        """Note a suspect; go on with another trigger, which may be accepted, while there is one."""
        plan.suspect(piece, result)
        if plan.suspects < self._max_suspects and (plan.has_candidate or self._extend(plan)):
            return _Step.GO_ON
        self._suspect = plan.front.bodies[0]
        self._max_suspects = min(2 * self._max_suspects, _MOST_SUSPECTS)
        return _Step.HOLD_FOR_OTHERS

    def _was_vouched(self, plan: Plan) -> bool:
        """Return whether a trigger was accepted before, and there is none left that may be accepted now."""
        may_be = plan.is_fresh or (plan.is_lone and self._has_accepted)
        return may_be and not (plan.has_candidate or self._extend(plan))

    def _extend(self, plan: Plan) -> bool:
        """Add triggers that may vouch for a suspect; return whether there were any."""
        return plan.count < _BACKLOG_FACTOR * self._options.max_batch_size and plan.extend()

    def _may_pass(self, result: SendResult, plan: Plan, server_errors: int) -> bool:
        """Return whether a 500 is worth another attempt; otherwise it is the fault of what was sent.

        So is a 413 to a trigger: when larger requests have passed, its size is not the reason.
        """
        bodies = plan.front.bodies
        count = len(bodies)
        if result.outcome is Outcome.TOO_LARGE:
            return (
                count == 1
                and len(bodies[0]) <= self.limits.size.largest_passed
                and server_errors < self._options.max_attempts
            )
        if result.outcome is not Outcome.SERVER_ERROR or (count > 1 and self._may_refuse_arrays(count)):
            return False
        return server_errors < self._options.max_attempts and not (count > 1 and plan.is_part_accepted)

    def _may_refuse_arrays(self, count: int) -> bool:
        """Return whether a 500 to an array may mean that the endpoint takes none, or none this long."""
        return not self.limits.arrays_work or count > self._options.max_batch_size

    def _hold(self, plan: Plan, result: SendResult, time_left: TimeLeft, *, is_final: bool, resent: int) -> Held:
        if result.by_page:  # nothing has vouched for it
            result = replace(result, outcome=Outcome.MISCONFIGURED, retry_after=None)
        self._note_unanswered(plan, result, is_cut_short=time_left() is not None)
        is_setup = result.outcome is Outcome.MISCONFIGURED
        self._failures[is_setup] += 1
        self._has_accepted = False
        plan.note_wait()
        options = self._options
        seconds = policy.delay(
            result, self._failures[is_setup], options.backoff_base, options.backoff_cap, self._rand
        )
        return Held(result, seconds, is_final, resent)

    def _note_unanswered(self, plan: Plan, result: SendResult, *, is_cut_short: bool) -> None:
        """Send half next time if requests break off while they are sent: a firewall, or a slow link.

        One failure is enough for a probe, and after the first half; otherwise it takes two.
        """
        broke_off = isinstance(result.error, ConnectionFailed) and result.error.unanswered and not is_cut_short
        self._unanswered = self._unanswered + 1 if broke_off else 0
        bodies, size = plan.front.bodies, self.limits.size
        if broke_off and len(bodies) > 1 and (self._unanswered > 1 or size.is_probe(encoded_size(bodies))):
            size.refused(encoded_size(bodies))

    def _is_last_attempt(self, result: SendResult, time_left: TimeLeft, *, once: bool) -> bool:
        return result.outcome in INCONCLUSIVE and (once or time_left() is not None)

    def _settle_suspects(self, plan: Plan, resent: int) -> Iterator[Settled]:
        """Settle suspects, and the trigger that vouches for them, when there is no time to send them once more."""
        while plan.pieces and (result := plan.known_result) is not None:
            yield from self._settle(plan, result, resent)
            resent = 0

    def _settle(self, plan: Plan, result: SendResult, resent: int) -> Iterator[Settled]:
        piece = plan.front
        settled = 0
        for bodies, each in _runs(piece.bodies, result):
            settled += len(bodies)
            is_last = settled == len(piece.bodies)
            repeated = result.repeated if is_last else None
            yield Settled(bodies, each, result.is_decided and is_last, resent, repeated)
            resent = 0
        # Learned after it was counted: an exception that strikes in between doubles nothing.
        self._failures.clear()
        self._unanswered = 0
        self._suspect, self._max_suspects = None, _FIRST_SUSPECTS
        if self._known:
            self._known.pop(piece.bodies[0], None)
        if result.is_decided:
            self._has_accepted = self._has_accepted or not plan.is_vouched
            self.limits.size.passed(encoded_size(piece.bodies))
            if len(piece.bodies) > 1:
                self.limits.remember_array()
        elif result.by_page:
            self._has_accepted = False
        if plan.settle(result):
            self.limits.remember_singles_only()

    def _learn_from_refusal(self, plan: Plan, result: SendResult) -> None:
        bodies = plan.front.bodies
        if not result.by_page:
            self._failures.clear()
        if result.outcome is Outcome.TOO_LARGE:
            self.limits.size.refused(encoded_size(bodies))
        elif result.outcome is not Outcome.PARTIAL:  # that one was unreadable: half of it is shorter
            if len(bodies) > self._options.max_batch_size:
                self.limits.remember_short_arrays()
            if result.outcome is Outcome.REFUSED or self._may_refuse_arrays(len(bodies)):
                plan.note_refused_array()


def _runs(bodies: Bodies, result: SendResult) -> Iterator[tuple[Bodies, SendResult]]:
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
