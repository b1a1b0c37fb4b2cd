"""The open connections: a bounded number, each with a time for what its client does next.

uvicorn waits for ever for the end of headers, for the end of a body that the application does not read, and for a
client to read its response.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import sys
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from time import monotonic
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from brockman.collector.settings import Settings

KEEP_ALIVE = 75.0  # seconds for an idle connection: longer than a quiet client waits between batches
ACCEPTED_AT_ONCE = 16  # and closed, when they are too many, before the next ones are accepted
_LINE_EVERY = 60.0  # seconds
_MAX_HEAD_BYTES = 64 * 1024  # of headers, or anything else that is neither a body nor the end of a request
_BODY_GRACE = 2.0  # seconds after the body's time is over, for the application's response
_MIN_READ_BYTES = 8192  # of a response, in each period of `client_timeout`
_MIN_READ_SHARE = 1 / 30  # of what was to be read at its beginning
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger("brockman.collector.connections")


class OneLineAMinute(logging.Filter):
    """Passes one line a minute of each kind, and counts the others in the next one."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._next_at: dict[str, float] = {}
        self._skipped: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = str(record.msg), self._clock()
        if now < self._next_at.get(kind, -math.inf):
            self._skipped[kind] += 1
            return False
        self._next_at[kind] = now + _LINE_EVERY
        skipped = self._skipped.pop(kind, 0)
        if skipped:
            record.msg = f"{kind.rstrip()} (and {skipped} times more since the last such line)"
        return True


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Return False for the traceback of a request that the shutdown cancelled."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


_log.addFilter(_is_no_cancellation)
_log.addFilter(OneLineAMinute())


class Connections:
    """The open connections of one collector."""

    def __init__(self, settings: Settings) -> None:
        self.client_timeout = settings.client_timeout
        self.body_timeout = settings.body_timeout + _BODY_GRACE
        self._max = min(settings.max_connections, _max_descriptors())
        self._open: dict[Connection, None] = {}  # the oldest first

    def add(self, connection: Connection) -> None:
        """Add a connection. When there are too many, close the oldest that is not busy, or refuse this one."""
        self._open[connection] = None
        if len(self._open) <= self._max:
            return
        _log.warning("brockman: more than %d connections; closing those without a request", self._max)
        others = [one for one in self._open if not one.is_busy and one is not connection]
        # Those that have sent a part of a request first: clients keep idle ones for later.
        victim = next((one for one in others if not one.is_idle), others[0] if others else None)
        if victim is None:
            connection.end(503, "too many connections")
        else:
            victim.transport.abort()
            self.discard(victim)

    def discard(self, connection: Connection) -> None:
        self._open.pop(connection, None)

    def __len__(self) -> int:
        return len(self._open)

    def unread_bytes(self) -> int:
        """Return how many bytes of responses wait for their clients."""
        return sum(one.transport.get_write_buffer_size() for one in list(self._open))

    def sweep(self) -> None:
        """Close the connections whose time is over. Called once a second."""
        now = monotonic()
        for connection in list(self._open):
            connection.check(now)

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error of the event loop: no descriptor is left for a connection, or one that nobody handles."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _NO_DESCRIPTOR:
            _log.error("brockman: cannot accept connections: %s; raise the limit (ulimit -n)", error.strerror)
        else:
            loop.default_exception_handler(context)


def _max_descriptors() -> int:
    """Return how many connections may be open, so that some files can be opened too."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows, which has no such limit
        return sys.maxsize
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else max(limit - 64, limit // 4)


class Connection(HttpToolsProtocol):
    """One connection. Its deadline is for what the client does next; infinite while the application works."""

    def __init__(self, connections: Connections, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.logger = _log  # for uvicorn's lines about clients, which may be many
        self._all = connections
        self._is_receiving = self._is_in_headers = False
        self._deadline = math.inf
        self._other_bytes = 0  # received since the last of a body, or the end of a request
        self._unread = 0  # of the response, at the last check
        self._check_unread_at = math.inf

    @property
    def is_busy(self) -> bool:
        """True while the application works on a request."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_idle(self) -> bool:
        """True between two requests."""
        return self.cycle is not None and self.cycle.response_complete and not self._is_receiving

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = monotonic() + self._all.client_timeout
        self._all.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._other_bytes += len(data)
        super().data_received(data)
        if self._other_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.end(431, f"headers are longer than {_MAX_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_receiving = self._is_in_headers = True
        self._deadline = monotonic() + self._all.client_timeout

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._is_in_headers = False
        self._deadline = monotonic() + self._all.body_timeout

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._other_bytes = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_receiving = False
        self._other_bytes = 0
        self._deadline = monotonic() + KEEP_ALIVE if self.is_idle else math.inf

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.is_idle:
            self._deadline = monotonic() + KEEP_ALIVE

    def check(self, now: float) -> None:
        """Close the connection if the client is late."""
        if now > self._deadline and not self.flow.read_paused:
            if self._is_receiving:
                _log.warning("brockman: closed a connection whose request did not end in time")
            self.end(408, "the headers did not end in time")
        unread = self.transport.get_write_buffer_size()
        if not unread:
            self._check_unread_at = math.inf
        elif self._check_unread_at == math.inf:
            self._unread, self._check_unread_at = unread, now + self._all.client_timeout
        elif now > self._check_unread_at:
            if unread > self._unread - max(_MIN_READ_BYTES, self._unread * _MIN_READ_SHARE):
                _log.warning("brockman: closed a connection whose client did not read the response")
                self.transport.abort()
            self._unread, self._check_unread_at = unread, now + self._all.client_timeout

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: uvicorn would advise to install a library, and the request is answered as any other."""

    def send_400_response(self, msg: str) -> None:
        """Close the connection after the response to a request that is no HTTP; called by uvicorn."""
        self._respond(400, "this is no HTTP/1.1 request")
        self.transport.close()

    def end(self, status: int, reason: str) -> None:
        """Close the connection, after a response if none was sent and the client may wait for one."""
        self._deadline = math.inf
        if (self._is_in_headers and not self.is_busy) or status == 503:
            self._respond(status, reason)
        self.transport.close()

    def _respond(self, status: int, reason: str) -> None:
        body = f'{{"error":"{reason}"}}'
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        self.transport.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
