"""Where Celery's `autodiscover_tasks` looks for the tasks of the app `brockman.django`."""

from brockman.django.celery.tasks import record_trigger

__all__ = ["record_trigger"]
