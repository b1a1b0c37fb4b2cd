"""Keep urllib3 from logging our own sends.

A handler that records triggers would feed each send with lines about the one before. One whose `flush` waits for
the client would wait for a worker that waits for logging's lock. All other requests are logged as ever.
"""

from __future__ import annotations

import logging

from brockman.transport.deadline import is_sending

_NAMES = (
    *("urllib3", "urllib3.connection", "urllib3.connectionpool", "urllib3.poolmanager", "urllib3.response"),
    *("urllib3.util.retry", "urllib3.contrib.pyopenssl", "urllib3.http2.connection", "requests", "socks"),
    "py.warnings",  # of a session without verification, for each request
)


class _QuietLogger:
    """Mixed into the class of a logger. A filter is too late: `isEnabledFor` may wait for logging's lock."""

    def isEnabledFor(self, level: int) -> bool:
        return not is_sending() and super().isEnabledFor(level)  # type: ignore[misc]


def quieten() -> None:
    """Make the loggers of requests and urllib3 silent in a thread, or greenlet, while it sends."""
    for logger in map(logging.getLogger, _NAMES):
        kind = type(logger)
        if not issubclass(kind, _QuietLogger):
            logger.__class__ = type(kind.__name__, (_QuietLogger, kind), {"__module__": kind.__module__})
