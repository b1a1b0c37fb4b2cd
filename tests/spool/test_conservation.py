"""The conservation law over a spool, with ends and deaths of the process in between.

As `tests.test_conservation`, with its oracle. A death is what a death does to files: every descriptor is closed,
which frees the lock, and nothing else is done.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from brockman.delivery.pipeline import Pipeline
from brockman.exceptions import BufferFull
from brockman.options import Options
from brockman.transport.memory import MemoryTransport
from brockman.trigger.encode import encode_trigger
from tests.support.client import KEY
from tests.test_conservation import MAX_ATTEMPTS, MOMENT, Conservation, Server, no_thread

SPOOL_BYTES = 2**20
SLACK = 4096  # bytes: locks and acknowledgements


class SpooledConservation(Conservation):
    """Record, flush, overflow, end and die at random."""

    close = None  # it ends by `restart`

    @initialize(
        overflow=st.sampled_from(["drop_newest", "drop_oldest", "block", "raise"]),
        max_batch_size=st.integers(2, 15),
        max_batch_bytes=st.integers(500, 40_000),
    )
    def start(self, **options) -> None:
        self.server = Server()
        self.dropped: list[int] = []
        self.errors: list[int] = []
        self.calls = 0
        self.past: Counter[str] = Counter()  # the counts of processes that are gone
        self.folder = tempfile.TemporaryDirectory()
        self.options = Options(
            api_key=KEY,
            spool_dir=str(Path(self.folder.name) / "spool"),
            max_spool_bytes=SPOOL_BYTES,
            block_timeout=0,
            backoff_base=1e-6,
            backoff_cap=1e-6,
            max_attempts=MAX_ATTEMPTS,
            on_drop=lambda reason, body: self.dropped.append(json.loads(body)["variables"]["n"]),
            on_error=lambda error, bodies: self.errors.extend(json.loads(b)["variables"]["n"] for b in bodies),
            **options,
        )
        self.begin()

    def begin(self) -> None:
        self.server.largest = 0  # a process knows what it has sent itself
        self.pipeline = Pipeline(self.options, MemoryTransport(self.server), spawn=no_thread)
        self.pipeline.inline.retry_at = math.inf  # as there
        self.pipeline.buffer.adopt(60)

    def totals(self) -> Counter[str]:
        stats = self.pipeline.stats()
        now = {name: getattr(stats, name) for name in ("recorded", "delivered", "rejected")}
        return self.past + Counter(now) + Counter(dropped=sum(stats.dropped.values()))

    @rule(count=st.integers(1, 15), pad=st.integers(0, 9000))
    def record(self, count: int, pad: int) -> None:
        for _ in range(count):
            self.calls += 1
            variables = {"n": self.calls, "pad": "x" * pad}
            moment = datetime(2026, 11, 23, 12, 0, 0, 1, timezone.utc)
            name = f"id {self.calls}"
            body = encode_trigger("actor", "viewed", "page", None, None, variables, name, moment, 10_000)
            before = self.pipeline.stats().dropped
            try:
                taken = self.pipeline.buffer.put(body)
            except BufferFull:
                taken = False
            evicted = self.pipeline.options.overflow == "drop_oldest"
            assert taken or self.pipeline.stats().dropped != before
            assert evicted or not taken or self.pipeline.stats().dropped == before

    @rule(count=st.integers(60, 130))
    def fill(self, count: int) -> None:
        self.record(count, 9000)

    @rule()
    def restart(self) -> None:
        self.server.faults.clear()  # a delivery that a flush cut short begins again
        self.pipeline.close(MOMENT)
        self.follow()

    @rule(in_part=st.booleans())
    def die(self, in_part: bool) -> None:
        if in_part:
            self.record(10, 10)
            self.server.script[:] = [400, "ok", 401]  # half of a batch is settled, and the rest held
            self.flush()
        self.pipeline.buffer.after_fork_in_child()
        self.follow()

    def follow(self) -> None:
        """Be the next process."""
        stats, self.past = self.pipeline.stats(), self.totals()
        self.begin()
        now = self.pipeline.stats()
        assert now.recovered == now.queued == stats.queued + stats.in_flight

    @invariant()
    def nothing_is_lost_uncounted(self) -> None:
        if not hasattr(self, "pipeline"):
            return
        stats, totals = self.pipeline.stats(), self.totals()
        assert totals["recorded"] == self.calls
        settled = totals["delivered"] + totals["rejected"] + totals["dropped"]
        assert self.calls == settled + stats.queued + stats.in_flight
        assert set(stats.dropped) <= {"overflow"}
        assert stats.spool_error is None

    @invariant()
    def counts_are_what_the_server_handed_out(self) -> None:
        if not hasattr(self, "pipeline"):
            return
        totals = self.totals()
        assert totals["delivered"] == self.server.acknowledged
        assert totals["rejected"] == len(self.server.refused)
        assert self.errors == self.server.refused
        assert len(self.dropped) == len(set(self.dropped)) == totals["dropped"]

    @invariant()
    def bounds_hold(self) -> None:
        if not hasattr(self, "pipeline"):
            return
        files = [path for path in Path(self.folder.name).rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) <= SPOOL_BYTES + SLACK

    def teardown(self) -> None:
        if not hasattr(self, "pipeline"):
            return
        with self.folder:
            self.flush_with_a_healthy_server()
            self.nothing_is_lost_uncounted()
            self.pipeline.close(1)
            assert os.listdir(self.options.spool_dir) == []


SpooledConservation.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestSpooledConservation = SpooledConservation.TestCase
