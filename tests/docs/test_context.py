"""The backend that docs/context.rst shows for tasks of Django."""

from __future__ import annotations

from typing import Any

import pytest

from tests.docs.blocks import named, run_python


def test_the_backend_stores_and_its_tasks_carry_the_context() -> None:
    """The setting names the class that the page shows; `tests/django/test_tasks_context.py` runs one like it."""
    pytest.importorskip("django_tasks_db")
    backend, setting = named("django tasks")
    shown: Any = run_python(backend)["Backend"]
    settings: Any = run_python(setting)["TASKS"]
    assert settings["default"]["BACKEND"].endswith(f".{shown.__name__}")
    assert issubclass(shown.task_class, shown.__mro__[2].task_class)
    assert shown.task_class is not shown.__mro__[2].task_class
