"""The Celery task: a call publishes a trigger at once, and a worker delivers it.

    from brockman.celery import record_trigger

    record_trigger.delay(user.id, "viewed", "blog post", identities={"email": user.email})

In a `brockman.context` the actor may be left out, and every Celery task that is called in it runs in it, also in a
worker that imports this package; see `brockman.celery.context`.

It works with every Celery app. The client's settings and its own are read from the environment; see
`brockman.options.celery.CelerySettings` for the latter.
"""

from brockman.celery import context as _context  # noqa: F401 - connects to Celery's signals
from brockman.celery.task import RecordTask, make_task

__all__ = ["record_trigger"]

record_trigger = make_task(RecordTask, "brockman.record_trigger")
