"""The counts of `stats()` for Prometheus and OpenTelemetry: of all clients of the process, by endpoint.

    import brockman.metrics

    brockman.metrics.register_prometheus()

Needs the extra `prometheus` or `opentelemetry`. Importing this package imports neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from prometheus_client import CollectorRegistry

__all__ = ["observe_opentelemetry", "register_prometheus"]


def register_prometheus(registry: CollectorRegistry | None = None) -> None:
    """Add the metrics to a registry of `prometheus_client`. Registering again does nothing. Does not block.

    A scrape reads the counts at that moment; it takes no lock that a client needs, and starts no thread.

    With `PROMETHEUS_MULTIPROC_DIR` in the environment, each process writes its counts to that directory instead:
    after work, at most once a second, otherwise every ten seconds at the latest, and when it ends. The registry is
    not used then: a `MultiProcessCollector` reads the directory.

    Args:
        registry: None means the default registry.

    Raises:
        ImportError: When prometheus_client is not installed.
    """
    from brockman.metrics import prometheus

    prometheus.register(registry)


def observe_opentelemetry(meter_provider: MeterProvider | None = None) -> None:
    """Have OpenTelemetry observe the counts. Observing again does nothing. Does not block.

    Its readers call back when they collect; one collection sees one snapshot.

    Args:
        meter_provider: None means the global one, which may be set later.

    Raises:
        ImportError: When opentelemetry-api is not installed.
    """
    from brockman.metrics import opentelemetry

    opentelemetry.observe(meter_provider)
