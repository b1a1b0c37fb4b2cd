"""A dramatiq actor that runs in the context of its caller: nobody passes the visitor to it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage, Middleware

import brockman
from brockman import FocusLabClient, contexts

client = FocusLabClient()  # key and endpoint come from FL_API_KEY and FL_ENDPOINT


class SendContext(Middleware):
    """Puts the context of the caller into each message; a retry has that of the first try."""

    def before_enqueue(self, broker: Any, message: Any, delay: Any) -> None:
        message.options.setdefault("brockman", contexts.pack())


def in_the_context_of_the_caller(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs in the context of its message."""

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        message = CurrentMessage.get_current_message()
        if message is None:  # called directly: the context is there
            return function(*arguments)
        with contexts.entered(contexts.unpack(message.options.get("brockman"))):
            return function(*arguments)

    return run


broker = RedisBroker(url=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
for middleware in (CurrentMessage(), SendContext()):
    broker.add_middleware(middleware)
dramatiq.set_broker(broker)


@dramatiq.actor
@in_the_context_of_the_caller
def build(month: str) -> None:
    """Build a report, in a worker."""
    client.record_trigger(action="received", obj="report", variables={"month": month})


if __name__ == "__main__":
    for visitor in (17, 23):
        with brockman.context(actor_id=visitor, attributes={"plan": "team"}):
            build.send("2026-03")
    print("2 messages are in the queue")
