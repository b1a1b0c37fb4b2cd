"""Confirmed mode: a message is acknowledged when the endpoint has accepted its trigger, or refused it for good.

One attempt for each execution of the task, in the worker's own thread. What may pass is published anew, to come
again later; meanwhile the broker keeps it, not this process.

The first who comes takes the lead and sends what is there, which is its own. Who comes meanwhile waits. When the
lead is through, the one that has waited longest takes it, and sends for all that wait. So one that is alone waits
for nobody, and the busier it gets the larger the batches are.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from random import SystemRandom
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from celery.exceptions import Ignore, Reject, Retry

from brockman.client import FocusLabClient
from brockman.delivery import policy
from brockman.delivery.endpoint import EndpointLimits
from brockman.delivery.policy import Outcome
from brockman.delivery.sending import SendResult
from brockman.exceptions import AnswerError, ConnectionFailed, FocusLabError
from brockman.process.clock import monotonic
from brockman.process.log import Notices
from brockman.trigger.batch import count_fitting

Value = TypeVar("Value")


class _Ticket(Generic[Value]):
    """One that waits, for its verdict or for the lead."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.verdict: Value | None = None
        self.leads = False
        self.called = threading.Event()


class GroupCommit(Generic[Value]):
    """Sends for threads, or greenlets, of one process.

    Invariant, outside of `_lock`: if anything waits, exactly one ticket has the lead, or has been called to take
    it; it is at the head of what waits, or it sends. `_lock` guards `_waiting`, `_is_led` and each ticket's
    `leads`, for a few lines without I/O at a time.
    """

    def __init__(
        self,
        send: Callable[[Sequence[bytes]], Sequence[Value]],
        interrupted: Value,
        *,
        max_count: int,
        max_bytes: int,
    ) -> None:
        """Make one in the process, and after the monkey-patching, that it is used in.

        Args:
            send: Sends triggers and returns a verdict on each. Blocks.
            interrupted: The verdict on what was being sent when an exception struck the one who sent.
            max_count: How many triggers may go together.
            max_bytes: How many bytes may go together.
        """
        self._send = send
        self._interrupted = interrupted
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._waiting: deque[_Ticket[Value]] = deque()
        self._is_led = False

    def send(self, body: bytes) -> Value:
        """Send one trigger, with others if there are any, and return the verdict on it. Blocks until it is there.

        Raises:
            BaseException: What struck this thread while it sent or waited.
        """
        ticket: _Ticket[Value] = _Ticket(body)
        with self._lock:
            self._waiting.append(ticket)
            ticket.leads = not self._is_led
            self._is_led = True
        try:
            if not ticket.leads:
                ticket.called.wait()
        except BaseException:  # a time limit
            self._withdraw(ticket)
            raise
        if ticket.verdict is None:
            self._lead()
        return self._interrupted if ticket.verdict is None else ticket.verdict

    def _lead(self) -> None:
        batch, verdicts = self._take(), None
        try:
            verdicts = self._send([ticket.body for ticket in batch])
        finally:
            for number, ticket in enumerate(batch):
                ticket.verdict = self._interrupted if verdicts is None else verdicts[number]
                ticket.called.set()
            with self._lock:
                self._pass_on()

    def _take(self) -> list[_Ticket[Value]]:
        """Take the oldest that make one request; the caller's own is the first of them."""
        with self._lock:
            there = list(self._waiting)[: self._max_count]
            fitting = count_fitting([ticket.body for ticket in there], self._max_bytes)
            return [self._waiting.popleft() for _ in range(fitting)]

    def _pass_on(self) -> None:
        self._is_led = bool(self._waiting)
        if self._waiting:
            self._waiting[0].leads = True
            self._waiting[0].called.set()

    def _withdraw(self, ticket: _Ticket[Value]) -> None:
        with self._lock:
            if ticket in self._waiting:  # else it is being sent, or was
                self._waiting.remove(ticket)
                if ticket.leads:
                    self._pass_on()


_CUT_SHORT = SendResult(Outcome.UNAVAILABLE, ConnectionFailed("the attempt was cut short"))
_rand = SystemRandom().random  # unlike `random`, never in the same state as the parent's


class Task(Protocol):
    """What is asked of the task."""

    request: Any  # Celery's

    def requeue(self, body: bytes, countdown: float, faults: int = 0) -> NoReturn:
        """See `RecordTask.requeue`."""


class Confirming:
    """Sends for the tasks of one process. In threads and gevent pools, those that run at once send together."""

    def __init__(self, client: FocusLabClient) -> None:
        """Make one in the process that it is used in."""
        options = client.options
        self._client = client
        self._limits = EndpointLimits(options.max_batch_bytes, monotonic)
        self._notices = Notices()
        self._together: GroupCommit[SendResult] = GroupCommit(
            self._send, _CUT_SHORT, max_count=options.max_batch_size, max_bytes=options.max_batch_bytes
        )

    def record(self, task: Task, body: bytes, faults: int) -> bool:
        """Send a trigger; return whether the endpoint accepted it. Blocks for one attempt, or two.

        Args:
            task: The task, in its execution.
            body: The trigger.
            faults: How often it has met a 500 before.

        Raises:
            Retry: When it was published anew.
            Reject: When that failed; the broker keeps the message.
        """
        try:
            return self._settle(task, body, self._attempt(body), faults)
        except (Retry, Reject, Ignore):
            raise
        except Exception as error:  # a soft time limit: anything but the loss of a trigger
            self._say_away(f"the attempt was cut short by {type(error).__name__}")
            task.requeue(body, self._backoff(task), faults)

    def _attempt(self, body: bytes) -> SendResult:
        # A task on the main thread is alone there (the prefork and solo pools), and takes no lock: an exception
        # that a signal handler raises, such as a soft time limit, finds none.
        if threading.current_thread() is threading.main_thread():
            return self._send([body])[0]
        return self._together.send(body)

    def _send(self, bodies: Sequence[bytes]) -> list[SendResult]:
        return self._client.send_encoded(bodies, self._limits)

    def _settle(self, task: Task, body: bytes, verdict: SendResult, faults: int) -> bool:
        outcome, error = verdict.outcome, verdict.error
        if outcome is None or error is None:
            if outcome is Outcome.ACCEPTED and self._notices.over("away") | self._notices.over("setup"):
                self._notices.say(logging.INFO, "back", f"{self._client.options.endpoint} answers again")
            return outcome is Outcome.ACCEPTED
        if outcome is Outcome.MISCONFIGURED:
            self._say_setup(error)
            task.requeue(body, policy.setup_delay(task.request.retries + 1), faults)
        if outcome is Outcome.UNAVAILABLE:
            self._say_away(str(error))
            task.requeue(body, self._delay(task, verdict.asked), faults)
        if outcome is Outcome.SERVER_ERROR and faults + 1 < self._client.options.max_attempts:
            task.requeue(body, self._delay(task, verdict.asked), faults + 1)
        self._client.give_up(body, error)
        self._notices.say(logging.WARNING, "rejected", f"a trigger is lost: {error}")
        return False

    def _delay(self, task: Task, asked: float | None) -> float:
        """Return the seconds until the next attempt: those that the server asks for, and some, or our own."""
        options = self._client.options
        if asked is not None:
            return asked + policy.backoff(1, options.backoff_base, options.backoff_cap, _rand)
        return self._backoff(task)

    def _backoff(self, task: Task) -> float:
        options = self._client.options
        return policy.backoff(task.request.retries + 1, options.backoff_base, options.backoff_cap, _rand)

    def _say_away(self, cause: str) -> None:
        endpoint = self._client.options.endpoint
        self._notices.say(logging.WARNING, "away", f"{endpoint} is away ({cause}); triggers stay with the broker")

    def _say_setup(self, error: FocusLabError) -> None:
        status = error.status if isinstance(error, AnswerError) else 0
        advice = "check api_key (FL_API_KEY)" if status in (401, 403) else "check endpoint (FL_ENDPOINT)"
        text = f"{self._client.options.endpoint}: {error}: {advice}; until then triggers stay with the broker"
        self._notices.say(logging.ERROR, "setup", text)
