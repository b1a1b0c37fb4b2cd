"""The engine on a bench: real buffer, counters, log and worker, with waits that pass at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from brockman.buffer.counters import Callbacks, Counters
from brockman.buffer.memory import MemoryBuffer
from brockman.delivery.engine import Engine
from brockman.delivery.report import Report
from brockman.delivery.worker import DeliveryStopped, Worker
from brockman.options import Options
from brockman.process.log import Log
from brockman.process.sync import Role
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport, Reply


class Bench:
    """Puts numbered triggers in, delivers them, and remembers every wait.

    Attributes:
        waits: Seconds of each wait, and whether the server asked for them.
        max_waits: After this many waits the client is closed.
        refused: The calls of `on_error`: the error and the numbers of the triggers.
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
        self.engine = Engine(self.options, self.transport, lambda: self.now, lambda: 1.0)
        report = Report(self.counters, callbacks, Log(lambda: self.now))
        self._worker = _BenchWorker(
            self.buffer,
            self.engine,
            Role(),
            self.counters,
            callbacks,
            report,
            self.options,
            leases=(),
            start=lambda: None,
        )
        self._worker.bench = self

    def deliver(self, count: int, start: int = 0, size: int = 0) -> None:
        """Deliver triggers start, start + 1, ... as batches of `max_batch_size`."""
        for i in range(start, start + count):
            self.buffer.put(json.dumps({"n": i, "pad": "x" * size}).encode())
        while len(self.buffer) or self.buffer.in_flight:
            batch = self.buffer.take(self.engine.max_count(len(self.buffer)), self.engine.limits.max_bytes)
            try:
                self._worker.deliver(batch)
            except DeliveryStopped:
                return

    @property
    def sent(self) -> list[list[int]]:
        """The numbers of the triggers in each request."""
        return [numbers(body) for body in self.transport.bodies]


class _BenchWorker(Worker):
    """A worker that notes its waits instead of sleeping."""

    bench: Bench

    def sleep(self, seconds: float, *, server_requested: bool) -> None:
        """Move the clock of the bench on."""
        bench = self.bench
        if len(bench.waits) >= bench.max_waits:
            raise DeliveryStopped
        bench.waits.append((seconds, server_requested))
        bench.now += seconds


def number(body: bytes) -> int:
    """Return the number of a trigger."""
    return int(json.loads(body)["n"])


def numbers(body: bytes) -> list[int]:
    """Return the numbers of the triggers in a request."""
    content = json.loads(body)
    return [trigger["n"] for trigger in (content if isinstance(content, list) else [content])]


def is_array(body: bytes) -> bool:
    """Return whether a request carries an array."""
    return body.startswith(b"[")


OK = Answer(201)
