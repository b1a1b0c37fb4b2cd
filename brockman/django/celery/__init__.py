"""Celery for Django projects: the task is in `brockman.django.celery.tasks`."""
