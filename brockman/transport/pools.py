"""urllib3's connection pools, with connections that keep the deadline of an attempt."""

from __future__ import annotations

import queue
import socket
from contextlib import suppress
from functools import cache
from typing import Any

import urllib3.poolmanager

from brockman.transport.deadline import DeadlineConnection, SocksConnection, current_attempt
from brockman.transport.idle import is_too_old


class _ConnectionStack:
    """Idle connections, instead of `queue.LifoQueue`, whose lock stays held when a Ctrl-C strikes in it."""

    def __init__(self, maxsize: int = 0) -> None:
        self.maxsize = maxsize
        self.queue: list[Any] = []

    def qsize(self) -> int:
        return len(self.queue)

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        if len(self.queue) >= self.maxsize:
            raise queue.Full
        self.queue.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        try:
            return self.queue.pop()
        except IndexError:
            raise queue.Empty from None


@cache
def _bounded_connection(mixin: type, connection: type) -> type:
    return type(f"_{connection.__name__}", (mixin, connection), {})


class _DeadlinePool:
    """Mixed into urllib3's pools: a connection that may be of no use any more is opened again."""

    QueueCls = _ConnectionStack
    connection_mixin: type = DeadlineConnection

    @property
    def ConnectionCls(self) -> Any:
        used: type = super().ConnectionCls  # type: ignore[misc]
        if not used.__module__.startswith("urllib3."):  # a test has put it there
            return used
        return _bounded_connection(self.connection_mixin, used)

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)  # type: ignore[misc]
        if isinstance(connection, DeadlineConnection) and (
            is_too_old(connection.idle_since, current_attempt().clock())
            or connection.socket_class is not socket.socket  # patched since, by gevent or a library for tests
        ):
            connection.close()
        return connection

    def _put_conn(self, connection: Any) -> None:
        if connection is not None:
            connection.idle_since = current_attempt().clock()
        super()._put_conn(connection)  # type: ignore[misc]


def with_deadline(pools: dict[str, Any], *, socks: bool = False) -> dict[str, Any]:
    """Return subclasses of urllib3's pools, by scheme, whose connections keep the deadline of their attempt."""
    mixin = {"connection_mixin": SocksConnection if socks else DeadlineConnection}
    return {scheme: type(f"_{pool.__name__}", (_DeadlinePool, pool), mixin) for scheme, pool in pools.items()}


POOLS = with_deadline(urllib3.poolmanager.pool_classes_by_scheme)


def close_idle(pool: Any) -> None:
    """Close the connections that a pool of urllib3 keeps; each is opened again when it is used."""
    idle = []
    with suppress(queue.Empty, AttributeError):  # the pool is closed
        while True:
            idle.append(pool.pool.get(block=False))
    for connection in filter(None, idle):
        connection.close()
    with suppress(queue.Full, AttributeError):
        for connection in reversed(idle):
            pool.pool.put(connection, block=False)
