"""In a test run of a Django project triggers go nowhere, unless `FL_SEND_IN_TESTS` says so."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import PurePath

from brockman.testing import divert
from brockman.transport import Answer

PYTEST_PLUGIN = "brockman.pytest_plugin"  # pytest loads it before anything of the project


class _Nowhere:
    """Takes everything, and keeps nothing."""

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        return Answer(201)

    def close(self) -> None:
        pass


class _TestRun:
    """Whether this process is a test run: once it is, it stays one to its end, exit hooks included.

    `diverted` holds the diversion while there is one. Both change under the lock of who configures a client.
    """

    def __init__(self) -> None:
        self.is_one = False
        self.diverted: ExitStack | None = None


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
    # What `setup_test_environment` keeps to restore it later. Not `django.core.mail.outbox`: a site whose mail
    # goes to memory has that too.
    state = getattr(sys.modules.get("django.test.utils"), "_TestState", None)
    return hasattr(state, "saved_data")


def send_nowhere(*, on: bool) -> None:
    """Have every client of the process deliver to nowhere, or not any more. A `capture()` takes them before."""
    if on and STATE.diverted is None:
        stack = ExitStack()
        stack.enter_context(divert(_Nowhere(), below=True))
        STATE.diverted = stack
    elif STATE.diverted is not None and not on:
        STATE.diverted.close()
        STATE.diverted = None
