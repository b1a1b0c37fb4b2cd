"""A Redis for the length of a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.support.programs import Program, find_program, running
from tests.support.server import RecordingServer


@contextlib.contextmanager
def redis_server(folder: Path, server: RecordingServer, port: int) -> Iterator[Program]:
    """Run a Redis on a port, without persistence; it listens when the block begins."""
    folder.mkdir(exist_ok=True)
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with running([find_program("redis-server"), *options], folder, server, port) as started:
        yield started
