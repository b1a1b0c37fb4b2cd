"""The counts of all pipelines of a process, by endpoint (never by key), also of those that are gone.

Invariant: from the first `watch` on, the counts of each `Counters` object are in exactly one place: in a `_Source`
of `_Watched.sources`, or, when nothing counts there any more, added up in `_Watched.ended`. So no total goes back.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from brockman.buffer.counters import REASONS, Counters, read_oldest_age, read_together
from brockman.metrics.table import KINDS, Kind, Values
from brockman.process import fork, registry

if TYPE_CHECKING:
    from brockman.buffer.base import Buffer
    from brockman.delivery.pipeline import Pipeline

_FEW = 1000  # sources, below which those that have ended are only added up by a reader


class _Source:
    """One `Counters` object and the pipelines that count there. Keeps none of them alive."""

    def __init__(self, counters: Counters, endpoint: str) -> None:
        self.endpoint = endpoint
        self.final: Values | None = None  # set by a finalizer, which takes no lock
        self._counters = weakref.ref(counters)
        self._pipelines: list[weakref.ref[Pipeline]] = []
        self._last: Values = {}

    def add(self, pipeline: Pipeline) -> None:
        living = [ref for ref in self._pipelines if ref() not in (None, pipeline)]
        self._pipelines = [*living, weakref.ref(pipeline)]

    def end(self, counters: Counters) -> None:
        """Keep what is counted. Runs in a finalizer."""
        self.final = _totals_of(_read((), counters))

    def read(self) -> Values:
        """Return a consistent snapshot. May read a file."""
        counters = self._counters()
        if counters is None:  # its finalizer runs now
            return self.final or _totals_of(self._last)
        pipelines = [pipeline for ref in self._pipelines if (pipeline := ref()) is not None]
        self._last = _read([pipeline.buffer for pipeline in pipelines], counters)
        return self._last


class _Watched:
    """The counts of one process. `lock` guards both fields, but one call in C adds a source without it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.sources: dict[_Source, None] = {}
        self.ended: dict[str, Values] = {}  # by endpoint
        self.limit = _FEW

    def add_up_ended(self) -> None:
        """Replace the sources that have ended by their sums. To be called with the lock."""
        for source in list(self.sources):
            if source.final is not None:
                self.ended[source.endpoint] = _sum((self.ended.get(source.endpoint, {}), source.final))
                del self.sources[source]
        self.limit = max(_FEW, 2 * len(self.sources))


_watched = fork.PerProcess(_Watched)


def watch() -> None:
    """Count from now on for `read_totals`. Idempotent; holds in forked children too."""
    if _on_made not in registry.made_hooks:
        registry.made_hooks.append(_on_made)
        process = registry.existing()
        if process is not None:
            with process.lock:
                for pipeline in list(process.unfinished):
                    _on_made(pipeline)


def _on_made(pipeline: Pipeline) -> None:
    watched, counters = _watched.get(), pipeline.counters
    source = counters.source
    if source is None:
        source = counters.source = _Source(counters, pipeline.options.endpoint)
        watched.sources[source] = None
    source.add(pipeline)
    if len(watched.sources) > watched.limit and watched.lock.acquire(blocking=False):
        try:
            watched.add_up_ended()
        finally:
            watched.lock.release()


def read_totals() -> dict[str, Values]:
    """Return the values of this process by endpoint, each from one snapshot of its pipeline. May read a file."""
    watched = _watched.get()
    with watched.lock:
        watched.add_up_ended()
        totals = dict(watched.ended)
        for source in list(watched.sources):
            totals[source.endpoint] = _sum((totals.get(source.endpoint, {}), source.read()))
    return totals


def _sum(parts: Iterable[Mapping[tuple[str, ...], float]]) -> Values:
    total: Values = {}
    for part in parts:
        for name, value in part.items():
            before = total.get(name, 0)
            total[name] = max(before, value) if KINDS[name[0]] is Kind.HIGHEST else before + value
    return total


def _totals_of(values: Values) -> Values:
    """Return the values without those of what is there now, as nothing is."""
    return {name: value if KINDS[name[0]] is Kind.TOTAL else 0 for name, value in values.items()}


def _read(buffers: Iterable[Buffer], counters: Counters) -> Values:
    buffers = tuple(buffers)
    stats, left_on_disk = read_together(buffers, counters)
    in_use = [buffer for buffer in buffers if not buffer.is_discarded]
    return {
        ("recorded",): stats.recorded,
        ("recovered",): stats.recovered,
        ("delivered",): stats.delivered,
        ("rejected",): stats.rejected,
        **{("dropped", reason): stats.dropped.get(reason, 0) for reason in REASONS},
        ("left_on_disk",): left_on_disk,
        ("repeated",): stats.repeated or 0,
        ("batches",): stats.batches,
        ("retries",): stats.retries,
        ("queued",): stats.queued - left_on_disk,
        ("in_flight",): stats.in_flight,
        ("queued_bytes",): stats.queued_bytes,
        ("oldest_age",): max((read_oldest_age(buffer) or 0.0 for buffer in in_use), default=0.0),
        ("spool_unavailable",): int(any(buffer.trouble for buffer in in_use)),
    }
