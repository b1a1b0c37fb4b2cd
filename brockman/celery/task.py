"""The task that records a trigger: what happens when it is called, and in the worker.

The arguments become JSON, with an id and the time, when the task is called; the message carries this one text. So
a mistake shows where it was made, any serializer will do, and a message that comes twice is one trigger.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from typing import Any, NoReturn

import celery
from celery.exceptions import Reject

from brockman import retry
from brockman.celery.buffering import Buffering
from brockman.celery.confirming import Confirming
from brockman.celery.notices import Notices
from brockman.celery.per_process import PerProcess
from brockman.celery.publishing import BrokerAway, Publisher, broker_errors
from brockman.celery_settings import CelerySettings
from brockman.client import FocusLabClient
from brockman.exceptions import ConfigurationError

_FOLLOWERS = ("link", "chain", "chord")


class RecordTask(celery.Task):
    """The base of the task. A subclass says where its client and its settings come from."""

    abstract = True
    ignore_result = True
    max_retries = None  # a trigger is retried for as long as it takes

    def make_client(self) -> FocusLabClient:
        """Return the client that triggers are recorded with. Called once for each task, when first needed."""
        return FocusLabClient()

    def read_settings(self) -> CelerySettings:
        """Return the settings. Called often: when the task is called, and in the worker.

        Raises:
            ConfigurationError: For a wrong value.
        """
        return CelerySettings.read({}, os.environ)

    @property
    def client(self) -> FocusLabClient:
        """The client."""
        client: FocusLabClient | None = self.__dict__.get("_client")
        return client or self.__dict__.setdefault("_client", self.make_client())

    def find_problem(self) -> ConfigurationError | None:
        """Return what is wrong with the settings of the client, or None."""
        try:
            self.client  # noqa: B018 - makes it
        except ConfigurationError as error:
            return error
        return None

    @property
    def is_confirmed(self) -> bool:
        """Whether a message is acknowledged only after the endpoint has accepted its trigger."""
        return self.read_settings().celery_mode == "confirmed"

    @property
    def acks_late(self) -> bool:
        """Read by the worker when it starts."""
        return self.is_confirmed or bool(self.app.conf.task_acks_late)

    @property
    def reject_on_worker_lost(self) -> bool:
        """Read by the worker when one of its processes dies."""
        return self.is_confirmed or bool(self.app.conf.task_reject_on_worker_lost)

    @property
    def acks_on_timeout(self) -> bool:
        """Read by the worker when it ends a process whose task went over its hard time limit."""
        conf = self.app.conf
        acknowledges = conf.get("task_acks_on_timeout")
        if acknowledges is None:
            acknowledges = conf.task_acks_on_failure_or_timeout
        return bool(acknowledges) and not self.is_confirmed

    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: Any = None, producer: Any = None, **options: Any
    ) -> Any:
        """Publish a trigger for a worker to deliver. Blocks until the broker has it; see `celery_publish_timeout`.

        Takes the arguments of `record_trigger` and the options of Celery's own `apply_async`.

        Returns:
            An `AsyncResult`, whose id is the trigger's unless `task_id` was given. Nothing is stored under it.

        Raises:
            InvalidTrigger: For a mistake in the arguments.
            TypeError: For arguments that are missing, or too many.
            OperationalError: When the broker cannot be reached, and `celery_fallback` is off or other tasks are to
                follow this one.
        """
        kwargs = kwargs or {}
        if "trigger" in kwargs:  # it was made before: a retry
            return self._raise_cause(self._publish, kwargs, task_id, producer, options)
        body = self.encode(args or (), kwargs, task_id)
        if body is None and not _has_followers(options):  # dropped, and counted
            return self._unpublished(task_id or str(uuid.uuid4()))
        return self.publish_encoded(body, task_id, producer, **options)

    def encode(self, args: Any, kwargs: Any, task_id: Any = None) -> bytes | None:
        """Return the trigger of these arguments as JSON; None when it is dropped, and counted.

        Raises:
            InvalidTrigger: For a mistake in the arguments.
            TypeError: For arguments that are missing, or too many.
        """
        return self.client.encode_trigger(*_in_order(*args, **kwargs), trigger_id=_as_uuid(task_id))

    def publish_encoded(
        self, body: bytes | None, task_id: Any = None, producer: Any = None, **options: Any
    ) -> Any:
        """Publish what `encode` returned; see `apply_async`."""
        text = "" if body is None else body.decode()
        task_id = task_id or (json.loads(text)["id"] if text else str(uuid.uuid4()))
        message = {"trigger": text}
        options.setdefault("kwargsrepr", "{'trigger': ...}")  # logs and monitors need not know the actor
        if body is None or _has_followers(options) or not self.read_settings().celery_fallback:
            return self._raise_cause(self._publish, message, task_id, producer, options)

        def fall_back() -> Any:
            self.client.record_encoded(body)
            return self._unpublished(task_id)

        return self._publisher.guard(lambda: self._publish(message, task_id, producer, options), fall_back)

    @property
    def _publisher(self) -> Publisher:
        publisher: Publisher | None = self.__dict__.get("_publishing")
        return publisher or self.__dict__.setdefault("_publishing", Publisher())

    def _publish(self, kwargs: dict[str, Any], task_id: Any, producer: Any, options: dict[str, Any]) -> Any:
        """Publish a message as the caller wants it, else over a connection of our own.

        Raises:
            BrokerAway: When the broker cannot be reached.
        """
        publish = super().apply_async
        if self.app.conf.task_always_eager:
            return publish((), kwargs, task_id, producer, **options)
        if producer is not None or options.get("connection") is not None:
            try:
                return publish((), kwargs, task_id, producer, **options)
            except broker_errors(self.app.connection_for_write()) as error:
                raise BrokerAway(error) from error

        def send(connection: Any) -> Any:
            return publish((), kwargs, task_id, **{**options, "connection": connection})

        options.setdefault("retry", False)  # by Celery: it would wait longer than anyone should

        return self._publisher.publish(self.app, self.read_settings().celery_publish_timeout, send)

    @staticmethod
    def _raise_cause(publish: Any, *arguments: Any) -> Any:
        """Publish, or raise what the broker's library raised."""
        try:
            return publish(*arguments)
        except BrokerAway as error:
            cause = error.cause or error
        raise cause

    def _unpublished(self, task_id: str) -> Any:
        result = self.AsyncResult(task_id)
        result.ignored = True
        return result

    def give_back(self, body: bytes, countdown: float, faults: int = 0) -> NoReturn:
        """End this execution, and have the trigger come again after so many seconds.

        Raises:
            Retry: When it was published anew.
            Reject: When that failed: a message that is acknowledged late goes back to the broker.
        """
        message = {"trigger": body.decode(), **({"faults": faults} if faults else {})}
        try:
            raise self.retry(args=(), kwargs=message, countdown=countdown)
        except Reject as error:  # Celery's own would not go back: the trigger would be lost
            reason = error.reason
        raise Reject(reason, requeue=True)

    def record(self, arguments: tuple[Any, ...], trigger: str | None, faults: int) -> bool:
        """Do the work of the task; see `record_trigger` below."""
        request = self.request
        if trigger and not (request.called_directly or request.is_eager):
            self._hold_if_misconfigured(trigger.encode(), faults)
        client = self.client
        if request.called_directly and trigger is None:
            return client.record_trigger(*arguments)
        if trigger is None:  # published by name, with the arguments as they are
            body = client.encode_trigger(*arguments, trigger_id=_as_uuid(request.id))
        else:
            body = trigger.encode() or None
        if body is None:
            return False
        if request.called_directly or request.is_eager:
            return client.record_encoded(body)
        if self.is_confirmed:
            return self._confirming.get().record(self, body, faults)
        return self._buffering.get().record(self, body)

    def _hold_if_misconfigured(self, body: bytes, faults: int) -> None:
        """Give the message back if this worker's settings are wrong: nothing is lost until a person acts."""
        problem = self.find_problem()
        if problem is not None:
            self._notices.get().say(
                logging.ERROR, "problem", f"{problem}; until then triggers stay with the broker"
            )
            self.give_back(body, retry.setup_delay(self.request.retries + 1), faults)

    @property
    def _notices(self) -> PerProcess[Notices]:
        holder: PerProcess[Notices] | None = self.__dict__.get("_noticed")
        return holder or self.__dict__.setdefault("_noticed", PerProcess(Notices))

    @property
    def _confirming(self) -> PerProcess[Confirming]:
        holder: PerProcess[Confirming] | None = self.__dict__.get("_confirmings")
        return holder or self.__dict__.setdefault("_confirmings", PerProcess(lambda: Confirming(self.client)))

    @property
    def _buffering(self) -> PerProcess[Buffering]:
        holder: PerProcess[Buffering] | None = self.__dict__.get("_bufferings")
        return holder or self.__dict__.setdefault("_bufferings", PerProcess(Buffering))


def make_task(base: type[RecordTask], name: str) -> Any:
    """Return the task for whichever Celery app is current, or becomes it later; brings none of its own.

    Args:
        base: Where the client and the settings come from.
        name: The task's name, under which workers know it.
    """
    return celery.shared_task(base=base, name=name, bind=True)(record_trigger)


def record_trigger(
    self: RecordTask,
    actor_id: Any = None,
    action: Any = None,
    obj: Any = None,
    identities: Any = None,
    attributes: Any = None,
    variables: Any = None,
    *,
    trigger: str | None = None,
    faults: int = 0,
) -> bool:
    """Record a trigger, in a worker or, when called directly, in this process.

    Takes what `FocusLabClient.record_trigger` takes; `trigger` and `faults` are for messages.

    Returns:
        Whether it was recorded; in confirmed mode whether the endpoint accepted it.

    Raises:
        InvalidTrigger: For a mistake in the arguments.
    """
    return self.record((actor_id, action, obj, identities, attributes, variables), trigger, faults)


def _in_order(
    actor_id: Any, action: Any, obj: Any, identities: Any = None, attributes: Any = None, variables: Any = None
) -> tuple[Any, ...]:
    """Return the arguments of `record_trigger` in their order."""
    return actor_id, action, obj, identities, attributes, variables


_in_order.__qualname__ = "record_trigger"  # what a TypeError names


def _has_followers(options: dict[str, Any]) -> bool:
    """Return whether Celery is to do more after this task: only a worker will."""
    return any(options.get(name) for name in _FOLLOWERS)


def _as_uuid(text: Any) -> str | None:
    """Return a UUID as text, or None when this is none."""
    try:
        return str(uuid.UUID(text))
    except (ValueError, TypeError, AttributeError):
        return None
