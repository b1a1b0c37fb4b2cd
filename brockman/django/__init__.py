"""brockman for Django: add `brockman.django` to `INSTALLED_APPS`.

The client of `brockman.django.client` takes its options from the settings; the middleware of
`brockman.django.middleware` gives each request a tracker; the task is in `brockman.django.celery.tasks`.
"""
