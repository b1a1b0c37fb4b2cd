"""A client for requests: wrong settings make no page fail in production."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from brockman.client import FocusLabClient
from brockman.exceptions import ConfigurationError
from brockman.options import Options
from brockman.process.clock import monotonic
from brockman.process.log import Log

if TYPE_CHECKING:
    import requests

    from brockman.transport import Transport

PYTEST_PLUGIN = "brockman.pytest_plugin"  # pytest loads it before the project
_RETRY_AFTER = 5.0  # seconds until wrong settings are read again
_log = Log()


def in_pytest() -> bool:
    """Return whether pytest runs."""
    return PYTEST_PLUGIN in sys.modules


def report(error: ConfigurationError, consequence: str, *, is_strict: bool) -> None:
    """Raise an error where mistakes raise; elsewhere log it once, with its consequence."""
    if is_strict:
        raise error
    _log.once(logging.ERROR, f"{error}; until then {consequence}")
    _log.write()


class SafeClient(FocusLabClient):
    """A client whose wrong settings raise where mistakes raise. Elsewhere it drops triggers as `misconfigured`."""

    def __init__(
        self,
        read: Callable[[], Options],
        *,
        is_strict: Callable[[], bool],
        transport: Transport | None = None,
        session: requests.Session | None = None,
    ) -> None:
        """Read the options by calling `read`, and ask `is_strict` only where that fails."""
        self._read_at = monotonic()
        try:
            self._open(read(), transport, session)
        except ConfigurationError as error:
            report(error, "triggers are dropped as misconfigured", is_strict=is_strict())
            self._problem = error
            self._open(Options(enabled=False))
            self._refusal = "misconfigured"

    def is_outdated(self) -> bool:
        """Return True when the settings were wrong, and may be right by now."""
        return self._problem is not None and monotonic() >= self._read_at + _RETRY_AFTER
