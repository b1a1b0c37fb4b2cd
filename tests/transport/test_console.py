"""Printing: every stream gets every trigger, and one that cannot be written holds them, as an outage does."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from typing import Any

import pytest

from brockman.client import FocusLabClient
from brockman.exceptions import ConfigurationError
from brockman.transport.console import ConsoleTransport
from tests.support.client import record
from tests.support.programs import environment
from tests.support.waiting import eventually

TEXTS = ["naïve café", "日本語 😀", "\x1b[31m\x9b31m\u202e\u2028", '"\\\n\t', "price: 3 €"]


class Partial:
    """A stream that takes some characters at a time, and has neither `encoding` nor `flush`."""

    def __init__(self, result: Any = 3) -> None:
        self.text = ""
        self._result = result

    def write(self, text: str) -> Any:
        taken = text if self._result is None else text[: max(0, self._result)]
        self.text += taken
        return self._result if self._result is None or self._result < 0 else len(taken)


class Latin:
    """A stream that encodes, but does not say how."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text.encode("latin-1").decode("latin-1")


def client_of(stream: Any, **options: Any) -> FocusLabClient:
    """Return a client that prints to a stream."""
    settings = {"flush_interval": 0.01, "backoff_base": 0.01, "backoff_cap": 0.02}
    return FocusLabClient(transport=ConsoleTransport(stream), **{**settings, **options})


def printed_by(stream: Any) -> list[str]:
    """Return the lines that triggers with `TEXTS` leave in a stream, after they were all delivered."""
    client = client_of(stream)
    for text in TEXTS:
        client.record_trigger("7", "viewed", text)
    assert client.close()
    assert client.stats().delivered == len(TEXTS)
    if isinstance(stream, io.TextIOWrapper):
        return stream.buffer.getvalue().decode(stream.encoding).splitlines()
    return (stream.getvalue() if isinstance(stream, io.StringIO) else stream.text).splitlines()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii", "cp1252", "cp932", "utf-16", "cp037"])
def test_what_an_encoding_lacks_is_escaped(encoding):
    """Each trigger is one line of JSON with what was recorded; what the stream can hold stands as it is."""
    lines = printed_by(io.TextIOWrapper(io.BytesIO(), encoding))
    assert [json.loads(line)["object"] for line in lines] == TEXTS
    assert ("日本語" in lines[1]) is (encoding in ("utf-8", "utf-16"))
    assert ("naïve" in lines[0]) is (encoding not in ("ascii", "cp932"))


class Flag(io.StringIO):
    """A stream whose `write` returns whether it wrote."""

    def write(self, text: str) -> int:
        return super().write(text) > 0


class NoFlag(io.StringIO):
    """A stream whose `write` returns whether it failed."""

    def write(self, text: str) -> int:
        return super().write(text) < 0


@pytest.mark.parametrize(
    "stream", [io.StringIO, Partial, Latin, lambda: Partial(None), lambda: Partial(1000), Flag, NoFlag]
)
def test_a_stream_of_any_kind_gets_all_of_it(stream):
    """Without an encoding, without `flush`, with a `write` that takes a part or returns nothing."""
    lines = printed_by(stream())
    assert [json.loads(line)["object"] for line in lines] == TEXTS


def test_nothing_that_a_terminal_obeys_is_printed():
    """Control, bidirectional and C1 characters of a trigger are escaped."""
    lines = printed_by(io.StringIO())
    assert all(line.isprintable() for line in lines)
    assert r"\u001b[31m\u009b31m\u202e\u2028" in lines[2]


def test_none_is_the_standard_output_of_the_moment(capsys):
    """One line of JSON for each trigger."""
    client = client_of(None)
    record(client, 3)
    assert client.close()
    assert capsys.readouterr().out.count('"viewed"') == 3


def closed() -> Any:
    """Return a stream that is closed."""
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
    stream.close()
    return stream


class Broken:
    """A stream whose reader is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize(
    ("stream", "cause"),
    [
        (closed, "I/O operation on closed file"),
        (Broken, "Broken pipe"),
        (lambda: Partial(0), "it takes no characters"),
        (lambda: Partial(-1), "it takes no characters"),
    ],
)
@pytest.mark.usefixtures("patient")
def test_a_stream_that_cannot_be_written_loses_nothing_in_silence(stream, cause, caplog):
    """Triggers are held; the end counts them, calls `on_drop` and logs the cause, within its timeout."""
    lost: list[str] = []
    client = client_of(stream(), on_drop=lambda reason, body: lost.append(reason))
    record(client, 3)
    assert client.flush(0.1).pending == 3
    assert eventually(lambda: client.stats().retries >= 2)
    assert client.stats().dropped == {}
    client.close(0.1)
    assert client.stats().dropped == {"shutdown": 3}
    assert lost == ["shutdown"] * 3
    warnings = [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING]
    assert len(warnings) == 2
    assert all(f"the stream cannot be written: {cause}" in line for line in warnings)
    assert "ConsoleTransport is unavailable" in warnings[0]  # not an endpoint that is never asked


def test_what_was_held_is_printed_when_there_is_a_stream_again(monkeypatch):
    """As under pythonw, where `sys.stdout` is None."""
    monkeypatch.setattr(sys, "stdout", None)
    client = client_of(None)
    record(client, 3)
    assert client.flush(0.1).pending == 3
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert client.flush(20).delivered == 3
    assert len(sys.stdout.getvalue().splitlines()) == 3
    client.close()


AT_EXIT = """
from brockman.client import FocusLabClient
from brockman.transport.console import ConsoleTransport
FocusLabClient(transport=ConsoleTransport(), shutdown_timeout=0.5).record_trigger("7", "viewed", "page")
"""


def test_a_process_whose_output_is_closed_ends_in_time_and_says_what_is_lost():
    """A pipe without a reader, as of `program | head`."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "wb") as pipe:
        ended = subprocess.run(
            [sys.executable, "-c", AT_EXIT],
            stdout=pipe,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
            timeout=60,
        )
    assert "closed with 1 trigger not delivered (the stream cannot be written: Broken pipe)" in ended.stderr


@pytest.mark.parametrize("stream", [io.BytesIO(), b"", "stdout", 1], ids=lambda stream: type(stream).__name__)
def test_what_is_no_text_stream_is_refused(stream):
    """At once, with what would be right: such a transport could never print."""
    with pytest.raises(ConfigurationError, match=r"^stream is a \w+; it should be a text stream"):
        ConsoleTransport(stream)
