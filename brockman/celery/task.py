"""The task that records a trigger: the call, and the function that workers execute.

A call turns its arguments into JSON, with an id and the time, and the message carries this one text. So a mistake
raises where it was made, any serializer works, and a message delivered twice is one trigger.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import celery
from celery.exceptions import Reject

from brockman import contexts
from brockman.celery.message import as_uuid, bind_arguments, parse_time, validate_trigger
from brockman.celery.publish import Publisher
from brockman.client import FocusLabClient
from brockman.exceptions import ConfigurationError, InvalidTrigger
from brockman.options.celery import CelerySettings
from brockman.process.fork import PerProcess

if TYPE_CHECKING:
    from brockman.celery.worker import Executor


class RecordTask(celery.Task):
    """The base of the task. A subclass may provide its own client and settings."""

    abstract = True
    ignore_result = True
    Strategy = "brockman.celery.worker:strategy"
    max_retries = None
    # In both modes a message is acknowledged after the task, and delivered again if a worker dies before that.
    acks_late = True
    reject_on_worker_lost = True
    acks_on_failure_or_timeout = False
    acks_on_timeout = False  # Celery 5.7
    broker_cooldown = 3.0  # seconds after a failure in which no call tries the broker
    requeue_delay = (1.0, 5.0)  # seconds, at random, until a message that found the buffer full is delivered again

    def __init__(self) -> None:
        """Connect to nothing yet. Celery calls this once per app."""
        self._publisher = Publisher(self)
        self._executor = PerProcess(self._make_executor)

    def make_client(self) -> FocusLabClient:
        """Return the client that records the triggers. Called when it is first needed."""
        return FocusLabClient()

    def read_settings(self) -> CelerySettings:
        """Return the settings. Called for each message, by the caller and in the worker.

        Raises:
            ConfigurationError: For a wrong value.
        """
        return CelerySettings.read({}, os.environ)

    @property
    def client(self) -> FocusLabClient:
        """The client, made with the first use.

        Raises:
            ConfigurationError: When its settings are wrong.
        """
        client: FocusLabClient | None = self.__dict__.get("_client")
        return client or self.__dict__.setdefault("_client", self.make_client())

    @property
    def is_confirmed(self) -> bool:
        """True when `celery_mode` is `confirmed`."""
        return self.read_settings().celery_mode == "confirmed"

    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: Any = None, producer: Any = None, **options: Any
    ) -> Any:
        """Publish a trigger for a worker to deliver. Blocks until the broker has it; see `celery_publish_timeout`.

        Takes the arguments of `record_trigger` and the options of Celery's own `apply_async`.

        Returns:
            An `AsyncResult`. Its id is `task_id`, or else the trigger's. No result is stored.

        Raises:
            InvalidTrigger: For a mistake in the arguments.
            TypeError: For an unknown argument, or too many.
            ConfigurationError: When settings are wrong.
            BufferFull: When the broker is unreachable, the buffer is full, and `overflow="raise"`.
            OperationalError: When the broker is unreachable, and `celery_fallback` is off or other tasks are to
                follow this one.
        """
        kwargs = kwargs or {}
        if options.get("retries"):  # a message is published again
            return self._publisher.publish_message(kwargs, task_id, producer, options)
        if "parent_id" in options:  # a signature from a message, whose serializer may have made text of the time
            kwargs = {**kwargs, "at": parse_time(kwargs.get("at"))}
        return self._publisher.publish(self._encode(args or (), kwargs, task_id), options, task_id, producer)

    def _encode(self, args: Any, kwargs: Any, task_id: Any = None) -> bytes | None:
        """Return a trigger as JSON. Its id is the caller's own, or else that of the task if it is a UUID."""
        arguments, stamp = bind_arguments(*args, **kwargs)
        if stamp["trigger_id"] is None:
            stamp["trigger_id"] = as_uuid(task_id)
        return self.client.encode_trigger(*arguments, **stamp)

    def _publish_as_is(self, *args: Any, **options: Any) -> Any:
        """Call Celery's own `apply_async`. The trigger has its context; only tasks that follow need it."""
        has_followers = any(options.get(name) for name in ("link", "link_error", "chain", "chord"))
        with contexts.entered(contexts.get() if has_followers else None):
            return super().apply_async(*args, **options)

    def _requeue_trigger(self, body: bytes, countdown: float, faults: int = 0) -> NoReturn:
        """Do the same as `_requeue`; `faults` is how many attempts were answered with a 500."""
        self._requeue({"trigger": body.decode(), **({"faults": faults} if faults else {})}, countdown)

    def _requeue(self, message: dict[str, Any], countdown: float) -> NoReturn:
        """End this execution, and have its message delivered again after `countdown` seconds.

        Raises:
            Retry: When it was published again.
            Reject: When that failed: the broker then delivers the unacknowledged message again.
        """
        try:
            # Without a limit, whatever the project's annotations set `max_retries` to: the trigger would be lost.
            raise self.retry(args=(), kwargs=message, countdown=countdown, max_retries=sys.maxsize)
        except Reject as error:  # Celery's does not requeue: the trigger would be lost
            reason = error.reason
        raise Reject(reason, requeue=True)

    def _find_problem(self) -> ConfigurationError | None:
        """Return the mistake in the client's settings, or None."""
        try:
            return self.client._problem
        except ConfigurationError as error:
            return error

    def _make_executor(self) -> Executor:
        from brockman.celery.worker import Executor  # only in workers: it imports Celery's worker

        return Executor(self)

    def _read(self, message: dict[str, Any]) -> bytes | None:
        """Return the trigger of a message or of a direct call; None when it is dropped."""
        if "trigger" in message:
            return validate_trigger(message["trigger"])
        return self._encode((), message, self.request.id)  # the arguments as they are

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Count a message without a valid trigger. Celery calls this in the worker, and logs the exception."""
        if isinstance(exc, (TypeError, InvalidTrigger)) and not self.request.is_eager:
            text = repr((args, kwargs))[:1000]
            self._executor.get().reject(text.encode(errors="replace"), InvalidTrigger(str(exc)))


def make_task(base: type[RecordTask], name: str) -> Any:
    """Return the task for every Celery app, present and future; makes no app."""
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
    at: Any = None,
    trigger_id: Any = None,
    trigger: Any = None,
    faults: Any = 0,
) -> bool:
    """Record a trigger, in a worker or, when called directly, in this process.

    Takes what `FocusLabClient.record_trigger` takes; `trigger` and `faults` are for messages.

    Returns:
        Whether it was recorded; in confirmed mode whether the endpoint accepted it.

    Raises:
        InvalidTrigger: For a mistake in the arguments.
    """
    if trigger == "":  # dropped at the call, and published for the tasks that follow
        return False
    message = {
        "actor_id": actor_id,
        "action": action,
        "obj": obj,
        "identities": identities,
        "attributes": attributes,
        "variables": variables,
        "at": at,
        "trigger_id": trigger_id,
    }
    if trigger is not None:
        message = {"trigger": trigger, "faults": faults}
    if self.request.called_directly or self.request.is_eager:
        return self.client.record_encoded(self._read(message))
    return self._executor.get().execute(message)
