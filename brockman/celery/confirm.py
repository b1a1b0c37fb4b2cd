"""Confirmed mode: a message is acknowledged when the endpoint has accepted its trigger, or rejected it for good.

Each execution of the task makes one attempt, in the worker's own thread. After a failure that may pass, the
trigger is published again with a delay: it waits in the broker, not in this process.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from random import SystemRandom
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

from celery.exceptions import Ignore, Reject, Retry

from brockman.delivery import policy
from brockman.delivery.policy import INCONCLUSIVE, Outcome, SendResult
from brockman.exceptions import ConnectionFailed
from brockman.process.log import Log
from brockman.trigger.batch import count_fitting

if TYPE_CHECKING:
    from brockman.celery.task import RecordTask
    from brockman.client import FocusLabClient

Result = TypeVar("Result")


class _Entry(Generic[Result]):
    def __init__(self, body: bytes, interrupted: Result) -> None:
        self.body = body
        self.result = interrupted
        self.is_done = False
        self.is_leader = False
        self.ready = threading.Event()  # the trigger is done, or its thread is to lead


class Batcher(Generic[Result]):
    """Sends in batches what threads, or greenlets, of one process send at the same time: a group commit.

    The first thread leads: it sends its own trigger at once. Others wait meanwhile; then the one that has waited
    longest leads, and sends for all of them. So a single thread never waits, and batches grow with the load.

    Invariant, outside of `_lock`: while entries wait, exactly one is the leader; it is the oldest of them, or is
    being sent. `_lock` guards `_queue`, `_has_leader` and `is_leader`, for a few lines without I/O at a time.
    """

    def __init__(
        self,
        send: Callable[[Sequence[bytes]], Sequence[Result]],
        interrupted: Result,
        *,
        max_count: int,
        max_bytes: int,
    ) -> None:
        """Call it in the process that uses it, after gevent's monkey-patching.

        `send` returns a result for each trigger. If an exception interrupts it, `interrupted` is the result of the
        batch's other triggers.
        """
        self._send = send
        self._interrupted = interrupted
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._queue: deque[_Entry[Result]] = deque()
        self._has_leader = False

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def send(self, body: bytes) -> Result:
        """Send a trigger, alone or in a batch, and return its result. Blocks.

        Raises:
            BaseException: What interrupts this thread while it sends or waits.
        """
        entry = _Entry(body, self._interrupted)
        with self._lock:
            self._queue.append(entry)
            entry.is_leader = not self._has_leader
            self._has_leader = True
        try:
            if not entry.is_leader:
                entry.ready.wait()
        except BaseException:  # a time limit
            self._withdraw(entry)
            raise
        if not entry.is_done:
            self._send_batch()
        return entry.result

    def _send_batch(self) -> None:
        """Send the oldest triggers that fit into one request; the leader's own is the first of them."""
        with self._lock:
            bodies = [entry.body for entry in list(self._queue)[: self._max_count]]
            batch = [self._queue.popleft() for _ in range(count_fitting(bodies, self._max_bytes))]
        try:
            for entry, result in zip(batch, self._send(bodies[: len(batch)]), strict=True):
                entry.result = result
        finally:
            for entry in batch:
                entry.is_done = True
                entry.ready.set()
            with self._lock:
                self._pass_lead()

    def _pass_lead(self) -> None:
        self._has_leader = bool(self._queue)
        if self._queue:
            self._queue[0].is_leader = True
            self._queue[0].ready.set()

    def _withdraw(self, entry: _Entry[Result]) -> None:
        with self._lock:
            if entry in self._queue:  # not being sent, nor sent
                self._queue.remove(entry)
                if entry.is_leader:
                    self._pass_lead()


_INTERRUPTED = SendResult(Outcome.UNAVAILABLE, ConnectionFailed("the attempt was interrupted"))
_rand = SystemRandom().random  # unlike `random`, never in the same state as the parent's


class Confirming:
    """Sends triggers for the tasks of one process: in batches, where the pool runs tasks concurrently."""

    def __init__(self, client: FocusLabClient) -> None:
        """Call it in the process that uses it."""
        options = client.options
        self._client = client
        self._engine = client._current().make_engine()
        self._log = Log()
        self._batcher: Batcher[SendResult | None] = Batcher(
            self._send, _INTERRUPTED, max_count=options.max_batch_size, max_bytes=options.max_batch_bytes
        )

    def record(self, task: RecordTask, body: bytes, faults: int) -> bool:
        """Send a trigger; return whether the endpoint accepted it. Blocks for one attempt, or two.

        `faults` is how many attempts were answered with a 500.

        Raises:
            Retry: When the trigger was published again.
            Reject: When that failed; the broker keeps the message.
        """
        try:
            return self._settle(task, body, self._attempt(body), faults)
        except (Retry, Reject, Ignore):
            raise
        except Exception as error:  # such as a soft time limit: lose no trigger
            text = f"the attempt was interrupted by {type(error).__name__}"
            self._requeue(task, body, SendResult(Outcome.UNAVAILABLE, ConnectionFailed(text)), faults)

    def _attempt(self, body: bytes) -> SendResult | None:
        # The main thread executes tasks only where no other thread does (the prefork and solo pools), and takes no
        # lock: an exception from a signal handler, such as a soft time limit, cannot leave it held.
        if threading.current_thread() is threading.main_thread():
            return self._send([body])[0]
        return self._batcher.send(body)

    def _send(self, bodies: Sequence[bytes]) -> Sequence[SendResult | None]:
        """Return the result of each; None when the client is closed, and has counted it."""
        if self._client._refusal is not None:
            return [None for _ in bodies if self._client._refuses()]
        return self._client._current().send_each(self._engine, bodies)

    def _settle(self, task: RecordTask, body: bytes, result: SendResult | None, faults: int) -> bool:
        if result is None:
            return False
        if result.error is None:
            if self._log.over("endpoint", f"{self._engine.target} answers again"):
                self._log.write()
            return True
        if result.outcome in INCONCLUSIVE:
            self._requeue(task, body, result, faults)
        if result.outcome is Outcome.SERVER_ERROR and faults + 1 < self._client.options.max_attempts:
            task._requeue_trigger(body, self._delay(task, result), faults + 1)
        self._client._current().reject(body, result.error)
        self._log.event("rejected", logging.WARNING, f"a trigger is rejected: {result.error}")
        return False

    def _requeue(self, task: RecordTask, body: bytes, result: SendResult, faults: int) -> NoReturn:
        level = logging.ERROR if result.outcome is Outcome.MISCONFIGURED else logging.WARNING
        text = policy.describe(result, self._engine.target, "triggers are kept by the broker")
        self._log.trouble("endpoint", level, text)
        self._log.write()
        task._requeue_trigger(body, self._delay(task, result), faults)

    def _delay(self, task: RecordTask, result: SendResult) -> float:
        """Return the seconds until the message is delivered again."""
        options = self._client.options
        return policy.delay(result, task.request.retries + 1, options.backoff_base, options.backoff_cap, _rand)
