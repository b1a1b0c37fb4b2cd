"""In a test run of a Django project triggers are discarded, unless `FL_SEND_IN_TESTS` is on."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import PurePath

from brockman.testing import divert
from brockman.transport import Answer
from brockman.web.client import PYTEST_PLUGIN


class _Nowhere:
    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        return Answer(201)

    def close(self) -> None:
        pass


class _TestRun:
    """The state of this process: once a test run, it stays one until its end, exit hooks included.

    `diversion` discards the triggers. Both change under the lock of `brockman.django.client`.
    """

    def __init__(self) -> None:
        self.is_one = False
        self.diversion: ExitStack | None = None


STATE = _TestRun()


def in_test_run() -> bool:
    """Return whether pytest runs, or `manage.py test`, or another runner has set up Django's test environment."""
    STATE.is_one = STATE.is_one or PYTEST_PLUGIN in sys.modules or _is_test_command() or _is_set_up()
    return STATE.is_one


def _is_test_command() -> bool:
    program = PurePath(sys.argv[0] if sys.argv else "")
    is_django = program.stem in ("manage", "django-admin") or program.parts[-2:] == ("django", "__main__.py")
    return is_django and sys.argv[1:2] == ["test"]


def _is_set_up() -> bool:
    # What `setup_test_environment` saves to restore it later. Not `django.core.mail.outbox`, which a site with
    # Django's memory backend for mail has too.
    state = getattr(sys.modules.get("django.test.utils"), "_TestState", None)
    return hasattr(state, "saved_data")


def send_nowhere(*, on: bool) -> None:
    """Start or stop to discard the triggers of every client of the process. A `capture()` gets them first."""
    if on and STATE.diversion is None:
        stack = ExitStack()
        stack.enter_context(divert(_Nowhere(), below=True))
        STATE.diversion = stack
    elif STATE.diversion is not None and not on:
        STATE.diversion.close()
        STATE.diversion = None
