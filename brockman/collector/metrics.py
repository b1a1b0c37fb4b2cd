"""Counts of one collector, in the text format of Prometheus.

https://prometheus.io/docs/instrumenting/exposition_formats/ (0.0.4). They begin at 0 with the process.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from brockman import __version__
from brockman.collector.errors import StoreUnavailable

MEDIA_TYPE = "text/plain; version=0.0.4"
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
_Labels = Mapping[str, str | int]


class _Durations:
    """The durations of requests, in ranges."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(_BOUNDS, seconds)] += 1
        self.total += seconds


class Metrics:
    """All counts, and functions that return others at the time they are asked for. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.time()
        self._triggers = {"stored": 0, "repeated": 0, "refused": 0}
        self._requests: Counter[tuple[str, str, str]] = Counter()  # method, path, status
        self._bytes = {"received": 0, "sent": 0}
        self._durations: dict[tuple[str, str], _Durations] = {}
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []

    def add_gauge(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Add a number that is read when the metrics are; it is left out while reading raises StoreUnavailable."""
        self._gauges.append((name, meaning, read))

    def count_triggers(self, *, stored: int, repeated: int, refused: int) -> None:
        with self._lock:
            self._triggers["stored"] += stored
            self._triggers["repeated"] += repeated
            self._triggers["refused"] += refused

    def count_request(
        self, method: str, path: str, status: str, *, received: int, sent: int, seconds: float | None
    ) -> None:
        """Count a request. `path` is one of a few; `seconds` is None for streams."""
        with self._lock:
            self._requests[method, path, status] += 1
            self._bytes["received"] += received
            self._bytes["sent"] += sent
            if seconds is not None:
                self._durations.setdefault((method, path), _Durations()).add(seconds)

    def expose(self) -> str:
        """Return all of it as text. Reads the store."""
        gauges = [*_read(self._gauges)]
        with self._lock:
            return "".join(f"{line}\n" for line in (*self._expose_counts(), *gauges))

    def _expose_counts(self) -> Iterator[str]:
        yield from _head("brockman_info", "gauge", "The version of the collector.")
        yield _sample("brockman_info", {"version": __version__}, 1)
        yield from _head("process_start_time_seconds", "gauge", "When the process started, since 1970.")
        yield _sample("process_start_time_seconds", {}, self._started)
        yield from _head("brockman_triggers_total", "counter", "Triggers received, by what became of them.")
        for result, number in self._triggers.items():
            yield _sample("brockman_triggers_total", {"result": result}, number)
        yield from _head("brockman_bytes_total", "counter", "Bytes of request and response bodies.")
        for direction, number in self._bytes.items():
            yield _sample("brockman_bytes_total", {"direction": direction}, number)
        yield from _head("brockman_requests_total", "counter", "Requests; status none: no response began.")
        for (method, path, status), number in self._requests.items():
            yield _sample("brockman_requests_total", {"method": method, "path": path, "status": status}, number)
        name = "brockman_request_seconds"
        yield from _head(name, "histogram", "Seconds from the headers of a request to the end of its response.")
        for (method, path), durations in self._durations.items():
            yield from _expose_durations(name, {"method": method, "path": path}, durations)


def _expose_durations(name: str, labels: _Labels, durations: _Durations) -> Iterator[str]:
    total = 0
    for bound, count in zip((*map(str, _BOUNDS), "+Inf"), durations.counts, strict=True):
        total += count
        yield _sample(f"{name}_bucket", {**labels, "le": bound}, total)
    yield _sample(f"{name}_sum", labels, durations.total)
    yield _sample(f"{name}_count", labels, total)


def _read(gauges: list[tuple[str, str, Callable[[], float]]]) -> Iterator[str]:
    for name, meaning, read in gauges:
        try:
            value = read()
        except StoreUnavailable:
            continue
        yield from _head(name, "gauge", meaning)
        yield _sample(name, {}, value)


def _head(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, labels: _Labels, value: float) -> str:
    """Return a line. No label here has a character that would have to be escaped."""
    inner = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return f"{name}{{{inner}}} {value}" if labels else f"{name} {value}"
