"""Exceptions that leave an attempt: their causes, and the local variables that a report of them would show."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from types import TracebackType
from typing import Any

from brockman.process.interruption import handler_frames


def causes_of(error: BaseException) -> list[BaseException]:
    """Return the error and its causes, outermost first: requests and urllib3 keep them in four places."""
    causes: list[BaseException] = []
    queue: list[Any] = [error]
    while queue:
        cause = queue.pop(0)
        if isinstance(cause, BaseException) and cause not in causes:
            causes.append(cause)
            queue += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
    return causes


class HiddenLocals:
    """Clears the local variables beneath a `with` block when an exception leaves it; files and lines stay.

    Those of requests, urllib3 and http.client hold the API key and the passwords of proxies. A soft time limit may
    strike in any of them, and error trackers report the locals of every frame.
    """

    def __enter__(self) -> None:
        self._handled = sys.exc_info()[1]  # of the caller: its frames are not ours

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            others = causes_of(self._handled) if self._handled else []
            for cause in causes_of(error):
                if cause not in others:
                    _clear_frames(cause)
        self._handled = None


def _clear_frames(error: BaseException) -> None:
    """Clear the locals of every frame, but those by which a signal handler is known."""
    kept = handler_frames(error)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame not in kept:
            with suppress(RuntimeError):  # it still runs
                frame.clear()
