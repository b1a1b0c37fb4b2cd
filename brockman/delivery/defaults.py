"""The variables that every trigger of a client has, as its options say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from brockman.options import Options


def default_variables(options: Options) -> Callable[[], Mapping[str, Any]] | None:
    """Return a function that returns them, called for each trigger; None when there are none.

    Raises:
        ConfigurationError: For `trace_context` without opentelemetry-api.
    """
    values: dict[str, Any] = dict(options.variables or {})
    for name in ("release", "environment"):
        text = getattr(options, name)
        if text is not None:
            values[name] = text
    if options.trace_context:
        from brockman.delivery.traces import span_variables

        read = span_variables()
        return lambda: {**values, **read()}
    return (lambda: values) if values else None
