"""In a test run of Django, triggers go nowhere, unless `FL_SEND_IN_TESTS` says so."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from brockman.testing import divert
from brockman.transport import Answer


class _Nowhere:
    """Takes everything, and keeps nothing."""

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        return Answer(201)

    def close(self) -> None:
        pass


_NOWHERE = _Nowhere()
_diverted = ExitStack()  # what has been entered is left when tests are to send
_is_diverted = False


def in_test_run() -> bool:
    """Return whether this is `manage.py test`, or Django's test environment is set up, as pytest-django does.

    That puts an outbox into `django.core.mail`:
    https://docs.djangoproject.com/en/stable/topics/testing/tools/#email-services
    """
    return hasattr(sys.modules.get("django.core.mail"), "outbox") or sys.argv[1:2] == ["test"]


def send_nowhere(*, on: bool) -> None:
    """Have every client of the process deliver to nowhere, or not any more. A `capture()` takes them before."""
    global _is_diverted
    if on and not _is_diverted:
        _is_diverted = True
        _diverted.enter_context(divert(_NOWHERE, below=True))
    elif _is_diverted and not on:
        _is_diverted = False
        _diverted.close()
