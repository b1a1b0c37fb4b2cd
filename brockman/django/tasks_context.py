"""The context of a caller travels with the tasks of `django.tasks`, and of the package django-tasks.

    from django_tasks_db import DatabaseBackend
    from brockman.django.tasks_context import ContextMixin

    class Backend(ContextMixin, DatabaseBackend):
        pass

and its dotted path as `BACKEND` in `TASKS`. A task can carry a context in its arguments only: those that the
backend stores have one more keyword, which the function does not get. So this is a choice of the project.
"""

from __future__ import annotations

import dataclasses
import functools
from contextlib import AbstractContextManager
from typing import Any

from django.utils.module_loading import import_string

from brockman import contexts

KEYWORD = "_brockman_context"


class ContextMixin:
    """Before a backend for tasks among the bases: its tasks run in the context of their caller."""

    task_class: Any

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Give the backend tasks that enter the context."""
        super().__init_subclass__(**keywords)
        cls.task_class = _carrying(cls.task_class)


@functools.cache
def _carrying(base: Any) -> Any:
    """Return a class of tasks that hand their context on, and enter the one that they were given."""
    if issubclass(base, _Carrying):
        return base
    return type(base.__name__, (_Carrying, base), {"__slots__": (), "__module__": __name__})


class _Carrying:
    """In front of `Task`: its calls, which every backend makes through these methods."""

    __slots__ = ()

    def enqueue(self, *args: Any, **kwargs: Any) -> Any:
        return super().enqueue(*args, **_packed(kwargs))  # type: ignore[misc]

    async def aenqueue(self, *args: Any, **kwargs: Any) -> Any:
        return await super().aenqueue(*args, **_packed(kwargs))  # type: ignore[misc]

    def call(self, *args: Any, **kwargs: Any) -> Any:
        with _entered(kwargs.pop(KEYWORD, None)):
            return super().call(*args, **kwargs)  # type: ignore[misc]

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        with _entered(kwargs.pop(KEYWORD, None)):
            return await super().acall(*args, **kwargs)  # type: ignore[misc]

    def __reduce__(self) -> Any:
        """Pickle it as the task of its module: its class has no name to be imported by."""
        task: Any = self
        changes = {field.name: getattr(task, field.name) for field in dataclasses.fields(task)}
        del changes["func"]
        return _restore, (task.module_path, changes)


def _restore(path: str, changes: dict[str, Any]) -> Any:
    return dataclasses.replace(import_string(path), **changes)


def _packed(kwargs: dict[str, Any]) -> dict[str, Any]:
    message = contexts.pack()
    return {**kwargs, KEYWORD: message} if message else kwargs


def _entered(message: Any) -> AbstractContextManager[None]:
    """Return a block in the context of a task's arguments; in the one that is there, if they have none."""
    outer = contexts.get()
    return contexts.entered(contexts.unpack(message).within(outer) if isinstance(message, dict) else outer)
