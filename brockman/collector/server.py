"""Runs the collector: socket, signals, store."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from brockman.collector.access_log import AccessLog
from brockman.collector.app import create_app
from brockman.collector.auth import LOOPBACK_NAMES
from brockman.collector.connections import ACCEPTED_AT_ONCE, KEEP_ALIVE, Connection, Connections
from brockman.collector.errors import InvalidSetting
from brockman.collector.joiner import Joiner
from brockman.collector.live import Streams
from brockman.collector.load import Load
from brockman.collector.metrics import Metrics
from brockman.collector.observer import Observer
from brockman.collector.retention import removing
from brockman.collector.settings import Settings
from brockman.collector.store import open_store
from brockman.collector.store.base import Store
from brockman.collector.store.people import People
from brockman.collector.store.refused import Refused
from brockman.collector.store.senders import Senders

_BACKLOG = 2048  # connections that the kernel accepts and keeps
_SHUTDOWN_TIMEOUT = 2  # seconds for requests in progress


def serve(
    settings: Settings,
    *,
    on_ready: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Run the collector until SIGTERM, SIGINT (in the main thread) or `stop`.

    `on_ready` is called once with the endpoint's URL, as soon as connections are accepted. After `stop` is set,
    shutdown takes a second or, with requests in progress, three.

    Raises:
        InvalidSetting: If a setting is wrong.
        OSError: If the address cannot be bound.
    """
    family, address = _resolve(settings.host, settings.port)
    is_loopback = ipaddress.ip_address(address[0]).is_loopback
    if not settings.keys and not is_loopback:
        raise InvalidSetting(
            f"api_key: {settings.host!r} can be reached by other machines; give a key, or a loopback host"
        )
    names = {*settings.allowed_hosts, *LOOPBACK_NAMES} if is_loopback or settings.allowed_hosts else None
    with ExitStack() as stack:
        listener = stack.enter_context(_bind(family, address))
        access_log = None
        if settings.access_log is not None:
            access_log = stack.enter_context(closing(AccessLog(settings.access_log)))
        store = stack.enter_context(closing(open_store(settings.database)))
        people = People(store, settings.max_actors_per_identity)
        refused = Refused(store, settings.max_refused, settings.max_refused_bytes)
        store.parts = (people, refused)
        joiner = stack.enter_context(closing(Joiner(store, people)))
        streams, connections, metrics = Streams(store), Connections(settings), Metrics()
        load = Load(settings.max_pending_bytes, connections.unread_bytes)
        _add_gauges(metrics, store, people, streams, connections, load)
        app = create_app(
            store, settings, names, kept=refused, streams=streams, joiner=joiner, load=load, metrics=metrics
        )
        stack.enter_context(removing(store, settings))
        keys = (*settings.keys, *settings.write_keys)
        observer = Observer(app, app.routes, metrics, access_log, keys)
        _Server(observer, connections, streams, store, on_ready, stop).run(sockets=[listener])


def _add_gauges(
    metrics: Metrics, store: Store, people: People, streams: Streams, connections: Connections, load: Load
) -> None:
    metrics.add_gauge("brockman_connections", "Open connections.", lambda: len(connections))
    metrics.add_gauge("brockman_streams", "Open streams of the live page.", lambda: len(streams))
    metrics.add_gauge("brockman_pending_bytes", "Bytes of bodies not stored yet.", lambda: load.body_bytes)
    metrics.add_gauge("brockman_unread_bytes", "Bytes that clients have not read yet.", connections.unread_bytes)
    metrics.add_gauge("brockman_store_triggers", "Triggers in the store.", lambda: store.counts().triggers)
    metrics.add_gauge("brockman_store_bytes", "Bytes of data in the store.", store.used_bytes)
    metrics.add_gauge("brockman_unjoined_triggers", "Triggers not joined to people yet.", people.pending)
    metrics.add_gauge(
        "brockman_missing_triggers", "Delivered, senders say, and not arrived.", Senders(store).missing
    )


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InvalidSetting(f"host: {host!r} is no address of this machine: {error}") from error
    return family, address


def _bind(family: socket.AddressFamily, address: Any) -> socket.socket:
    # Without the protocol's number asyncio does not set TCP_NODELAY, and every response waits for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener


def _endpoint(listener: socket.socket) -> str:
    """Return a URL that reaches the socket from this machine."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if listener.family == socket.AF_INET6 else "127.0.0.1"
    return f"http://[{host}]:{port}/api/v1/" if ":" in host else f"http://{host}:{port}/api/v1/"


class _Server(uvicorn.Server):
    """Calls `on_ready`, watches `stop`, and returns normally after a signal."""

    def __init__(
        self,
        app: ASGIApp,
        connections: Connections,
        streams: Streams,
        store: Store,
        on_ready: Callable[[str], None] | None,
        stop: threading.Event | None,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=functools.partial(Connection, connections),  # type: ignore[arg-type]
            ws="none",
            loop="asyncio",
            lifespan="off",
            access_log=False,  # its URLs would contain people's ids
            log_config=None,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=int(KEEP_ALIVE),
            backlog=ACCEPTED_AT_ONCE,
            timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT,
        )
        super().__init__(config)
        self._connections = connections
        self._streams = streams
        self._store = store
        self._on_ready = on_ready
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._connections.on_loop_error)
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_BACKLOG)  # for asyncio, the backlog is also how many connections it accepts at once
        if self._on_ready is not None and sockets:
            try:
                self._on_ready(_endpoint(sockets[0]))
            except BaseException:
                await self.shutdown(sockets)
                raise

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._streams.close()  # they would go on until the time for requests in progress is over
        await super().shutdown(sockets)
        self._store.close()  # ends reads, for whose threads the event loop would wait

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            self._connections.sweep()
        return await super().on_tick(counter) or (self._stop is not None and self._stop.is_set())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn would raise the signal again after its shutdown, and the process would die by it.
        if self.should_exit:  # the second one: do not wait, whatever hangs. What was acknowledged is committed.
            os._exit(128 + sig)
        self.should_exit = True
