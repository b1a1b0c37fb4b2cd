"""The blocks about metrics and traces: under gunicorn, with OpenTelemetry's SDK, and the alert rules."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import format_span_id, format_trace_id
from prometheus_client.parser import text_string_to_metric_families

from brockman.metrics.table import METRICS
from tests.docs.blocks import ROOT, only, run_python
from tests.support.endpoint import Endpoint
from tests.support.programs import Program, drive, find_program, free_port, ran_python, running
from tests.support.scripts import RECORDING
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

APP = (
    RECORDING
    + only("metrics of several processes").code
    + """
client = FocusLabClient()

def app(environ, start_response):
    if environ["PATH_INFO"] == "/metrics":
        return metrics(environ, start_response)
    record(client, environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""
)
COUNT = 60  # requests, which both workers get some of


class Site:
    """A gunicorn with two workers, scraped by HTTP: any of them answers."""

    def __init__(self, program: Program, port: int) -> None:
        self.program = program
        self.port = port

    def scrape(self) -> Counter[str]:
        """Return the sum of each metric."""
        found: Counter[str] = Counter()
        for family in text_string_to_metric_families(self._page()):
            for sample in family.samples:
                found[sample.name] += sample.value  # type: ignore[assignment]
        return found

    def _page(self) -> str:
        """Return the page of the metrics.

        Asks again after an error: prometheus_client fails at a file that another process has only just made.
        """
        found: list[str] = []

        def ask() -> bool:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
                connection.request("GET", "/metrics")
                answer = connection.getresponse()
                found.append(answer.read().decode())
                return answer.status == 200

        assert eventually(ask), found[-1]
        return found[-1]

    def workers(self) -> set[int]:
        return {int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.program.text())}

    def shows(self, **expected: int) -> bool:
        """Return whether a scrape shows these values."""
        scraped = self.scrape()
        return {name: scraped[f"brockman_{name}"] for name in expected} == expected


@pytest.fixture
def site(tmp_path: Path, server: RecordingServer) -> Iterator[Site]:
    """The application of the documentation, with its configuration."""
    (tmp_path / "site_app.py").write_text(APP)
    (tmp_path / "gunicorn.conf.py").write_text(only("end of a process with metrics").code)
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    port = free_port()
    command = [find_program("gunicorn"), "--workers=2", f"--bind=127.0.0.1:{port}", "site_app:app"]
    settings = {
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "FL_BACKOFF_CAP": "0.2",
        "FL_SHUTDOWN_TIMEOUT": "20",
    }
    with running(command, tmp_path, server, port, **settings) as program:
        yield Site(program, port)


def test_a_scrape_of_one_worker_shows_all_of_them(site: Site, server: RecordingServer) -> None:
    """Triggers that wait while the endpoint is away, and those delivered, also by workers that are gone."""
    endpoint = Endpoint(server, 503)
    assert drive(site.port, COUNT) == COUNT
    assert eventually(lambda: site.shows(triggers_recorded_total=COUNT)), site.program.text()
    waiting = site.scrape()
    assert waiting["brockman_queued"] + waiting["brockman_in_flight"] == COUNT
    assert eventually(lambda: site.scrape()["brockman_oldest_age_seconds"] > 0)

    endpoint.answer = 201
    delivered = {"triggers_recorded_total": COUNT, "triggers_delivered_total": COUNT}
    nothing = {"queued": 0, "in_flight": 0, "queued_bytes": 0, "oldest_age_seconds": 0}
    assert eventually(lambda: site.shows(**delivered, **nothing)), site.program.text()
    assert len(endpoint.triggers) == COUNT

    killed = min(site.workers())
    os.kill(killed, signal.SIGKILL)
    assert eventually(lambda: len(site.workers()) == 3)
    assert eventually(lambda: drive(site.port, 1, start=COUNT) == 1)
    assert eventually(lambda: site.shows(triggers_delivered_total=COUNT + 1, **nothing)), site.program.text()

    # A worker that ends in order delivers first, and writes its last counts.
    os.kill(max(site.workers()), signal.SIGTERM)
    assert eventually(lambda: len(site.workers()) == 4)
    assert eventually(lambda: site.shows(triggers_delivered_total=COUNT + 1, **nothing)), site.program.text()


def test_the_example_observes_the_global_provider() -> None:
    """Also one that is set afterwards; observing it again, also by name, adds nothing."""
    ended = ran_python(only("metrics of OpenTelemetry").code + GLOBAL)
    assert (ended.status, ended.out, ended.err) == (0, "{'brockman.trigger.delivered': [2]}\n", "")


GLOBAL = """
from brockman import FocusLabClient
from brockman.transport.memory import MemoryTransport
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

reader = InMemoryMetricReader()
provider = MeterProvider([reader])
metrics.set_meter_provider(provider)
brockman.metrics.observe_opentelemetry()
brockman.metrics.observe_opentelemetry(provider)
with FocusLabClient(transport=MemoryTransport()) as client:
    client.record_trigger(1, "viewed", "page")
    client.record_trigger(1, "viewed", "page")
found = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
print({one.name: [point.value for point in one.data.data_points] for one in found if "delivered" in one.name})
"""


def test_the_trigger_of_the_example_has_the_ids_of_its_span(
    server: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they are in a `traceparent` header."""
    monkeypatch.setenv("FL_ENDPOINT", server.endpoint)
    monkeypatch.setenv("FL_API_KEY", "key")
    with TracerProvider(shutdown_on_exit=False).get_tracer("shop").start_as_current_span("request") as span:
        names: dict[str, Any] = run_python(only("trace context"))
    assert names["client"].close(60)
    ids = span.get_span_context()
    assert [trigger["variables"] for trigger in server.triggers] == [
        {"trace_id": format_trace_id(ids.trace_id), "span_id": format_span_id(ids.span_id)}
    ]


def test_the_documentation_names_every_metric_and_no_other() -> None:
    """In the text, the tables and the alert rules."""
    page = (ROOT / "docs" / "monitoring.rst").read_text(encoding="utf-8")
    assert set(re.findall(r"``(brockman_\w+)``", page)) == {metric.prometheus for metric in METRICS}
    shown = set(re.findall(r"``(brockman\.(?:trigger|batch|attempt|queue|spool)\.\w+)``", page))
    shown |= {f"brockman.trigger.{name}" for name in re.findall(r"``\.(\w+)``", page)}
    assert shown == {metric.otel for metric in METRICS}
    for group in yaml.safe_load(only("alerts").code)["groups"]:
        for rule in group["rules"]:
            used = set(re.findall(r"\bbrockman_\w+", rule["expr"]))
            assert used
            assert used <= {metric.prometheus for metric in METRICS}
