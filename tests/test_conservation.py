"""The conservation law, checked against a server that answers from the API's table at random.

The pipeline is the real one, but can start no thread, so that `flush` and `close` deliver in the caller's thread
and every run can be repeated. The test does not rely on the sum alone: delivered must be what the server
acknowledged, rejected what it rejected for good, and a duplicate needs an attempt whose response was lost.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from contextlib import suppress
from datetime import datetime, timezone

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from brockman.delivery.pipeline import Pipeline
from brockman.delivery.policy import Outcome, classify
from brockman.exceptions import BufferFull, ConnectionFailed
from brockman.options import Options
from brockman.transport import Answer
from brockman.trigger.encode import encode_trigger
from tests.support.client import KEY

MAX_ATTEMPTS = 3
MOMENT = 0.006  # seconds for a flush; what is not done by then stays for the next
OUTCOMES = (
    *("ok", "lost", "refused", "reset", "stale", "portal", "rejections", "garbled"),
    *(400, 401, 404, 405, 413, 415, 422, 429, 301, 500, 501, 502, 503, 599),
)


def no_thread(target):
    raise RuntimeError("can't start new thread")


class Server:
    """Answers each request with the next outcome of its script, then accepts; keeps the counts to compare with."""

    def __init__(self) -> None:
        self.script: list[str | int] = []
        self.stored: Counter[int] = Counter()
        self.acknowledged = 0
        self.refused: list[int] = []
        self.ambiguous: set[int] = set()
        self.poison: set[int] = set()
        self.faults: Counter[int] = Counter()  # how often a single object met a 500, in one delivery
        self.largest = 0  # bytes of a request that was accepted

    def __call__(self, body: bytes) -> Answer | ConnectionFailed:
        content = json.loads(body)
        is_array = isinstance(content, list)
        ns = [trigger["variables"]["n"] for trigger in (content if is_array else [content])]
        outcome = self.script.pop(0) if self.script else "ok"
        if outcome == "ok" and self.poison & set(ns):
            outcome = 400
        if outcome in ("refused", "reset", "stale"):
            return ConnectionFailed(str(outcome), stale=outcome == "stale")
        if outcome == "lost":
            self.stored.update(ns)
            self.ambiguous.update(ns)
            return ConnectionFailed("reset")
        if outcome == "portal":
            return Answer(200, b"<html>", "text/html")
        if outcome == "rejections":
            self.largest = max(self.largest, len(body))
            return self._verdicts(ns)
        if outcome == "garbled":  # accepted, but the rejections cannot be read
            self.stored.update(ns)
            self.ambiguous.update(ns)
            return Answer(207, b'{"rejected": [')
        if outcome == "ok":
            self.stored.update(ns)
            self.acknowledged += len(ns)
            self.largest = max(self.largest, len(body))
            return Answer(201)
        return self._refuse(int(outcome), ns, is_array, len(body))

    def _verdicts(self, ns: list[int]) -> Answer:
        rejected = [{"index": i, "error": "odd"} for i, n in enumerate(ns) if n % 2 or n in self.poison]
        self.refused += [ns[entry["index"]] for entry in rejected]
        self.acknowledged += len(ns) - len(rejected)
        self.stored.update(n for i, n in enumerate(ns) if not any(r["index"] == i for r in rejected))
        return Answer(207, json.dumps({"rejected": rejected}).encode())

    def _refuse(self, status: int, ns: list[int], is_array: bool, size: int) -> Answer:
        outcome = classify(Answer(status), len(ns))
        if not is_array:
            is_too_large = outcome is Outcome.TOO_LARGE and size > self.largest
            if outcome is Outcome.REFUSED or is_too_large:
                self.refused += ns
            elif outcome in (Outcome.SERVER_ERROR, Outcome.TOO_LARGE):  # a smaller one than what was accepted
                self.faults[ns[0]] += 1
                self.refused += ns if self.faults[ns[0]] == MAX_ATTEMPTS else []
        return Answer(status)


class Conservation(RuleBasedStateMachine):
    """Record, flush, overflow and close at random."""

    @initialize(
        overflow=st.sampled_from(["drop_newest", "drop_oldest", "block", "raise"]),
        max_queue_size=st.integers(4, 60),
        max_queue_bytes=st.integers(1500, 9000),
        max_batch_size=st.integers(2, 15),
        max_batch_bytes=st.integers(500, 4000),
    )
    def start(self, **options) -> None:
        self.server = Server()
        self.dropped: list[int] = []
        self.errors: list[int] = []
        self.calls = 0
        self.sizes: list[int] = []  # of each trigger, encoded
        from brockman.transport.memory import MemoryTransport

        self.pipeline = Pipeline(
            Options(
                api_key=KEY,
                block_timeout=0,
                backoff_base=1e-6,
                backoff_cap=1e-6,
                max_attempts=MAX_ATTEMPTS,
                on_drop=lambda reason, body: self.dropped.append(json.loads(body)["variables"]["n"]),
                on_error=lambda error, bodies: self.errors.extend(json.loads(b)["variables"]["n"] for b in bodies),
                **options,
            ),
            MemoryTransport(self.server),
            spawn=no_thread,
        )
        # Without a thread callers would deliver inline: here only `flush` and `close` deliver.
        self.pipeline.inline.retry_at = math.inf

    @rule(count=st.integers(1, 15), pad=st.integers(0, 300))
    def record(self, count: int, pad: int) -> None:
        for _ in range(count):
            self.calls += 1
            body = encode_trigger(
                "actor",
                "viewed",
                "page",
                None,
                None,
                {"n": self.calls, "pad": "x" * pad},
                f"id {self.calls}",
                datetime(2026, 11, 23, 12, 0, 0, 1, timezone.utc),
                10_000,
            )
            self.sizes.append(len(body))
            with suppress(BufferFull):  # counted as dropped
                self.pipeline.buffer.put(body)

    @rule(outcomes=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=6))
    def flush_with_a_server_that_answers_from_the_table(self, outcomes: list[str | int]) -> None:
        self.server.script.extend(outcomes)
        self.flush()

    @rule(back=st.integers(0, 5))
    def poison(self, back: int) -> None:
        self.server.poison.add(max(1, self.calls - back))

    def flush(self) -> None:
        before = self.pipeline.stats()
        self.server.faults.clear()  # a delivery that an earlier flush gave up begins anew
        result = self.pipeline.flush(MOMENT)
        after = self.pipeline.stats()
        assert result.pending == after.queued + after.in_flight
        assert result.delivered == after.delivered - before.delivered
        assert result.rejected == after.rejected - before.rejected

    @rule()
    def flush_with_a_healthy_server(self) -> None:
        self.server.script.clear()
        self.server.faults.clear()
        assert self.pipeline.flush(10)
        assert self.pipeline.stats().queued + self.pipeline.stats().in_flight == 0

    @precondition(lambda self: self.calls > 80)  # not early, or most runs would be short
    @rule()
    def close(self) -> None:
        self.pipeline.close(MOMENT)
        stats = self.pipeline.stats()
        assert stats.queued + stats.in_flight == 0

    @invariant()
    def nothing_is_lost_uncounted(self) -> None:
        if not hasattr(self, "pipeline"):
            return
        stats = self.pipeline.stats()
        assert stats.recorded == self.calls
        assert stats.recorded == (
            stats.delivered + stats.rejected + sum(stats.dropped.values()) + stats.queued + stats.in_flight
        )

    @invariant()
    def counts_are_what_the_server_handed_out(self) -> None:
        if not hasattr(self, "pipeline"):
            return
        stats = self.pipeline.stats()
        assert stats.delivered == self.server.acknowledged
        assert stats.rejected == len(self.server.refused)
        assert self.errors == self.server.refused
        assert len(self.dropped) == sum(stats.dropped.values())
        assert len(set(self.dropped)) == len(self.dropped)

    @invariant()
    def no_duplicate_without_a_lost_answer(self) -> None:
        if not hasattr(self, "pipeline"):
            return
        assert {n for n, times in self.server.stored.items() if times > 1} <= self.server.ambiguous
        unsettled = {*self.dropped, *self.errors}
        assert not {n for n in self.server.stored if n in unsettled} - self.server.ambiguous

    @invariant()
    def bounds_hold(self) -> None:
        if not hasattr(self, "pipeline"):
            return
        stats, options = self.pipeline.stats(), self.pipeline.options
        assert stats.queued <= options.max_queue_size
        # Delivery takes the oldest: the newest that were not dropped are those that wait.
        kept = [size for n, size in enumerate(self.sizes, 1) if n not in self.dropped]
        waiting = sum(kept[len(kept) - stats.queued :])
        assert stats.queued_bytes == waiting <= options.max_queue_bytes

    def teardown(self) -> None:
        if hasattr(self, "pipeline"):
            self.pipeline.close(MOMENT)
            self.nothing_is_lost_uncounted()


Conservation.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestConservation = pytest.mark.usefixtures("patient")(Conservation.TestCase)
