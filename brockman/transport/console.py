"""A transport that prints, for development."""

from __future__ import annotations

import json
import sys
from typing import TextIO

from brockman.transport import Answer


class ConsoleTransport:
    """Prints each trigger as one line of JSON and accepts it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Make a transport that prints to a stream; None means `sys.stdout` at the time of each print."""
        self._stream = stream

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        """Print the triggers. Blocks while the stream does."""
        content = json.loads(body)
        stream = self._stream or sys.stdout
        for trigger in content if isinstance(content, list) else [content]:
            stream.write(json.dumps(trigger, ensure_ascii=False) + "\n")
        stream.flush()
        return Answer(201)

    def close(self) -> None:
        """Do nothing: the stream stays open."""
