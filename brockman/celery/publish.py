"""What happens when the task is called: a message goes to the broker; when that is away, the trigger is kept.

Celery's own connections wait for minutes or for ever: it retries, kombu connects again and again, and a read of a
socket that was accepted but is never answered has no end. So a message of ours goes over connections that have the
same settings, but time limits of their own, and no retries except one: at once, over a fresh connection, when the
first has failed so fast that it may have been closed while it lay idle.

And AMQP does not answer a message, unless it is asked to: what was written to a broker that died is gone. So ours
are confirmed, unless the app's `broker_transport_options` say otherwise.

The time limits of a socket do not reach the resolver, and hold for each address of a host and each step of a
handshake anew. So a connection is opened in a thread of its own, for which the caller waits as long as it may.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import uuid
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery.exceptions import OperationalError

from brockman.process import registry
from brockman.process.clock import monotonic
from brockman.process.fork import PerProcess
from brockman.process.log import say
from brockman.process.uwsgi import why_no_threads


class BoundedConnect:
    """A connection that is being opened, and to whom it belongs.

    Attributes:
        is_given_up: Whether it belongs to the thread, since the caller has gone: who called must not touch it.
    """

    def __init__(self, connection: Any) -> None:
        """Begin nothing yet.

        Args:
            connection: Kombu's, from a pool.
        """
        self.is_given_up = False
        self._connection = connection
        self._lock = threading.Lock()  # decides between a caller that goes and a thread that is through
        self._is_through = False
        self._ended = threading.Event()
        self._error: BaseException | None = None

    def open(self, timeout: float) -> None:
        """Open the connection, unless it is open. Blocks for so many seconds at the most.

        Raises:
            OperationalError: When it took longer.
            BaseException: What was raised while it was opened, or what strikes this thread while it waits.
        """
        if self._connection.connected:
            return
        if not self._start_thread():
            self._connect()
        else:
            self._wait(timeout)
            if self.is_given_up:
                raise OperationalError(f"no connection to the broker was open within {timeout} s")
            if self._error is not None:
                raise self._error
        _limit_waits(self._connection, timeout)

    def _start_thread(self) -> bool:
        if why_no_threads() is None:
            with suppress(RuntimeError):  # there are too many, or the interpreter ends
                threading.Thread(target=self._run, name="brockman-broker", daemon=True).start()
                return True
        return False

    def _run(self) -> None:
        try:
            self._connect()
        except BaseException as error:  # it is the caller's
            self._error = error
        with self._lock:
            self._is_through = True
        self._ended.set()
        if self.is_given_up:
            discard(self._connection)
            self._connection.release()

    def _wait(self, timeout: float) -> None:
        try:
            self._ended.wait(timeout)
        finally:
            with self._lock:
                self.is_given_up = not self._is_through

    def _connect(self) -> None:
        self._connection.default_channel  # noqa: B018 - opens the connection and a channel


def discard(connection: Any) -> None:
    """Drop the socket of a connection without speaking to the broker; the next use opens another."""
    with suppress(Exception):
        connection.collect()


def _limit_waits(connection: Any, timeout: float) -> None:
    """Have py-amqp wait no longer: its own limit is an option of the system's socket, which gevent ignores."""
    sock = getattr(getattr(connection.connection, "transport", None), "sock", None)
    if sock is not None:
        sock.settimeout(timeout)


COOLDOWN = 3.0  # seconds after a failure in which the broker is not asked again
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
            self._rests_until = now + COOLDOWN
        return True

    def failed(self, error: Exception) -> None:
        self._rests_until = monotonic() + COOLDOWN
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
        opening = BoundedConnect(connection)
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


_FOLLOWERS = ("link", "chain", "chord")


class Caller:
    """Publishes the messages of one task. Any thread of any process may call it."""

    def __init__(self) -> None:
        """Connect to nothing yet."""
        self._publisher = Publisher()

    def publish(self, task: Any, body: bytes | None, task_id: Any, producer: Any, options: dict[str, Any]) -> Any:
        """Publish a trigger, or record it here when the broker is away and the settings say so. Blocks.

        Args:
            task: The task.
            body: The trigger; None for none, when only what follows it is wanted.
            task_id: The message's id; None for the trigger's.
            producer: The caller's own, or None.
            options: Of Celery's `apply_async`.
        """
        text = "" if body is None else body.decode()
        task_id = task_id or (json.loads(text)["id"] if text else str(uuid.uuid4()))
        message = {"trigger": text}
        options.setdefault("kwargsrepr", "{'trigger': ...}")  # logs and monitors need not know the actor

        def fall_back() -> Any:
            if body is not None:
                task.client.record_encoded(body)
            return unpublished(task, task_id)

        if registry.substitutes and not task.app.conf.task_always_eager:
            return fall_back()  # a test: its outbox takes the trigger, and no worker sends it for real
        if body is None or has_followers(options) or not task.read_settings().celery_fallback:
            return self.publish_message(task, message, task_id, producer, options)
        return self._publisher.guard(lambda: self._send(task, message, task_id, producer, options), fall_back)

    def publish_message(
        self, task: Any, message: dict[str, Any], task_id: Any, producer: Any, options: dict[str, Any]
    ) -> Any:
        """Publish a message, or raise what the broker's library raised. Blocks."""
        try:
            return self._send(task, message, task_id, producer, options)
        except BrokerAway as error:
            cause = error.cause or error
        raise cause

    def _send(
        self, task: Any, message: dict[str, Any], task_id: Any, producer: Any, options: dict[str, Any]
    ) -> Any:
        """Publish as the caller wants it, else over a connection of our own.

        Raises:
            BrokerAway: When the broker cannot be reached.
        """
        if task.app.conf.task_always_eager:
            return task.publish_as_is((), message, task_id, producer, **options)
        if producer is not None or options.get("connection") is not None:
            try:
                return task.publish_as_is((), message, task_id, producer, **options)
            except broker_errors(task.app.connection_for_write()) as error:
                raise BrokerAway(error) from error

        def send(connection: Any) -> Any:
            return task.publish_as_is((), message, task_id, **{**options, "connection": connection})

        options.setdefault("retry", False)  # by Celery: it would wait longer than anyone should
        return self._publisher.publish(task.app, task.read_settings().celery_publish_timeout, send)


def unpublished(task: Any, task_id: str) -> Any:
    """Return the result of a task that no worker will see."""
    result = task.AsyncResult(task_id)
    result.ignored = True
    return result


def has_followers(options: dict[str, Any]) -> bool:
    """Return whether Celery is to do more after this task: only a worker will."""
    return any(options.get(name) for name in _FOLLOWERS)


def in_order(
    actor_id: Any, action: Any, obj: Any, identities: Any = None, attributes: Any = None, variables: Any = None
) -> tuple[Any, ...]:
    """Return the arguments of `record_trigger` in their order."""
    return actor_id, action, obj, identities, attributes, variables


in_order.__qualname__ = "record_trigger"  # what a TypeError names
