"""Whether a mistake is to be seen at once, or must not make a page fail."""

from __future__ import annotations

import logging

from django.conf import settings

from brockman.delivery.report import say
from brockman.django.test_runs import in_test_run
from brockman.exceptions import ConfigurationError

_told: set[str] = set()


def is_strict() -> bool:
    """Return whether mistakes raise: where `DEBUG` is on, and in test runs."""
    return bool(settings.DEBUG) or in_test_run()


def raise_or_tell(error: ConfigurationError, consequence: str) -> None:
    """Raise the error where mistakes do; elsewhere say it on the log, once, with what follows from it."""
    if is_strict():
        raise error
    if str(error) not in _told:
        _told.add(str(error))
        say(logging.ERROR, f"{error}; until then {consequence}")
