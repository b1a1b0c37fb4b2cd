"""brockman for Django: add `brockman.django` to `INSTALLED_APPS`.

The client in `brockman.django.client` takes its options from the settings; the middleware in
`brockman.django.middleware` gives each request a tracker; the Celery task is in `brockman.django.celery.tasks`.
"""
