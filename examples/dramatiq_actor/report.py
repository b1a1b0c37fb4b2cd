"""A dramatiq actor that runs in the context of its caller: nobody passes the visitor to it."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AgeLimit, Middleware

import brockman
from brockman import FocusLabClient, contexts

client = FocusLabClient()  # key and endpoint come from FL_API_KEY and FL_ENDPOINT


class CarryContext(Middleware):
    """Runs each actor in the context of its caller, also a coroutine; a retry has that of the first try."""

    def before_enqueue(self, broker: Any, message: Any, delay: Any) -> None:
        message.options.setdefault("brockman", contexts.pack())

    def before_process_message(self, broker: Any, message: Any) -> None:
        contexts.entered(contexts.unpack(message.options.get("brockman"))).__enter__()

    def after_process_message(self, broker: Any, message: Any, **outcome: Any) -> None:
        contexts.entered(None).__enter__()

    after_skip_message = after_process_message


broker = RedisBroker(url=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
broker.add_middleware(CarryContext(), before=AgeLimit)  # around all others: what a pipeline calls next has it, too
dramatiq.set_broker(broker)


@dramatiq.actor
def build(month: str) -> None:
    """Build a report, in a worker."""
    client.record_trigger(action="received", obj="report", variables={"month": month})


if __name__ == "__main__":
    for visitor in (17, 23):
        with brockman.context(actor_id=visitor, attributes={"plan": "team"}):
            build.send("2026-03")
    print("2 messages are in the queue")
