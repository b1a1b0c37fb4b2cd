"""Running the collector: the socket, the signals, the life of the store."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from collections.abc import Callable, Collection
from contextlib import closing
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from brockman.collector.app import BODY_TIMEOUT, MAX_BODY_BYTES, create_app
from brockman.collector.auth import LOOPBACK_NAMES
from brockman.collector.errors import InvalidSetting
from brockman.collector.store import Store

DEFAULT_PORT = 8765
_KEEP_ALIVE = 75  # seconds that an idle connection stays open: longer than a quiet client pauses between batches
_GRACE = 2  # seconds for requests under way when the collector is asked to end


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    database: str | os.PathLike[str],
    api_key: str | None = None,
    allowed_hosts: Collection[str] = (),
    outage_after: int | None = None,
    outage_for: float = 0.0,
    max_body_bytes: int = MAX_BODY_BYTES,
    body_timeout: float = BODY_TIMEOUT,
    on_ready: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
    log_level: str = "warning",
) -> None:
    """Run the collector. Blocks until SIGTERM, SIGINT (in the main thread) or `stop` ends it.

    Args:
        host: Address to listen on. Anything but loopback needs `api_key`.
        port: 0 takes a free one.
        database: Path of the SQLite file; made when it is not there.
        api_key: What clients must send. None checks no key.
        allowed_hosts: Further names that `Host` may hold, beside those of the loopback interface. When the address
            is not loopback any name is taken, unless some are given here.
        outage_after: Rehearse an outage once this many triggers have been stored. None does not.
        outage_for: Seconds that the outage lasts.
        max_body_bytes: Of one request, as it is sent and also decompressed.
        body_timeout: Seconds within which a request's body must arrive.
        on_ready: Called once with the endpoint's URL, as soon as connections are accepted.
        stop: Set it, from any thread, to end the collector: in a second or, with requests under way, in three.
        log_level: Of uvicorn's logger, e.g. "info".

    Raises:
        InvalidSetting: When a setting is wrong.
        OSError: When the address cannot be bound.
    """
    family, address = _resolve(host, port)
    is_loopback = ipaddress.ip_address(address[0]).is_loopback
    if api_key is None and not is_loopback:
        raise InvalidSetting(f"api_key: {host!r} can be reached by other machines; give a key, or a loopback host")
    names = {*allowed_hosts, *LOOPBACK_NAMES} if is_loopback or allowed_hosts else None
    with _bind(family, address) as listener, closing(Store(database)) as store:
        app = create_app(
            store,
            api_key=api_key,
            max_body_bytes=max_body_bytes,
            max_inflated_bytes=max_body_bytes,
            body_timeout=body_timeout,
            allowed_hosts=names,
            outage_after=outage_after,
            outage_for=outage_for,
        )
        _Server(_configure(app, log_level), on_ready, stop).run(sockets=[listener])


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    if not 0 <= port <= 65535:
        raise InvalidSetting(f"port: {port} is not from 0 to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InvalidSetting(f"host: {host!r} is no address of this machine: {error}") from error
    return family, address


def _bind(family: socket.AddressFamily, address: Any) -> socket.socket:
    # Without the protocol's number asyncio would not set TCP_NODELAY, and every answer would wait for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener


def _configure(app: Starlette, log_level: str) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        loop="asyncio",
        lifespan="off",
        access_log=False,  # it would hold what is asked for, and people's ids with it
        log_config=None,
        log_level=log_level,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )


def _endpoint(listener: socket.socket) -> str:
    """Return the URL that reaches a socket from this machine."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if listener.family == socket.AF_INET6 else "127.0.0.1"
    return f"http://[{host}]:{port}/api/v1/" if ":" in host else f"http://{host}:{port}/api/v1/"


class _Server(uvicorn.Server):
    """A uvicorn that tells when it is ready, and takes a signal as a request to end, not as its cause of death."""

    def __init__(
        self, config: uvicorn.Config, on_ready: Callable[[str], None] | None, stop: threading.Event | None
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_ready is not None and sockets:
            try:
                self._on_ready(_endpoint(sockets[0]))
            except BaseException:
                await self.shutdown(sockets)
                raise

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or (self._stop is not None and self._stop.is_set())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn would raise the signal again after its shutdown, and the exit status would tell of a death by it.
        self.should_exit = True
