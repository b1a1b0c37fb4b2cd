"""Pools of connections that keep the deadline of an attempt."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

import urllib3.connectionpool

from brockman.transport.deadline import HTTPConnection, HTTPSConnection, SocksConnection


class _Idle:
    """Connections at rest, in place of `queue.LifoQueue`, whose lock stays held when a Ctrl-C strikes in it."""

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


class _HTTPPool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = HTTPConnection
    QueueCls = _Idle  # type: ignore[assignment]


class _HTTPSPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = HTTPSConnection
    QueueCls = _Idle  # type: ignore[assignment]


POOLS: dict[str, Callable[..., Any]] = {"http": _HTTPPool, "https": _HTTPSPool}


def socks_pools(pools: dict[str, Any]) -> dict[str, Any]:
    """Return what `POOLS` is, for urllib3's pools of connections through a SOCKS proxy."""
    bounded = {}
    for scheme, pool in pools.items():
        connection = type(f"_{pool.ConnectionCls.__name__}", (SocksConnection, pool.ConnectionCls), {})
        bounded[scheme] = type(f"_{pool.__name__}", (pool,), {"ConnectionCls": connection, "QueueCls": _Idle})
    return bounded
