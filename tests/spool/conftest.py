"""Fixtures of the spool's tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from brockman.client import FocusLabClient
from brockman.transport.memory import MemoryTransport
from tests.support.client import KEY


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: thousands of files are created."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as path:
        yield Path(path)


@pytest.fixture
def make_spooled(tmp_path: Path) -> Iterator[Callable[..., FocusLabClient]]:
    """Make clients of one spool, whose transport accepts everything unless another one is given."""
    made: list[FocusLabClient] = []

    def make(**options: Any) -> FocusLabClient:
        settings = {
            "transport": MemoryTransport(),
            "flush_interval": 0.05,
            "backoff_base": 0.01,
            "backoff_cap": 0.05,
            "spool_dir": str(tmp_path / "spool"),
            **options,
        }
        made.append(FocusLabClient(KEY, **settings))
        return made[-1]

    yield make
    for client in made:
        client.close(0.05)
