"""What a worker does with a message: the trigger in it is recorded, or sent, as the settings say.

To put a trigger into a buffer takes microseconds, and sending it to a child of a pool takes longer than that. So
it is done where the message is received: one buffer fills for the whole worker, no slot of the pool is used, and
the message is acknowledged when its trigger is in the buffer. At a warm shutdown no message is under way to a
child (Celery from 5.6 on would run it, and give it out again).

What may have to wait goes to the pool: confirmed mode, a full buffer, settings that are wrong.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

from celery.concurrency.base import BasePool, apply_target
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError
from celery.worker.strategy import default

from brockman.celery.confirm import Confirming
from brockman.client import FocusLabClient
from brockman.delivery import policy
from brockman.exceptions import FocusLabError, InvalidTrigger
from brockman.process.clock import monotonic
from brockman.process.fork import PerProcess
from brockman.process.log import Notices

_WAIT = 5.0  # seconds that a worker waits for room before it gives a message back
_BACK_IN = (1.0, 5.0)  # seconds until a message that was given back comes again
_LOOK_EVERY = 0.05  # seconds, while a worker waits
_HURRY_EVERY = 30.0  # seconds; each time is an attempt at an endpoint that may be sick
_FULL = "the buffer is full; workers wait, and give messages back to the broker"


class Buffering:
    """Puts the triggers of one process into its client's buffer.

    `_lock` is between the look whether there is room and the put, so that of two threads that see the last room
    only one takes it. A task on the main thread is alone there (the prefork and solo pools), and takes no lock:
    so an exception that a signal handler raises, such as a soft time limit, finds none.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notices = Notices()
        self._hurry_at = 0.0

    def record(self, task: Any, body: bytes) -> bool:
        """Record a trigger, or give its message back. Blocks while there is no room, for 5 s.

        Raises:
            Retry: When the message was given back, to come again in a while.
            Reject: When it went back to the broker as it is.
        """
        try:
            taken = self._take_or_wait(task.client, body)
        except SoftTimeLimitExceeded:  # anything but the loss of a trigger; one that was taken comes twice
            taken = None
        if taken is not None:
            return taken
        self._notices.say(logging.WARNING, "full", _FULL)
        task.requeue(body, random.uniform(*_BACK_IN))
        raise AssertionError("requeue raises")

    def _take_or_wait(self, client: FocusLabClient, body: bytes) -> bool | None:
        taken = self._take(client, body)
        if taken is None:
            self._wait_for_room(client, len(body))
            taken = self._take(client, body)
        return taken

    def _wait_for_room(self, client: FocusLabClient, size: int) -> None:
        started = monotonic()
        if started >= self._hurry_at:
            self._hurry_at = started + _HURRY_EVERY
            client.flush(_WAIT)
        while is_full(client, size) and monotonic() < started + _WAIT:
            time.sleep(_LOOK_EVERY)

    def _take(self, client: FocusLabClient, body: bytes) -> bool | None:
        """Return what recording returns, or None when there is no room."""
        with self._guard():
            return None if is_full(client, len(body)) else client.record_encoded(body)

    def _guard(self) -> AbstractContextManager[Any]:
        return nullcontext() if threading.current_thread() is threading.main_thread() else self._lock


def is_full(client: FocusLabClient, size: int) -> bool:
    """Return whether there is no room for a trigger of so many bytes."""
    stats, options = client.stats(), client.options
    if not stats.queued:
        return False
    return stats.queued >= options.max_queue_size or stats.queued_bytes + size > options.max_queue_bytes


_PARTS = ("id", "actor_id", "action", "object")  # of every trigger


class Executor:
    """Executes the task in one process."""

    def __init__(self, task: Any) -> None:
        """Make one in the process that it is used in; starts nothing.

        Args:
            task: The task.
        """
        self._task = task
        self._notices = Notices()
        self._buffering = Buffering()
        # Made with the first message: it needs a client, whose settings may be wrong until then.
        self._confirming = PerProcess(lambda: Confirming(task.client))

    def execute(self, arguments: tuple[Any, ...], trigger: Any, faults: Any) -> bool:
        """Do the work of `brockman.celery.task.record_trigger`, in the execution of a task or called directly."""
        task = self._task
        request, faults = task.request, faults if isinstance(faults, int) else 0
        if request.called_directly or request.is_eager:
            return self._record_here(arguments, trigger)
        if trigger:
            self._hold_if_misconfigured(trigger, faults)
        if trigger is None:  # published by name, with the arguments as they are
            body = task.client.encode_trigger(*arguments, trigger_id=as_uuid(request.id))
        else:
            body = check(trigger) if trigger != "" else None
        if body is None:
            return False
        if not task.is_confirmed:
            return self._buffering.record(task, body)
        return self.confirming.record(task, body, faults)

    @property
    def confirming(self) -> Confirming:
        """What sends in confirmed mode: one for all threads of the process."""
        return self._confirming.get()

    def refuse(self, body: bytes, error: FocusLabError) -> None:
        """Count a message that holds no trigger, and say so."""
        self._notices.say(logging.ERROR, "refused", f"a message holds no trigger and is given up: {error}")
        if self._task.find_problem() is None:
            self._task.client._current().reject(body, error)

    def _record_here(self, arguments: tuple[Any, ...], trigger: Any) -> bool:
        task, client = self._task, self._task.client
        if trigger is not None:
            return trigger != "" and bool(client.record_encoded(check(trigger)))
        if task.request.called_directly:
            return bool(client.record_trigger(*arguments))
        body = client.encode_trigger(*arguments, trigger_id=as_uuid(task.request.id))
        return body is not None and bool(client.record_encoded(body))

    def _hold_if_misconfigured(self, trigger: Any, faults: int) -> None:
        """Give the message back if this worker's settings are wrong: nothing is lost until a person acts."""
        problem = self._task.find_problem()
        if problem is None:
            return
        self._notices.say(logging.ERROR, "problem", f"{problem}; until then triggers stay with the broker")
        self._task.requeue(check(trigger), policy.setup_delay(self._task.request.retries + 1), faults)


def check(trigger: Any) -> bytes:
    """Return the trigger of a message. Who may publish to the broker may publish anything.

    Raises:
        InvalidTrigger: When it is none; it would spoil the batch that it is sent in.
    """
    if not isinstance(trigger, str):
        raise InvalidTrigger(f"the message's trigger is a {type(trigger).__name__}; it should be JSON text")
    try:
        content = json.loads(trigger, parse_constant=_refuse_constant)
        body = trigger.encode()
    except (ValueError, RecursionError) as error:
        raise InvalidTrigger(f"the message's trigger is not JSON: {error}"[:300]) from None
    if not isinstance(content, dict) or not all(isinstance(content.get(part), str) for part in _PARTS):
        raise InvalidTrigger(f"the message's trigger is not complete: {trigger[:100]!r}")
    return body


def as_uuid(text: Any) -> str | None:
    """Return a UUID as text, or None when this is none."""
    try:
        return str(uuid.UUID(text))
    except (ValueError, TypeError, AttributeError):
        return None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def take_at_once(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return what handles the messages of the task; Celery calls it when a worker has connected."""
    here = consumer if task.is_confirmed else _Here(task, app, consumer)
    handler: Callable[..., Any] = default(task, app, here, **options)
    return handler


class _Pool(BasePool):
    """Executes in the caller, as Celery's pool `solo` does, which would tell the app that a child has begun.

    Whether it does is asked when a request is to be executed: one that had a countdown was received long before.
    """

    def __init__(self, task: Any, app: Any, pool: Any) -> None:
        super().__init__(limit=1, app=app)
        self.on_apply = apply_target
        self._task = task
        self._pool_of_worker = pool

    @property
    def is_short(self) -> bool:
        client = self._task.client if self._task.find_problem() is None else None
        return client is not None and not is_full(client, client.options.max_trigger_bytes)

    def apply_async(self, *args: Any, **options: Any) -> Any:
        if self.is_short:
            return super().apply_async(*args, **options)
        return self._pool_of_worker.apply_async(*args, **options)


class _Here:
    """A consumer whose requests are executed where they are received."""

    def __init__(self, task: Any, app: Any, consumer: Any) -> None:
        self._consumer = consumer
        self.pool = _Pool(task, app, consumer.pool)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def on_task_request(self, request: Any) -> None:
        if not self.pool.is_short:
            self._consumer.on_task_request(request)  # which waits for a slot of the pool
            return
        try:
            request.execute_using_pool(self.pool)
        except TaskRevokedError:
            return
