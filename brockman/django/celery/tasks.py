"""The Celery task of a Django project, whose client and settings are the project's.

from brockman.django.celery.tasks import record_trigger

record_trigger.delay(request.user.pk, "viewed", "blog post")
"""

from __future__ import annotations

from typing import Any

from celery.signals import task_postrun

from brockman.celery.task import RecordTask, make_task
from brockman.django.celery import context  # noqa: F401 - reads the project's settings
from brockman.django.client import DjangoFocusLabClient
from brockman.django.settings import raise_or_log, read_settings
from brockman.django.shared_stats import publish_now_and_then
from brockman.exceptions import ConfigurationError
from brockman.options.celery import CelerySettings


class DjangoRecordTask(RecordTask):
    """The base of the task."""

    abstract = True

    def make_client(self) -> DjangoFocusLabClient:
        """Return a client with the project's settings."""
        return DjangoFocusLabClient()

    def read_settings(self) -> CelerySettings:
        """Return the project's settings for the task, or the defaults where a wrong one must fail no request."""
        try:
            return read_settings(CelerySettings)
        except ConfigurationError as error:
            raise_or_log(error, "the defaults hold for the Celery task")
            return CelerySettings()

    def delay_on_commit(self, *args: Any, using: str | None = None, **kwargs: Any) -> None:
        """Publish a trigger when the current transaction commits, and not at all when it is rolled back.

        Values and timestamp are captured now. Outside of `atomic` the trigger is published at once. If the broker
        is unreachable on commit, the trigger is recorded here even with `celery_fallback` off: nobody could handle
        the exception.

        Args:
            *args, **kwargs: As `record_trigger` takes them.
            using: The database of the transaction; None means the default one.

        Raises:
            InvalidTrigger: For a mistake in the arguments.
        """
        client = self.client
        assert isinstance(client, DjangoFocusLabClient)
        body = self._encode(args, kwargs)
        if body is None:
            return

        def publish() -> None:
            try:
                self._publisher.publish(body, {})
            except Exception as error:  # from the broker's library
                client.record_encoded(body)
                client._current().callbacks.failed("delay_on_commit", error)

        client._on_commit(publish, using)

    def _find_problem(self) -> ConfigurationError | None:
        try:
            read_settings(CelerySettings)
        except ConfigurationError as error:
            return error
        return super()._find_problem()


record_trigger = make_task(DjangoRecordTask, "brockman.django.celery.tasks.record_trigger")  # as in 0.1
make_task(DjangoRecordTask, "brockman.django.record_trigger")  # of messages published before it was named so again
task_postrun.connect(publish_now_and_then, weak=False, dispatch_uid="brockman.stats")
