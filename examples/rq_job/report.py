"""A job of RQ that runs in the context of its caller: nobody passes the actor to it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from redis import Redis
from rq import Queue, get_current_job

import brockman
from brockman import FocusLabClient, contexts

client = FocusLabClient()  # key and endpoint come from FL_API_KEY and FL_ENDPOINT


def in_the_context_of_the_caller(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a job that runs in the context that `enqueue` has put into its message."""

    @functools.wraps(function)
    def run(*arguments: Any, **keywords: Any) -> Any:
        job = get_current_job()
        if job is None:  # called directly: the context is there
            return function(*arguments, **keywords)
        # RQ ends the process after the job: deliver before that.
        with contexts.entered(contexts.unpack(job.meta.get("brockman"))), client.flushing(timeout=10):
            return function(*arguments, **keywords)

    return run


def enqueue(queue: Queue, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Put a job into a queue, with the context of the caller. Takes what `queue.enqueue` takes."""
    meta = {**keywords.pop("meta", {}), "brockman": contexts.pack()}
    return queue.enqueue(function, *arguments, meta=meta, **keywords)


@in_the_context_of_the_caller
def build(month: str) -> None:
    """Build a report, in a worker."""
    client.record_trigger(action="received", obj="report", variables={"month": month})


if __name__ == "__main__":
    import report  # the name that the worker imports the job by

    queue = Queue(connection=Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")))
    for actor in (17, 23):
        with brockman.context(actor_id=actor, attributes={"plan": "team"}):
            enqueue(queue, report.build, "2026-03")
    print("2 jobs are in the queue")
