"""The task that records a trigger: what happens when it is called, and in the worker.

The arguments become JSON, with an id and the time, when the task is called; the message carries this one text. So
a mistake shows where it was made, any serializer will do, and a message that comes twice is one trigger.
"""

from __future__ import annotations

import os
import uuid
from typing import Any, NoReturn

import celery
from celery.exceptions import Reject

from brockman.celery.publish import Caller, has_followers, in_order, unpublished
from brockman.celery.worker import Executor, as_uuid
from brockman.client import FocusLabClient
from brockman.exceptions import ConfigurationError, InvalidTrigger
from brockman.options.celery import CelerySettings
from brockman.process.fork import PerProcess


class RecordTask(celery.Task):
    """The base of the task. A subclass says where its client and its settings come from."""

    abstract = True
    ignore_result = True
    Strategy = "brockman.celery.worker:take_at_once"
    max_retries = None  # a trigger is retried for as long as it takes
    # In either mode a message is acknowledged when its trigger is taken care of, and comes again if that fails.
    acks_late = True
    reject_on_worker_lost = True
    acks_on_failure_or_timeout = False
    acks_on_timeout = False  # from Celery 5.7 on

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
        """The client, made with the first use.

        Raises:
            ConfigurationError: When its settings are wrong.
        """
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
        """Whether a trigger is taken care of only when the endpoint has accepted it."""
        return self.read_settings().celery_mode == "confirmed"

    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: Any = None, producer: Any = None, **options: Any
    ) -> Any:
        """Publish a trigger for a worker to deliver. Blocks until the broker has it; see `celery_publish_timeout`.

        Takes the arguments of `record_trigger` and the options of Celery's own `apply_async`.

        Returns:
            An `AsyncResult`, whose id is the trigger's unless a `task_id` that is no UUID was given. Nothing is
            stored under it.

        Raises:
            InvalidTrigger: For a mistake in the arguments.
            TypeError: For arguments that are missing, or too many.
            ConfigurationError: When settings are wrong.
            BufferFull: When the broker is away, there is no room here, and `overflow="raise"`.
            OperationalError: When the broker cannot be reached, and `celery_fallback` is off or other tasks are to
                follow this one.
        """
        kwargs = kwargs or {}
        if "trigger" in kwargs:  # it was made before: a retry
            if args or not kwargs.keys() <= {"trigger", "faults"}:
                raise TypeError("record_trigger() got an unexpected keyword argument 'trigger'")
            return self._caller.publish_message(self, kwargs, task_id, producer, options)
        body = self.encode(args or (), kwargs, task_id)
        if body is None and not has_followers(options):  # dropped, and counted
            return unpublished(self, task_id or str(uuid.uuid4()))
        return self.publish_encoded(body, task_id, producer, **options)

    def encode(self, args: Any, kwargs: Any, task_id: Any = None) -> bytes | None:
        """Return the trigger of these arguments as JSON; None when it is dropped, and counted.

        Raises:
            InvalidTrigger: For a mistake in the arguments.
            TypeError: For arguments that are missing, or too many.
        """
        return self.client.encode_trigger(*in_order(*args, **kwargs), trigger_id=as_uuid(task_id))

    def publish_encoded(
        self, body: bytes | None, task_id: Any = None, producer: Any = None, **options: Any
    ) -> Any:
        """Publish what `encode` returned; see `apply_async`."""
        return self._caller.publish(self, body, task_id, producer, options)

    def publish_as_is(self, *args: Any, **options: Any) -> Any:
        """Do what `apply_async` does for every other task."""
        return super().apply_async(*args, **options)

    @property
    def _caller(self) -> Caller:
        caller: Caller | None = self.__dict__.get("_calling")
        return caller or self.__dict__.setdefault("_calling", Caller())

    def requeue(self, body: bytes, countdown: float, faults: int = 0) -> NoReturn:
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

    @property
    def executor(self) -> Executor:
        """What executes the task in this process."""
        holder: PerProcess[Executor] | None = self.__dict__.get("_executors")
        return (holder or self.__dict__.setdefault("_executors", PerProcess(lambda: Executor(self)))).get()

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Count a message that is none of ours: Celery calls this in the worker, and logs the rest."""
        if isinstance(exc, (TypeError, InvalidTrigger)) and not self.request.is_eager:
            text = repr((args, kwargs))[:1000]
            self.executor.refuse(text.encode(errors="replace"), InvalidTrigger(str(exc)))


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
    arguments = (actor_id, action, obj, identities, attributes, variables)
    return self.executor.execute(arguments, trigger, faults)
