"""The benchmarks that the documentation names can be started."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

from tests import benchmarks

NAMES = [
    module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("test_")
]


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_can_be_started(name: str) -> None:
    pytest.importorskip("psycopg")
    assert importlib.import_module(f"tests.benchmarks.{name}").__doc__
