"""The Celery task: a call publishes a trigger at once, and a worker delivers it.

    from brockman.celery import record_trigger

    record_trigger.delay(user.id, "viewed", "blog post", identities={"email": user.email})

It works with every Celery app. The client's settings and its own are read from the environment; see
`brockman.options.celery.CelerySettings` for the latter.
"""

from brockman.celery.task import RecordTask, make_task

__all__ = ["record_trigger"]

record_trigger = make_task(RecordTask, "brockman.record_trigger")
