"""How a worker takes messages in buffered mode: in its main process, when they are received, around the pool.

To put a trigger into a buffer takes microseconds, and sending it to a child of a pool takes longer than that. So
it is done where the message is received: one buffer fills for the whole worker, no slot of the pool is used, and
the message is acknowledged when its trigger is in the buffer. At a warm shutdown no message is under way to a
child (Celery from 5.6 on would run it, and give it out again).

What may have to wait goes to the pool: confirmed mode, a full buffer, settings that are wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.concurrency.base import BasePool, apply_target
from celery.exceptions import TaskRevokedError
from celery.worker.strategy import default

from brockman.celery.buffering import is_full


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
