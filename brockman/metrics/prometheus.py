"""The metrics in `prometheus_client`: a collector, or, if several processes are scraped as one, files."""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

from brockman.metrics.table import METRICS, Kind, Metric, Values
from brockman.metrics.totals import read_totals, watch
from brockman.process import exit, fork, pulse
from brockman.process.interruption import is_interruption
from brockman.process.log import Log
from brockman.process.sync import Wakeup
from brockman.process.threads import PREFIX
from brockman.process.uwsgi import thread_starter

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "this needs prometheus_client: pip install 'brockman[prometheus]'", name=error.name
    ) from error

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # as prometheus_client reads it when it is imported
_LOCK_SECONDS = 1.0  # that a fork waits for values that are written, which takes far less
_LAST_SECONDS = 1.0  # that the exit waits for the last values
_registered: weakref.WeakSet[CollectorRegistry] = weakref.WeakSet()
_log = Log()


def register(registry: CollectorRegistry | None) -> None:
    """See `brockman.metrics.register_prometheus`."""
    watch()
    if os.environ.get(_DIRECTORY):
        _start_publishing()
        return
    registry = REGISTRY if registry is None else registry
    if registry not in _registered:
        registry.register(_Collector())
        _registered.add(registry)


class _Collector(Collector):
    """Reads the counts of this process when it is scraped."""

    def describe(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield the metrics without values."""
        return self._families({})

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield the metrics; the values of a pipeline are of one instant."""
        return self._families(read_totals())

    def _families(self, totals: dict[str, Values]) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for metric in METRICS:
            make = CounterMetricFamily if metric.kind is Kind.TOTAL else GaugeMetricFamily
            family = make(metric.prometheus, metric.meaning, labels=metric.labels)
            for labels, value in metric.samples(totals):
                family.add_metric(labels, value)
            yield family


class _Published:
    """The values that one process has written. `lock` guards them, and is held while they are written."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.values: dict[tuple[str, tuple[str, ...]], float] = {}


_published = fork.PerProcess(_Published)
_instruments: dict[str, Any] = {}  # by field: the counters and gauges, whose values are files


def _start_publishing() -> None:
    if not _instruments:
        for metric in METRICS:
            _instruments[metric.field] = _make(metric)
        pulse.hooks.append(_publish)
        exit.after_exit_hooks.append(_publish_last)
        # prometheus_client writes under a lock, which would stay held in a child that another thread forks.
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)
    _publish()


def _make(metric: Metric) -> Counter | Gauge:
    if metric.kind is Kind.TOTAL:
        return Counter(metric.prometheus, metric.meaning, metric.labels, registry=None)
    mode: Any = "livesum" if metric.kind is Kind.SUM else "livemax"
    return Gauge(metric.prometheus, metric.meaning, metric.labels, registry=None, multiprocess_mode=mode)


def _publish() -> bool:
    """Write what has changed; return whether anything has. Logs an error of the file system once."""
    published = _published.get()
    try:
        with published.lock:
            return _write(published.values)
    except Exception as error:
        if is_interruption(error):
            raise
        _log.once(logging.ERROR, f"cannot write metrics to {_DIRECTORY}: {type(error).__name__}")
        _log.write()
        return False


def _publish_last() -> None:
    """Write the last counts, in a thread, and wait for it for a second at most.

    A signal handler that ends the process may have interrupted code that holds a lock of prometheus_client.
    """
    written = Wakeup()

    def write() -> None:
        try:
            _publish()
        finally:
            written.set()

    try:
        if sys.is_finalizing():  # before Python 3.12 a thread could still be made, and would never run
            raise RuntimeError
        thread_starter()(write, PREFIX + "metrics")
    except RuntimeError:
        write()
    else:
        written.wait(_LAST_SECONDS)


def _write(written: dict[tuple[str, tuple[str, ...]], float]) -> bool:
    totals = read_totals()
    has_changed = False
    for metric in METRICS:
        for labels, value in metric.samples(totals):
            before = written.get((metric.field, labels))
            if value != before:
                series = _instruments[metric.field].labels(*labels)
                if metric.kind is Kind.TOTAL:
                    # Added to what the file has: of an earlier process with this id, perhaps.
                    series.inc(max(0, value - (before or 0)))
                else:
                    series.set(value)
                written[metric.field, labels] = value
                has_changed = True
    return has_changed


_forking = threading.local()


def _before_fork() -> None:
    lock = _published.get().lock
    _forking.lock = lock if lock.acquire(timeout=_LOCK_SECONDS) else None


def _after_fork_in_parent() -> None:
    lock, _forking.lock = _forking.lock, None
    if lock is not None:
        lock.release()
