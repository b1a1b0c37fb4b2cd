"""Names from `tests.support`, until all tests import them from there."""

from __future__ import annotations

from tests.support.programs import CLIENTS, PYTHONPATH, assert_exact, drive, free_port, missing, running
from tests.support.programs import Program as Running
from tests.support.programs import find_program as program
from tests.support.scripts import RECORDING

__all__ = [
    "CLIENTS",
    "PYTHONPATH",
    "RECORDING",
    "Running",
    "assert_exact",
    "drive",
    "free_port",
    "missing",
    "program",
    "running",
]
