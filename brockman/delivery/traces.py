"""The current span of OpenTelemetry, as variables of a trigger."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from brockman.exceptions import ConfigurationError


def span_variables() -> Callable[[], Mapping[str, str]]:
    """Return a function that returns `trace_id` and `span_id` of the current span, in hex; none outside of spans.

    Raises:
        ConfigurationError: When opentelemetry-api is not installed.
    """
    try:
        from opentelemetry.trace import get_current_span
    except ImportError:
        raise ConfigurationError(
            "trace_context is on, and opentelemetry-api is not installed; pip install 'brockman[opentelemetry]',"
            " or leave it off"
        ) from None

    def read() -> Mapping[str, str]:
        span = get_current_span().get_span_context()
        if not span.is_valid:
            return {}
        return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}

    return read
