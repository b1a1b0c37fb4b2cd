"""The documented headers and sentences are those that the collector reads and writes."""

from __future__ import annotations

from starlette.datastructures import Headers

from brockman.collector.api.senders import describe
from brockman.collector.sender_headers import read_sender
from brockman.collector.store.values import Heard, SenderCounts
from brockman.collector.timestamps import parse_timestamp
from tests.docs.blocks import only


def micros(text: str) -> int:
    parsed = parse_timestamp(text)
    assert parsed is not None
    return parsed


def test_the_headers_are_as_they_are_sent() -> None:
    """The collector understands them, and they add up."""
    lines = only("sender headers").code.splitlines()
    sender = read_sender(Headers(dict(line.split(": ", 1) for line in lines)), 0)
    assert sender is not None
    assert (sender.host, sender.pid) == ("web-3", 4711)
    assert sender.counts == SenderCounts(10_412, 0, 10_000, 0, 409, {"overflow": 3})


def test_the_sentences_are_as_the_collector_says_them() -> None:
    """One proves it, one names a gap, one names what was lost with a process."""
    seen = micros("2026-11-28T13:02:47.001204Z")
    base = {"id": "", "pid": 1, "started": seen, "first_seen": seen, "last_seen": seen, "recovered": 0}
    base |= {"delivered": 0, "rejected": 0, "stored": 0, "refused": 0, "delivered_before": 0}
    rows = [
        {"host": "web-3", "recorded": 10_412, "dropped": {}, "waiting": 0, "arrived": 10_412, "missing": 0},
        {
            "host": "web-4",
            "recorded": 9120,
            "dropped": {"overflow": 3},
            "waiting": 0,
            "arrived": 8867,
            "missing": 250,
        },
        {"host": "web-5", "recorded": 700, "dropped": {}, "waiting": 412, "arrived": 288, "missing": 0},
    ]
    since = micros("2026-11-28T13:05:11.120331Z")
    said = [describe(Heard(**{**base, "missing_since": since, **row}), since) for row in rows]  # type: ignore[arg-type]
    assert only("what senders say").code.split() == " ".join(said).split()
