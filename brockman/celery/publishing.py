"""Publish a message without waiting long for a broker that is away.

Celery's own connections wait for minutes or for ever: it retries, kombu connects again and again, and a read of a
socket that was accepted but is never answered has no end. So a message of ours goes over connections that have the
same settings, but time limits of their own, and no retries except one: at once, over a fresh connection, when the
first has failed so fast that it may have been closed while it lay idle.

And AMQP does not answer a message, unless it is asked to: what was written to a broker that died is gone. So ours
are confirmed, unless the app's `broker_transport_options` say otherwise.
"""

from __future__ import annotations

import logging
import re
import weakref
from collections.abc import Callable
from typing import Any

from celery.exceptions import OperationalError

from brockman.celery.opening import Opening, discard
from brockman.delivery.report import say
from brockman.per_process import PerProcess
from brockman.process.clock import monotonic

RESTS = 3.0  # seconds after a failure in which the broker is not asked again
# Kombu's: one attempt to connect.
_ONCE = {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}
# By the kind of broker, the time limits of its sockets. Others get only what kombu itself bounds.
_TIME_LIMITS = {
    "redis": ("socket_timeout", "socket_connect_timeout"),
    "amqp": ("read_timeout", "write_timeout"),
}
# By the kind of broker, what else is set unless the app sets it.
_OPTIONS = {"amqp": {"confirm_publish": True}}


class BrokerAway(Exception):
    """The broker cannot be reached; `cause` is what was raised, or None when it was not asked again so soon."""

    def __init__(self, cause: Exception | None) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Breaker:
    """Whether the broker rests after a failure. Any thread may ask and tell: each change is one store."""

    def __init__(self) -> None:
        self._rests_until = 0.0
        self._is_told = False

    def may_try(self) -> bool:
        """Return whether to ask the broker; of those who come after a rest, only one is to find out."""
        now = monotonic()
        if now < self._rests_until:
            return False
        if self._is_told:
            self._rests_until = now + RESTS
        return True

    def failed(self, error: Exception) -> None:
        self._rests_until = monotonic() + RESTS
        if not self._is_told:
            self._is_told = True
            cause = re.sub("//[^/]*@", "//...@", str(error))[:300] or type(error).__name__
            text = (
                f"the Celery broker cannot be reached ({cause}); until then triggers are recorded where they occur"
            )
            say(logging.WARNING, text)

    def worked(self) -> None:
        self._rests_until = 0.0
        if self._is_told:
            self._is_told = False
            say(logging.INFO, "the Celery broker can be reached again")


class Publisher:
    """Publishes for one task. Any thread of any process may call it."""

    def __init__(self) -> None:
        self._pools: PerProcess[dict[Any, Any]] = PerProcess(dict)
        self._breakers: PerProcess[_Breaker] = PerProcess(_Breaker)
        weakref.finalize(self, _close, self._pools).atexit = False

    def publish(self, app: Any, timeout: float, send: Callable[[Any], Any]) -> Any:
        """Publish over a connection of our own, and return what `send` returns. Blocks.

        Args:
            app: The Celery app, whose broker it is.
            timeout: Seconds that each answer of the broker may take.
            send: Called with the connection.

        Raises:
            BrokerAway: When it failed for a reason that lies with the broker.
        """
        pool = self._pool(app, timeout)
        started = monotonic()
        try:
            return self._attempt(pool, timeout, send)
        except BrokerAway:
            if monotonic() - started > timeout / 2:  # it was waited for: no connection that was closed while idle
                raise
        return self._attempt(pool, timeout, send)

    def guard(self, publish: Callable[[], Any], fall_back: Callable[[], Any]) -> Any:
        """Return what `publish` returns; when the broker is away, or was a moment ago, what `fall_back` does."""
        breaker = self._breakers.get()
        if not breaker.may_try():
            return fall_back()
        try:
            result = publish()
        except BrokerAway as error:
            breaker.failed(error.cause or error)
        else:
            breaker.worked()
            return result
        return fall_back()

    def _pool(self, app: Any, timeout: float) -> Any:
        pools = self._pools.get()
        key = (id(app), app.conf.broker_write_url, timeout)
        pool = pools.get(key)
        if pool is None:
            kind, given = app.connection_for_write().transport.driver_type, app.conf.broker_transport_options
            ours = {name: min(timeout, given.get(name) or timeout) for name in _TIME_LIMITS.get(kind, ())}
            options = {**_OPTIONS.get(kind, {}), **given, **_ONCE, **ours}
            connection = app.connection_for_write(connect_timeout=timeout, transport_options=options)
            pool = pools.setdefault(key, connection.Pool(limit=app.conf.broker_pool_limit))
        return pool

    @staticmethod
    def _attempt(pool: Any, timeout: float, send: Callable[[Any], Any]) -> Any:
        try:
            connection = pool.acquire(block=True, timeout=timeout / 2)
        except pool.LimitExceeded as error:  # all of them are waiting
            raise BrokerAway(
                OperationalError(f"no connection to the broker was free within {timeout / 2} s")
            ) from error
        opening = Opening(connection)
        try:
            opening.open(timeout)
            return send(connection)
        except broker_errors(connection) as error:
            if not opening.is_given_up:
                discard(connection)
            raise BrokerAway(error) from error
        finally:
            if not opening.is_given_up:
                connection.release()


def _close(pools: PerProcess[dict[Any, Any]]) -> None:
    """Close the connections of this process; those of a parent are not ours."""
    for pool in pools.get().values():
        pool.force_close_all()


def broker_errors(connection: Any) -> tuple[type[Exception], ...]:
    """Return the exceptions whose cause lies with the broker or with the way to it."""
    return (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors)
