"""A delivery on the bench: the real buffer, counters, report and delivery, with waits that pass at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from brockman.buffer.counters import Callbacks, Counters
from brockman.buffer.memory import MemoryBuffer
from brockman.delivery.engine import Delivery, DeliveryStopped
from brockman.delivery.report import Report
from brockman.options import Options
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport, Reply


class Bench:
    """Puts numbered triggers in, delivers them, and remembers every wait.

    Attributes:
        waits: The waits that delivery asked for: seconds, and whether the server asked for them.
        max_waits: After so many waits the wait gives up, as when a client closes.
        refused: What `on_error` was told: the error and the numbers of the triggers.
        now: The clock; each wait moves it on.
    """

    def __init__(
        self, replies: list[Reply] | Callable[[bytes], Reply] = (), *, max_waits: int = 1000, **options: Any
    ):
        self.now = 1000.0
        self.waits: list[tuple[float, bool]] = []
        self.max_waits = max_waits
        self.refused: list[tuple[Exception, list[int]]] = []
        self.transport = MemoryTransport(replies)
        self.options = Options(api_key="k", **options)
        callbacks = Callbacks(
            None, lambda error, bodies: self.refused.append((error, [number(b) for b in bodies]))
        )
        self.counters = Counters(callbacks)
        self.buffer = MemoryBuffer(
            self.counters,
            max_count=10**6,
            max_bytes=10**9,
            overflow="drop_newest",
            block_timeout=0,
            wake=lambda: None,
            may_wait=lambda: True,
        )
        report = Report(self.counters, callbacks, lambda: self.now)
        self.delivery = Delivery(
            self.options,
            self.transport,
            lambda count, delivered: self.buffer.settle(count, delivered=delivered),
            self.counters,
            callbacks,
            report,
            self._pause,
            lambda: None,
            clock=lambda: self.now,
            rand=lambda: 1.0,
        )

    def _pause(self, seconds: float, *, server_requested: bool) -> None:
        if len(self.waits) >= self.max_waits:
            raise DeliveryStopped
        self.waits.append((seconds, server_requested))
        self.now += seconds

    def deliver(self, count: int, start: int = 0, size: int = 0) -> None:
        """Deliver triggers start, start + 1, ... as batches of `max_batch_size`."""
        for i in range(start, start + count):
            self.buffer.put(json.dumps({"n": i, "pad": "x" * size}).encode())
        while len(self.buffer) or self.buffer.in_flight:
            batch = self.buffer.take(self.options.max_batch_size, self.delivery.max_bytes)
            try:
                self.delivery.deliver(batch)
            except DeliveryStopped:
                return

    @property
    def sent(self) -> list[list[int]]:
        """The numbers of the triggers in each request."""
        return [numbers(body) for body in self.transport.bodies]


def number(body: bytes) -> int:
    return int(json.loads(body)["n"])


def numbers(body: bytes) -> list[int]:
    content = json.loads(body)
    return [trigger["n"] for trigger in (content if isinstance(content, list) else [content])]


def is_array(body: bytes) -> bool:
    return body.startswith(b"[")


OK = Answer(201)
