"""The Celery task: triggers leave the process at once, and a worker delivers them.

    from brockman.celery import record_trigger

    record_trigger.delay(user.id, "viewed", "blog post", identities={"email": user.email})

It works with whichever Celery app is current. The client's settings are read from the environment, and so are its
own: see `brockman.options.celery.CelerySettings`.
"""

from brockman.celery.task import RecordTask, make_task

__all__ = ["record_trigger"]

record_trigger = make_task(RecordTask, "brockman.record_trigger")
