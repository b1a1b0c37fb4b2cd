"""The headers with which a server can prove that everything has arrived: who sends, and what it has counted."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from brockman.buffer.base import Buffer
from brockman.buffer.counters import Counters, read_counts
from brockman.delivery.engine import Engine, Held, Settled
from brockman.options import Options
from brockman.transport import Answer, Transport
from brockman.trigger.coerce import class_name

Headers = Mapping[str, str]


class Sender:
    """Adds headers to the requests of one pipeline."""

    def __init__(self, options: Options, buffer: Buffer, counters: Counters) -> None:
        self._unbuffered = 0
        self._is_identified = options.identify_sender
        self._buffer = buffer
        self._counters = counters

    def identify(self, transport: Transport, *, is_counted: bool) -> Transport:
        """Return a transport that adds the headers, if the given one takes headers and the user wants them."""
        if not (self._is_identified and takes_headers(transport)):
            return transport
        return _IdentifiedTransport(transport, self._counts if is_counted else self._identity)

    def deliver_unbuffered(self, engine: Engine, bodies: Sequence[bytes]) -> Iterator[Settled | Held]:
        """Send triggers that are in no buffer, in one attempt for each; until it is settled, each is waiting."""
        self._unbuffered = len(bodies)
        try:
            for event in engine.deliver(bodies, once=True):
                yield event
                if isinstance(event, Settled):
                    self._unbuffered -= len(event.bodies)
        finally:
            self._unbuffered = 0

    def _identity(self) -> Headers:
        return {"X-FL-Sender": self._counters.identity.text}

    def _counts(self) -> Headers:
        """Return who sends, and the counts at this moment, which add up. Does not block."""
        stats, unbuffered = read_counts(self._buffer, self._counters), self._unbuffered
        counts = {
            "recorded": stats.recorded + unbuffered,
            "recovered": stats.recovered,
            "delivered": stats.delivered,
            "rejected": stats.rejected,
            **{f"dropped.{reason}": count for reason, count in stats.dropped.items()},
            "waiting": stats.queued + stats.in_flight + unbuffered,
        }
        return {**self._identity(), "X-FL-Counts": "; ".join(f"{name}={count}" for name, count in counts.items())}


class _IdentifiedTransport:
    def __init__(self, transport: Any, headers: Callable[[], Headers]) -> None:
        self.target = getattr(transport, "target", class_name(transport))
        self._transport = transport
        self._headers = headers

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        answer: Answer = self._transport.send(body, timeout, headers=self._headers())
        return answer

    def close(self) -> None:
        self._transport.close()


def takes_headers(transport: object) -> bool:
    """Return whether the `send` of a transport has a parameter `headers`."""
    try:
        return "headers" in inspect.signature(transport.send).parameters  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return False
