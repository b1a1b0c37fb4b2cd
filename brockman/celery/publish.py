"""What happens when the task is called: a message goes to the broker; when that is away, the trigger is kept."""

from __future__ import annotations

import json
import uuid
from typing import Any

from brockman.celery.publishing import BrokerAway, Publisher, broker_errors
from brockman.process import registry

_FOLLOWERS = ("link", "chain", "chord")


class Caller:
    """Publishes the messages of one task. Any thread of any process may call it."""

    def __init__(self) -> None:
        """Connect to nothing yet."""
        self._publisher = Publisher()

    def publish(self, task: Any, body: bytes | None, task_id: Any, producer: Any, options: dict[str, Any]) -> Any:
        """Publish a trigger, or record it here when the broker is away and the settings say so. Blocks.

        Args:
            task: The task.
            body: The trigger; None for none, when only what follows it is wanted.
            task_id: The message's id; None for the trigger's.
            producer: The caller's own, or None.
            options: Of Celery's `apply_async`.
        """
        text = "" if body is None else body.decode()
        task_id = task_id or (json.loads(text)["id"] if text else str(uuid.uuid4()))
        message = {"trigger": text}
        options.setdefault("kwargsrepr", "{'trigger': ...}")  # logs and monitors need not know the actor

        def fall_back() -> Any:
            if body is not None:
                task.client.record_encoded(body)
            return unpublished(task, task_id)

        if registry.substitutes and not task.app.conf.task_always_eager:
            return fall_back()  # a test: its outbox takes the trigger, and no worker sends it for real
        if body is None or has_followers(options) or not task.read_settings().celery_fallback:
            return self.publish_message(task, message, task_id, producer, options)
        return self._publisher.guard(lambda: self._send(task, message, task_id, producer, options), fall_back)

    def publish_message(
        self, task: Any, message: dict[str, Any], task_id: Any, producer: Any, options: dict[str, Any]
    ) -> Any:
        """Publish a message, or raise what the broker's library raised. Blocks."""
        try:
            return self._send(task, message, task_id, producer, options)
        except BrokerAway as error:
            cause = error.cause or error
        raise cause

    def _send(
        self, task: Any, message: dict[str, Any], task_id: Any, producer: Any, options: dict[str, Any]
    ) -> Any:
        """Publish as the caller wants it, else over a connection of our own.

        Raises:
            BrokerAway: When the broker cannot be reached.
        """
        if task.app.conf.task_always_eager:
            return task.publish_as_is((), message, task_id, producer, **options)
        if producer is not None or options.get("connection") is not None:
            try:
                return task.publish_as_is((), message, task_id, producer, **options)
            except broker_errors(task.app.connection_for_write()) as error:
                raise BrokerAway(error) from error

        def send(connection: Any) -> Any:
            return task.publish_as_is((), message, task_id, **{**options, "connection": connection})

        options.setdefault("retry", False)  # by Celery: it would wait longer than anyone should
        return self._publisher.publish(task.app, task.read_settings().celery_publish_timeout, send)


def unpublished(task: Any, task_id: str) -> Any:
    """Return the result of a task that no worker will see."""
    result = task.AsyncResult(task_id)
    result.ignored = True
    return result


def has_followers(options: dict[str, Any]) -> bool:
    """Return whether Celery is to do more after this task: only a worker will."""
    return any(options.get(name) for name in _FOLLOWERS)


def in_order(
    actor_id: Any, action: Any, obj: Any, identities: Any = None, attributes: Any = None, variables: Any = None
) -> tuple[Any, ...]:
    """Return the arguments of `record_trigger` in their order."""
    return actor_id, action, obj, identities, attributes, variables


in_order.__qualname__ = "record_trigger"  # what a TypeError names
