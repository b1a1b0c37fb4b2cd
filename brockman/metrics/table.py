"""Every metric, once. Values only."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import NamedTuple

Values = dict[tuple[str, ...], float]  # of one endpoint: by field, or by "dropped" and reason


class Kind(enum.Enum):
    """How the values of several pipelines, or processes, become one."""

    TOTAL = "the sum of what has happened"
    SUM = "the sum of what is there now"
    HIGHEST = "the highest of what is there now"


class Metric(NamedTuple):
    """A number of each endpoint.

    Attributes:
        field: Its name in `brockman.metrics.totals`; most are those of `Stats`.
        kind: How values are added up.
        prometheus: Its name there.
        otel: Its name in OpenTelemetry.
        unit: Its unit in OpenTelemetry.
        meaning: One sentence.
    """

    field: str
    kind: Kind
    prometheus: str
    otel: str
    unit: str
    meaning: str

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its labels."""
        return ("endpoint", "reason") if self.field == "dropped" else ("endpoint",)

    def samples(self, totals: Mapping[str, Values]) -> Iterator[tuple[tuple[str, ...], float]]:
        """Yield the values of the labels, and the value, of each time series in the values by endpoint."""
        for endpoint, values in totals.items():
            for (field, *reason), value in values.items():
                if field == self.field:
                    yield (endpoint, *reason), value


def _total(field: str, name: str, otel: str, unit: str, meaning: str) -> Metric:
    return Metric(field, Kind.TOTAL, f"brockman_{name}_total", f"brockman.{otel}", unit, meaning)


def _sum(field: str, name: str, otel: str, unit: str, meaning: str) -> Metric:
    return Metric(field, Kind.SUM, f"brockman_{name}", f"brockman.{otel}", unit, meaning)


def _highest(field: str, name: str, otel: str, unit: str, meaning: str) -> Metric:
    return Metric(field, Kind.HIGHEST, f"brockman_{name}", f"brockman.{otel}", unit, meaning)


_ONE = "{trigger}"
_RECOVERED = "Triggers adopted from the spool of processes that have ended."
_LEFT = "Triggers in the spool when their client closed, for other processes to adopt."
_REPEATED = "Delivered triggers that the endpoint says it had already; 0 if it never says."
_AGE = "Seconds since the time of the oldest unsettled trigger; 0 when there is none."
_SPOOL = "1 while triggers cannot be written to the spool; 0 while they can, and without a spool."

METRICS = (
    _total("recorded", "triggers_recorded", "trigger.recorded", _ONE, "Triggers passed to record_trigger."),
    _total("recovered", "triggers_recovered", "trigger.recovered", _ONE, _RECOVERED),
    _total("delivered", "triggers_delivered", "trigger.delivered", _ONE, "Triggers that the endpoint accepted."),
    _total("rejected", "triggers_rejected", "trigger.rejected", _ONE, "Triggers that the endpoint rejected."),
    _total("dropped", "triggers_dropped", "trigger.dropped", _ONE, "Triggers lost on this side, by reason."),
    _total("left_on_disk", "triggers_left_on_disk", "trigger.left_on_disk", _ONE, _LEFT),
    _total("repeated", "triggers_repeated", "trigger.repeated", _ONE, _REPEATED),
    _total("batches", "batches", "batch.accepted", "{batch}", "Requests that were accepted, in whole or in part."),
    _total("retries", "retries", "attempt.retried", "{attempt}", "Attempts beyond the first."),
    _sum("queued", "queued", "queue.size", _ONE, "Triggers that wait in the buffer."),
    _sum("in_flight", "in_flight", "trigger.inflight", _ONE, "Triggers taken from the buffer, not settled."),
    _sum("queued_bytes", "queued_bytes", "queue.bytes", "By", "Encoded size of the triggers that wait."),
    _highest("oldest_age", "oldest_age_seconds", "queue.oldest_age", "s", _AGE),
    _highest("spool_unavailable", "spool_unavailable", "spool.unavailable", "1", _SPOOL),
)
KINDS = {metric.field: metric.kind for metric in METRICS}
