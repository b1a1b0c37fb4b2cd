"""The context of Celery tasks in a Django project: `FL_CELERY_CONTEXT` may be a setting of the project."""

from brockman.celery import context
from brockman.django.settings import read_settings
from brockman.options.celery import ContextSettings

context.read_with(lambda: read_settings(ContextSettings))
