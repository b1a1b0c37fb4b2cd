"""How a worker takes messages in buffered mode: in its main process, when they are received, around the pool.

To put a trigger into a buffer takes microseconds, and sending it to a child of a pool takes longer than that. So
it is done where the message is received: one buffer fills for the whole worker, no slot of the pool is used, and
the message is acknowledged when its trigger is in the buffer. A child that is killed has none of them, and at a
warm shutdown no message is under way to a child (Celery from 5.6 on would run it, and give it out again).

What is not so short goes to the pool: confirmed mode, a full buffer, settings that are wrong.
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
    in_pool = default(task, app, consumer, **options)
    if task.is_confirmed:
        return in_pool  # type: ignore[no-any-return]
    here = default(task, app, _Here(consumer, app), **options)

    def handle(*args: Any, **kwargs: Any) -> Any:
        return (here if _is_short(task) else in_pool)(*args, **kwargs)

    return handle


def _is_short(task: Any) -> bool:
    return task.find_problem() is None and not is_full(task.client, 0)


class _Pool(BasePool):
    """Executes in the caller, as Celery's pool `solo` does, which would tell the app that a child has begun."""

    body_can_be_buffer = True

    def __init__(self, app: Any) -> None:
        super().__init__(limit=1, app=app)
        self.on_apply = apply_target


class _Here:
    """A consumer whose requests are executed where they are received."""

    def __init__(self, consumer: Any, app: Any) -> None:
        self._consumer = consumer
        self.pool = _Pool(app)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def on_task_request(self, request: Any) -> None:
        try:
            request.execute_using_pool(self.pool)
        except TaskRevokedError:
            return
