"""A Redis for each test that asks for one, and the settings of a client of the recording server."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.client import KEY
from tests.support.programs import free_port
from tests.support.server import RecordingServer

if find_spec("celery") is None or find_spec("redis") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def redis_port(server: RecordingServer, tmp_path: Path) -> Iterator[int]:
    """The port of a Redis that only this test uses."""
    from tests.support.redis_server import redis_server

    port = free_port()
    with redis_server(tmp_path / "redis", server, port):
        yield port


@pytest.fixture
def endpoint(server: RecordingServer) -> dict[str, str]:
    """The environment of a client of the recording server."""
    return {"FL_API_KEY": KEY, "FL_ENDPOINT": server.endpoint, "FL_FLUSH_INTERVAL": "0.1"}
