"""`trace_context`: the ids of OpenTelemetry's current span on a trigger."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, format_span_id, format_trace_id

import brockman
from brockman.client import FocusLabClient
from brockman.exceptions import ConfigurationError
from brockman.testing import Outbox, capture

TRACER = TracerProvider(shutdown_on_exit=False).get_tracer(__name__)


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    with capture() as recorded:
        yield recorded


def ids(span: Span) -> dict[str, str]:
    """Return the ids of a span in the spelling of the `traceparent` header."""
    context = span.get_span_context()
    return {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}


def test_a_trigger_has_the_ids_of_the_span_in_which_it_is_recorded(
    make_client: Callable[..., FocusLabClient], outbox: Outbox
) -> None:
    """The innermost span, also in a task of asyncio; beside the other variables, which win."""
    client = make_client(trace_context=True, release="1.4")

    async def record_in_task() -> None:
        client.record_trigger(3, "viewed", "page")

    with TRACER.start_as_current_span("outer") as outer:
        client.record_trigger(1, "viewed", "page", variables={"title": "a"})
        with TRACER.start_as_current_span("inner") as inner:
            client.record_encoded(client.encode_trigger(2, "viewed", "page"))
            asyncio.run(record_in_task())
        with brockman.context(variables={"span_id": "of the context"}):
            client.record_trigger(4, "viewed", "page", variables={"trace_id": "mine"})
    release = {"release": "1.4"}
    assert [one.variables for one in outbox] == [
        {**release, **ids(outer), "title": "a"},
        {**release, **ids(inner)},
        {**release, **ids(inner)},
        {**release, "span_id": "of the context", "trace_id": "mine"},
    ]


def test_a_trigger_outside_of_spans_or_without_the_option_has_no_ids(
    make_client: Callable[..., FocusLabClient], outbox: Outbox
) -> None:
    """No empty ones either."""
    make_client(trace_context=True).record_trigger(1, "viewed", "page")
    with TRACER.start_as_current_span("span"):
        make_client().record_trigger(2, "viewed", "page")
    assert [one.variables for one in outbox] == [{}, {}]


def test_without_the_library_the_client_says_what_to_install(
    make_client: Callable[..., FocusLabClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only when it records; by a keyword or the environment."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    monkeypatch.setenv("FL_TRACE_CONTEXT", "1")
    with pytest.raises(ConfigurationError, match=r"trace_context .* pip install 'brockman\[opentelemetry\]'"):
        make_client()
    assert make_client(trace_context=False)
