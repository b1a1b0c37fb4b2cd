"""A transport that prints, for development."""

from __future__ import annotations

import io
import json
import sys
from typing import Any, TextIO

from brockman.exceptions import ConfigurationError, ConnectionFailed
from brockman.transport import Answer


class ConsoleTransport:
    """Prints each trigger as one line of JSON and accepts it.

    What the stream's encoding lacks, and what is not printable, is escaped as in JSON. While the stream cannot be
    written, triggers are held, as while a server is away.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        """Make a transport that prints to a stream; None means `sys.stdout` at the time of each print.

        Raises:
            ConfigurationError: For a stream of bytes, or an object without `write`.
        """
        is_text = callable(getattr(stream, "write", None)) and not isinstance(
            stream, (io.RawIOBase, io.BufferedIOBase)
        )
        if stream is not None and not is_text:
            kind = type(stream).__name__
            raise ConfigurationError(
                f"stream is a {kind}; it should be a text stream, such as sys.stdout, or None"
            )
        self._stream = stream

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        """Print the triggers. Blocks while the stream does.

        Raises:
            ConnectionFailed: When the stream is closed, broken or full, or there is none.
        """
        content = json.loads(body)
        stream = sys.stdout if self._stream is None else self._stream
        if stream is None:  # as under pythonw, and in services
            raise ConnectionFailed("there is no standard output to print to")
        try:
            for trigger in content if isinstance(content, list) else [content]:
                _print(stream, trigger)
            if hasattr(stream, "flush"):
                stream.flush()
        except (OSError, ValueError) as error:  # a closed one raises ValueError
            problem = getattr(error, "strerror", None) or str(error) or type(error).__name__
        else:
            return Answer(201)
        raise ConnectionFailed(f"the stream cannot be written: {problem}")

    def close(self) -> None:
        """Do nothing: the stream stays open."""


def _print(stream: TextIO, trigger: Any) -> None:
    """Print one line; raise what the stream does."""
    line = json.dumps(trigger, ensure_ascii=False)
    if not line.isprintable():  # a terminal would obey control characters
        line = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
    try:
        _write(stream, line + "\n")
    except UnicodeError:
        _write(stream, json.dumps(trigger) + "\n")


def _write(stream: TextIO, text: str) -> None:
    """Write all of a text, also to a stream whose `write` takes a part and returns its length."""
    while text:
        count = stream.write(text)
        if isinstance(count, bool) or not isinstance(count, int) or count >= len(text):
            return  # all of it: many that imitate a stream return None, or True
        if count <= 0:
            raise OSError("it takes no characters")
        text = text[count:]
