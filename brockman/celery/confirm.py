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
from brockman.delivery.policy import INCONCLUSIVE, Outcome, SendResult
from brockman.exceptions import ConnectionFailed
from brockman.process.log import Log
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


_INTERRUPTED = SendResult(Outcome.UNAVAILABLE, ConnectionFailed("the attempt was interrupted"))
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
        self._engine = client._current().make_engine()
        self._log = Log()
        self._together: GroupCommit[SendResult | None] = GroupCommit(
            self._send, _INTERRUPTED, max_count=options.max_batch_size, max_bytes=options.max_batch_bytes
        )

    def record(self, task: Task, body: bytes, faults: int) -> bool:
        """Send a trigger; return whether the endpoint accepted it. Blocks for one attempt, or two.

        Args:
            task: The task, in its execution.
            body: The trigger.
            faults: How often it has met a 500 before.

        Raises:
            Retry: When it was published again.
            Reject: When that failed; the broker keeps the message.
        """
        try:
            return self._settle(task, body, self._attempt(body), faults)
        except (Retry, Reject, Ignore):
            raise
        except Exception as error:  # a soft time limit: anything but the loss of a trigger
            interrupted = SendResult(
                Outcome.UNAVAILABLE, ConnectionFailed(f"the attempt was interrupted by {type(error).__name__}")
            )
            self._settle(task, body, interrupted, faults)
            raise

    def _attempt(self, body: bytes) -> SendResult | None:
        # A task on the main thread is alone there (the prefork and solo pools), and takes no lock: an exception
        # that a signal handler raises, such as a soft time limit, finds none.
        if threading.current_thread() is threading.main_thread():
            return self._send([body])[0]
        return self._together.send(body)

    def _send(self, bodies: Sequence[bytes]) -> Sequence[SendResult | None]:
        """Return what became of each; None when the client is closed, and has counted it."""
        if self._client._refusal is not None:
            return [None for _ in bodies if not self._client._refuse()]
        return self._client._current().send_each(self._engine, bodies)

    def _settle(self, task: Task, body: bytes, result: SendResult | None, faults: int) -> bool:
        endpoint = self._client.options.endpoint
        if result is None:
            return False
        if result.error is None:
            if self._log.over("endpoint", f"{endpoint} answers again"):
                self._log.write()
            return True
        if result.outcome in INCONCLUSIVE:
            level = logging.ERROR if result.outcome is Outcome.MISCONFIGURED else logging.WARNING
            self._log.trouble(
                "endpoint", level, policy.describe(result, endpoint, "triggers are kept by the broker")
            )
            self._log.write()
            task.requeue(body, self._delay(task, result), faults)
        if result.outcome is Outcome.SERVER_ERROR and faults + 1 < self._client.options.max_attempts:
            task.requeue(body, self._delay(task, result), faults + 1)
        self._client._current().reject(body, result.error)
        self._log.event("rejected", logging.WARNING, f"a trigger is rejected: {result.error}")
        return False

    def _delay(self, task: Task, result: SendResult) -> float:
        """Return the seconds until the message is delivered again."""
        options = self._client.options
        return policy.delay(result, task.request.retries + 1, options.backoff_base, options.backoff_cap, _rand)
