"""The worker's side: a message's trigger is buffered, or sent, as `celery_mode` says.

Buffering a trigger takes microseconds, less than passing it to a process of the pool. So in buffered mode the
worker's main process executes the task when it receives the message: one buffer fills for the whole worker, no
slot of the pool is used, and the message is acknowledged when its trigger is buffered. At a warm shutdown no
message is on its way to a pool process, which Celery 5.6 and later would both execute and deliver again.

What may block goes to the pool: confirmed mode, a full buffer, wrong settings.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from celery.concurrency.base import BasePool, apply_target
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError
from celery.worker.strategy import default

from brockman.celery.confirm import Confirming
from brockman.celery.message import parse_time
from brockman.delivery import policy
from brockman.exceptions import FocusLabError
from brockman.process.clock import monotonic
from brockman.process.fork import PerProcess
from brockman.process.log import Log

if TYPE_CHECKING:
    from brockman.celery.task import RecordTask
    from brockman.client import FocusLabClient

_MAX_WAIT = 5.0  # seconds for room in the buffer, until a message is requeued
_POLL_INTERVAL = 0.05  # seconds
_FLUSH_INTERVAL = 30.0  # seconds; each flush is a request to an endpoint that may be unavailable


class Executor:
    """Executes the task in one process.

    `_lock` makes the check for room and the put one step: of two threads that see the last room, one gets it. The
    main thread executes tasks only where no other thread does (the prefork and solo pools), and takes no lock: an
    exception from a signal handler, such as a soft time limit, cannot leave it held.
    """

    def __init__(self, task: RecordTask) -> None:
        self._task = task
        self._log = Log()
        self._lock = threading.Lock()
        self._flush_at = 0.0
        # Made with the first message: the client's settings may be wrong until then.
        self.confirming = PerProcess(lambda: Confirming(task.client))

    def execute(self, message: dict[str, Any]) -> bool:
        """Have a message's trigger buffered or sent, as `celery_mode` says; return whether it was."""
        task, problem = self._task, self._task._find_problem()
        if problem is not None:
            self._log.event("problem", logging.ERROR, f"{problem}; until then triggers are kept by the broker")
            task._requeue(message, policy.setup_delay(task.request.retries + 1))
        body = task._read({**message, "at": parse_time(message["at"])} if "at" in message else message)
        if body is None:
            return False
        if task.is_confirmed:
            faults = message.get("faults")
            return self.confirming.get().record(task, body, faults if isinstance(faults, int) else 0)
        return self._buffer(body)

    def reject(self, body: bytes, error: FocusLabError) -> None:
        """Count a message without a valid trigger, and log it."""
        self._log.event("rejected", logging.ERROR, f"rejected a message without a valid trigger: {error}")
        if self._task._find_problem() is None:
            self._task.client._current().reject(body, error)

    def _buffer(self, body: bytes) -> bool:
        """Record a trigger, or requeue its message if there is no room for 5 s."""
        try:
            taken = self._put(body)
            if taken is None:
                self._wait_for_room(len(body))
                taken = self._put(body)
        except SoftTimeLimitExceeded:  # lose no trigger; one that was buffered already is delivered twice
            taken = None
        if taken is None:
            self._log.event("full", logging.WARNING, "the buffer is full; requeueing messages after 5 s")
            self._task._requeue_trigger(body, random.uniform(*self._task.requeue_delay))
        return taken

    def _put(self, body: bytes) -> bool | None:
        """Return True when the trigger is buffered, False when it is dropped, None when there is no room."""
        client = self._task.client
        with nullcontext() if threading.current_thread() is threading.main_thread() else self._lock:
            return client.record_encoded(body) if has_room(client, len(body)) else None

    def _wait_for_room(self, size: int) -> None:
        client, started = self._task.client, monotonic()
        if started >= self._flush_at:
            self._flush_at = started + _FLUSH_INTERVAL
            client.flush(_MAX_WAIT)
        while not has_room(client, size) and monotonic() < started + _MAX_WAIT:
            time.sleep(_POLL_INTERVAL)


def has_room(client: FocusLabClient, size: int) -> bool:
    stats, options = client.stats(), client.options
    if not stats.queued:
        return True
    return stats.queued < options.max_queue_size and stats.queued_bytes + size <= options.max_queue_bytes


def strategy(task: RecordTask, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return the handler of the task's messages. Celery calls this when a worker has connected."""
    target = consumer if task.is_confirmed else _InlineConsumer(task, app, consumer)
    handler: Callable[..., Any] = default(task, app, target, **options)
    return handler


class _InlinePool(BasePool):
    """Executes the task in the main process while the buffer has room, and in the worker's pool otherwise.

    Not Celery's solo pool, which would signal that a pool process has started.
    """

    def __init__(self, task: RecordTask, app: Any, pool: Any) -> None:
        super().__init__(limit=1, app=app)
        self.on_apply = apply_target
        self._task = task
        self._worker_pool = pool

    @property
    def has_room(self) -> bool:
        client = self._task.client if self._task._find_problem() is None else None
        return client is not None and has_room(client, client.options.max_trigger_bytes)

    def apply_async(self, *args: Any, **options: Any) -> Any:
        if self.has_room:  # not known before: with a countdown, the message was received long ago
            return super().apply_async(*args, **options)
        return self._worker_pool.apply_async(*args, **options)


class _InlineConsumer:
    """A worker's consumer, but that it executes requests on receipt."""

    def __init__(self, task: RecordTask, app: Any, consumer: Any) -> None:
        self._consumer = consumer
        self.pool = _InlinePool(task, app, consumer.pool)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def on_task_request(self, request: Any) -> None:
        if not self.pool.has_room:
            self._consumer.on_task_request(request)  # waits for a slot of the pool
            return
        try:
            request.execute_using_pool(self.pool)
        except TaskRevokedError:
            return
