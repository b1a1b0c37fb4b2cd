"""The metrics of one process: what Prometheus scrapes, and what OpenTelemetry observes."""

from __future__ import annotations

import gc
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest

import brockman.metrics
from brockman.client import FocusLabClient
from brockman.metrics.table import METRICS
from tests.support.client import KEY, record
from tests.support.endpoint import Endpoint
from tests.support.programs import ran_python
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

Make = Callable[..., FocusLabClient]
Counts = Counter[str]


class Prometheus:
    """Reads the values of one endpoint as a scrape does."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        brockman.metrics.register_prometheus(self.registry)

    def text(self) -> str:
        return generate_latest(self.registry).decode()

    def counts(self, endpoint: str) -> Counts:
        """Return the values by the name in the table, and those of `dropped` by reason too."""
        names = {metric.prometheus.removesuffix("_total"): metric.field for metric in METRICS}
        found: Counts = Counter()
        for family in self.registry.collect():
            for sample in family.samples:
                if sample.labels["endpoint"] == endpoint:
                    add(found, names[family.name], sample.labels, sample.value)
        return found


class OpenTelemetry:
    """Reads the values of one endpoint as an exporter does."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)
        brockman.metrics.observe_opentelemetry(self.provider)

    def counts(self, endpoint: str) -> Counts:
        names = {metric.otel: metric.field for metric in METRICS}
        found: Counts = Counter()
        data: Any = self.reader.get_metrics_data()
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            for point in metric.data.data_points:
                if point.attributes["endpoint"] == endpoint:
                    add(found, names[metric.name], point.attributes, point.value)
        return found


def add(found: Counts, field: str, labels: Any, value: Any) -> None:
    """Add a value to those found; a time series that comes twice is added twice, which the tests would notice."""
    found[field] += value
    if "reason" in labels:
        found[labels["reason"]] += value


def law_holds(counts: Counts) -> bool:
    """Return whether every trigger is somewhere, and only there."""
    places = ("delivered", "rejected", "dropped", "left_on_disk", "queued", "in_flight")
    return counts["recorded"] + counts["recovered"] == sum(counts[place] for place in places)


@contextmanager
def recording(client: FocusLabClient) -> Iterator[list[int]]:
    """Record in a thread for the length of a block; the list gets the number of triggers then."""
    stop, done = threading.Event(), [0]

    def work() -> None:
        while not stop.is_set():
            done[0] += record(client, 10)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("make_system", [Prometheus, OpenTelemetry])
def test_every_scrape_shows_where_each_trigger_is(
    make_system: Any, make_client: Make, server: RecordingServer
) -> None:
    """While a client records and sends; the values are those of `stats()`, and the key is in none of them."""
    system = make_system()
    client = make_client(max_queue_size=500, flush_interval=0.01)
    with recording(client) as recorded:
        scrapes = [system.counts(server.endpoint) for _ in range(100)]
    assert all(law_holds(counts) for counts in scrapes)
    assert len({counts["recorded"] for counts in scrapes}) > 1  # it did record meanwhile
    assert client.flush(60)
    counts, stats = system.counts(server.endpoint), client.stats()
    assert counts["delivered"] == stats.delivered == len(server.triggers)
    assert counts["recorded"] == stats.recorded == stats.delivered + stats.dropped.get("overflow", 0)
    assert counts["overflow"] == stats.dropped.get("overflow", 0)
    assert counts["batches"] == stats.batches
    assert recorded[0] == stats.delivered


def test_each_reason_begins_with_nothing_dropped(make_client: Make, server: RecordingServer) -> None:
    """So that an alert on an increase sees the first one; the key is not in the text."""
    make_client()
    text = Prometheus().text()
    assert f'brockman_triggers_dropped_total{{endpoint="{server.endpoint}",reason="overflow"}} 0.0' in text
    assert KEY not in text


def test_no_counter_goes_back_when_a_client_is_closed_opened_again_or_gone(server: RecordingServer) -> None:
    """Its counts are kept, and what is recorded after `close` is added."""
    system = Prometheus()

    def totals() -> list[float]:
        counts = system.counts(server.endpoint)
        assert law_holds(counts)
        return [counts[name] for name in ("recorded", "delivered", "closed", "queued")]

    client = FocusLabClient(KEY, server.endpoint)
    record(client, 3)
    assert client.close(60)
    assert totals() == [3, 3, 0, 0]
    record(client, 2)
    assert totals() == [5, 3, 2, 0]
    with client:
        record(client, 4)
    assert totals() == [9, 7, 2, 0]
    record(client, 1)
    del client
    gc.collect()
    assert totals() == [10, 7, 3, 0]
    with FocusLabClient(KEY, server.endpoint) as client:
        record(client, 5)
    assert totals() == [15, 12, 3, 0]


def test_what_a_client_leaves_on_disk_is_not_shown_as_queued(
    make_client: Make, server: RecordingServer, tmp_path: Any
) -> None:
    """Another process has it, or will: two would show the same trigger as queued."""
    system, endpoint = Prometheus(), Endpoint(server, 503)
    client = make_client(spool_dir=str(tmp_path / "spool"))
    record(client, 6)
    assert eventually(lambda: endpoint.arrived)
    counts = system.counts(server.endpoint)
    assert counts["queued"] + counts["in_flight"] == 6
    assert counts["oldest_age"] > 0
    client.close(0)
    counts = system.counts(server.endpoint)
    assert (counts["left_on_disk"], counts["queued"], counts["oldest_age"]) == (6, 0, 0)
    endpoint.answer = 201
    assert make_client(spool_dir=str(tmp_path / "spool")).flush(60)
    counts = system.counts(server.endpoint)
    assert (counts["recorded"], counts["recovered"], counts["delivered"]) == (6, 6, 6)
    assert law_holds(counts)


def test_registering_again_changes_nothing(make_client: Make, server: RecordingServer) -> None:
    """In a registry or a meter provider, also in two of each."""
    systems = [Prometheus(), Prometheus(), OpenTelemetry(), OpenTelemetry()]
    brockman.metrics.register_prometheus(systems[0].registry)
    brockman.metrics.observe_opentelemetry(systems[2].provider)
    client = make_client()
    record(client, 3)
    assert client.flush(60)
    assert [system.counts(server.endpoint)["delivered"] for system in systems] == [3] * 4


def test_a_signal_handler_that_reads_the_counts_changes_none(server: RecordingServer) -> None:
    """Wherever it strikes while another reader adds up the counts of clients that are gone."""
    system, lines = Prometheus(), list[int]()

    def strike(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and frame.f_lineno not in lines:
            lines.append(frame.f_lineno)
            found = system.counts(server.endpoint)
            assert (law_holds(found), found["recorded"]) == (True, len(clients))
        return strike

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        return strike if frame.f_code.co_name in ("add_up_ended", "read_totals") else None

    clients, before = list[str](), sys.gettrace()
    for number in range(8):
        client = FocusLabClient(f"key {number}", server.endpoint, enabled=False)
        record(client, 1)
        clients.append(client.endpoint)
        del client
        gc.collect()
        sys.settrace(trace)
        try:
            counts = system.counts(server.endpoint)
        finally:
            sys.settrace(before)
        assert (law_holds(counts), counts["recorded"], counts["disabled"]) == (True, number + 1, number + 1)
    assert len(lines) > 15


FORKING = """
import os
from brockman import FocusLabClient
from brockman.transport.memory import MemoryTransport
import brockman.metrics
from prometheus_client import REGISTRY
brockman.metrics.register_prometheus()
client = FocusLabClient(transport=MemoryTransport())

def record(count):
    for _ in range(count):
        client.record_trigger(1, "viewed", "page")
    client.flush(60)
    labels = {"endpoint": client.endpoint}
    return REGISTRY.get_sample_value("brockman_triggers_delivered_total", labels)

assert record(3) == 3
pid = os.fork()
if pid == 0:
    assert record(2) == 2
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert record(1) == 4
"""


def test_a_forked_child_counts_from_0() -> None:
    """It shows its own triggers, and the parent its own."""
    ended = ran_python(FORKING)
    assert ended.status == 0, ended.err


@pytest.mark.parametrize(
    ("library", "call", "extra"),
    [
        ("prometheus_client", "register_prometheus", "prometheus"),
        ("opentelemetry", "observe_opentelemetry", "opentelemetry"),
    ],
)
def test_a_library_that_is_missing_is_named_with_the_extra_that_has_it(
    library: str, call: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only by the call: importing `brockman.metrics` needs neither."""
    monkeypatch.delitem(sys.modules, f"brockman.metrics.{extra}", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == library] or [library]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr(brockman.metrics, extra, raising=False)
    with pytest.raises(ImportError, match=re.escape(f"pip install 'brockman[{extra}]'")):
        getattr(brockman.metrics, call)()
