"""The transport and the buffer that the options ask for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from brockman.buffer.base import Buffer
from brockman.buffer.counters import Counters
from brockman.buffer.memory import MemoryBuffer
from brockman.exceptions import ConfigurationError
from brockman.options import Options
from brockman.process.uwsgi import Spawn
from brockman.transport import Transport
from brockman.transport.memory import MemoryTransport

if TYPE_CHECKING:
    import requests

    from brockman.buffer.spool.buffer import SpoolBuffer
    from brockman.buffer.spool.fallback import FallbackBuffer


def make_transport(options: Options, session: requests.Session | None) -> Transport:
    """Return a transport that has opened no connection."""
    if not options.enabled:
        return MemoryTransport()  # never used
    # Imported here: it takes longer than everything else. And not later: an import in the worker's thread would
    # stall the requests that are served meanwhile.
    from brockman.transport.http import HttpTransport

    if session is not None and not all(hasattr(session, name) for name in ("send", "headers", "get_adapter")):
        raise ConfigurationError(f"session: a {type(session).__name__} should be a requests.Session")
    assert options.api_key is not None
    return HttpTransport(
        options.endpoint,
        options.api_key,
        connect_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        compress=options.gzip,
        session=session,
    )


def check_transport(transport: Transport) -> Transport:
    """Return a transport that was passed to a client.

    Raises:
        ConfigurationError: For a class, or for what has no `send` and `close`.
    """
    if isinstance(transport, type):
        kind = f"the class {transport.__name__}"
    elif all(callable(getattr(transport, name, None)) for name in ("send", "close")):
        return transport
    else:
        kind = f"a {type(transport).__name__}"
    raise ConfigurationError(f"transport is {kind}; it should be an object with the methods send and close")


@cache
def _on_disk() -> tuple[type[SpoolBuffer], type[FallbackBuffer]]:
    """Import what few need, and only POSIX has. Once: in the last finalizers of a process no import works."""
    from brockman.buffer.spool.buffer import SpoolBuffer
    from brockman.buffer.spool.fallback import FallbackBuffer

    return SpoolBuffer, FallbackBuffer


def make_buffer(
    options: Options,
    counters: Counters,
    *,
    wake: Callable[[], None],
    may_wait: Callable[[], bool],
    spawn: Spawn,
) -> Buffer:
    """Return an empty buffer that has opened nothing.

    Raises:
        ConfigurationError: When `spool_dir` is set and the system has no file locks.
    """
    bounds: dict[str, Any] = {
        "max_count": options.max_queue_size,
        "max_bytes": options.max_queue_bytes,
        "overflow": options.overflow,
        "block_timeout": options.block_timeout,
        "wake": wake,
        "may_wait": may_wait,
    }
    if options.spool_dir is None:
        return MemoryBuffer(counters, **bounds)
    try:
        spool_buffer, fallback = _on_disk()
    except ImportError:
        problem = f"spool_dir is {options.spool_dir!r}, but this system has no flock (fcntl); leave it out"
        raise ConfigurationError(problem) from None
    return spool_buffer(options, counters, fallback(counters, **bounds), wake=wake, may_wait=may_wait, spawn=spawn)
