"""The Celery task of a Django project: its client and its settings are those of the project.

from brockman.django.celery.tasks import record_trigger

record_trigger.delay(request.user.pk, "viewed", "blog post")
"""

from __future__ import annotations

from typing import Any

from celery.signals import task_postrun

from brockman.celery.task import RecordTask, make_task
from brockman.django.client import DjangoFocusLabClient
from brockman.django.settings import raise_or_tell, read_settings
from brockman.django.shared_stats import publish_now_and_then
from brockman.exceptions import ConfigurationError
from brockman.options.celery import CelerySettings


class DjangoRecordTask(RecordTask):
    """The base of the task."""

    abstract = True

    def make_client(self) -> DjangoFocusLabClient:
        """Return a client that has the project's settings."""
        return DjangoFocusLabClient()

    def find_problem(self) -> ConfigurationError | None:
        """Return what is wrong with the project's settings, which its client raises or not, or None."""
        try:
            read_settings(CelerySettings)
            return self._django_client.problem
        except ConfigurationError as error:
            return error

    def read_settings(self) -> CelerySettings:
        """Return the project's settings for the task, or the defaults where a wrong one must make no page fail."""
        try:
            return read_settings(CelerySettings)
        except ConfigurationError as error:
            raise_or_tell(error, "the defaults hold for the Celery task")
            return CelerySettings()

    def delay_on_commit(self, *args: Any, using: str | None = None, **kwargs: Any) -> None:
        """Publish a trigger when the current transaction commits, and not at all when it is rolled back.

        It is what it is at the time of this call, its time too. Outside of `atomic` it is published at once. When
        the broker is away then, the fallback holds in any case: nobody would be there to take an exception.

        Args:
            *args: As `record_trigger` takes them.
            using: Which database's transaction; None means the default one.
            **kwargs: As `record_trigger` takes them.

        Raises:
            InvalidTrigger: For a mistake in the arguments.
        """
        client = self._django_client
        body = self.encode(args, kwargs)
        if body is None:
            return

        def publish() -> None:
            try:
                self.publish_encoded(body)
            except Exception as error:  # of the broker's library
                client.count_failure("delay_on_commit", error)
                client.record_encoded(body)

        client.on_commit(publish, using)

    @property
    def _django_client(self) -> DjangoFocusLabClient:
        client = self.client
        assert isinstance(client, DjangoFocusLabClient)
        return client


record_trigger = make_task(DjangoRecordTask, "brockman.django.record_trigger")
task_postrun.connect(publish_now_and_then, weak=False, dispatch_uid="brockman.stats")
