"""The metrics as observable instruments of OpenTelemetry's API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from brockman import __version__
from brockman.metrics.table import METRICS, Kind, Metric, Values
from brockman.metrics.totals import read_totals, watch

try:
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter_provider
except ImportError as error:
    raise ImportError(
        "this needs opentelemetry-api: pip install 'brockman[opentelemetry]'", name=error.name
    ) from error

_observed: list[MeterProvider] = []
_globally: list[bool] = []  # not empty: the global provider, which may still be set, has the instruments


def observe(provider: MeterProvider | None) -> None:
    """See `brockman.metrics.observe_opentelemetry`."""
    watch()
    current = get_meter_provider()
    is_global = provider is None or provider is current
    provider = current if provider is None else provider
    if not (is_global and _globally) and not any(provider is other for other in _observed):
        _observed.append(provider)
        _globally.extend([True] * is_global)
        _make_instruments(provider.get_meter("brockman", __version__))


class _Rounds(threading.local):
    """The snapshot of one collection: a reader asks every instrument once, one after the other, in one thread."""

    def __init__(self) -> None:
        self.totals: dict[str, Values] = {}
        self.asked = {metric.field for metric in METRICS}

    def read(self, field: str) -> dict[str, Values]:
        """Return the values of a collection; those of the next one for a field that was asked for before."""
        if field in self.asked:
            self.asked.clear()
            self.totals = read_totals()
        self.asked.add(field)
        return self.totals


def _make_instruments(meter: Meter) -> None:
    make: dict[Kind, Callable[..., Any]] = {
        Kind.TOTAL: meter.create_observable_counter,
        Kind.SUM: meter.create_observable_up_down_counter,
        Kind.HIGHEST: meter.create_observable_gauge,
    }
    rounds = _Rounds()
    for metric in METRICS:
        make[metric.kind](metric.otel, [_callback(metric, rounds)], unit=metric.unit, description=metric.meaning)


def _callback(metric: Metric, rounds: _Rounds) -> Callable[[CallbackOptions], Iterator[Observation]]:
    def observe_metric(_: CallbackOptions) -> Iterator[Observation]:
        for labels, value in metric.samples(rounds.read(metric.field)):
            yield Observation(value, dict(zip(metric.labels, labels, strict=True)))

    return observe_metric
