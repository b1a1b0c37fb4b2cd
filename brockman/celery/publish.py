"""Publishing: a call of the task sends a message to the broker; if that is unreachable, it records the trigger.

Celery's own connections may block for minutes or forever: Celery retries, kombu reconnects, and a broker that
accepts a connection and never answers is read from without a limit. So messages go over connections with the same
settings, but with time limits and without retries. The one exception: if an attempt fails so fast that the
connection may have been closed while idle, the message is sent again at once over a fresh one.

AMQP confirms a message only if asked to, and what was written to a broker that died is lost. So publisher confirms
are on, unless the app's `broker_transport_options` say otherwise.

Socket timeouts do not cover the resolver, and start anew for each address of a host and each step of a handshake.
So a connection is opened in a thread of its own, and the caller waits for it within the time limit.
"""

from __future__ import annotations

import concurrent.futures
import json
import logging
import re
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from celery.exceptions import OperationalError

from brockman.process import registry
from brockman.process.clock import monotonic
from brockman.process.fork import PerProcess
from brockman.process.log import Log
from brockman.process.uwsgi import no_threads_reason

if TYPE_CHECKING:
    from brockman.celery.task import RecordTask

# One attempt to connect, in kombu's terms.
_NO_RETRIES = {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}
# By driver type, the socket timeouts. Other brokers have only the limits that kombu itself sets.
_SOCKET_TIMEOUTS = {
    "redis": ("socket_timeout", "socket_connect_timeout"),
    "amqp": ("read_timeout", "write_timeout"),
}
_DEFAULTS = {"amqp": {"confirm_publish": True}}  # by driver type, unless the app sets it
_ConnectResult = concurrent.futures.Future["BaseException | None"]


class _BrokerUnavailable(Exception):
    def __init__(self, cause: Exception) -> None:
        self.cause = cause


@contextmanager
def bounded_connect(connection: Any, timeout: float) -> Iterator[None]:
    """Open a connection of a pool within `timeout` seconds; release it at the end of the block.

    A thread opens it. If the caller stops waiting first, the thread releases the connection when it is done.

    Raises:
        OperationalError: When the time is over.
        BaseException: What opening raised, or what interrupts the caller.
    """
    result: _ConnectResult = concurrent.futures.Future()
    is_detached = False
    try:
        if not connection.connected:
            _start_thread(lambda: _connect(connection, result))
            try:
                error = result.result(timeout)
            except concurrent.futures.TimeoutError:
                error = OperationalError(f"no connection to the broker within {timeout} s")
            finally:
                is_detached = result.cancel()  # fails if the thread was faster
            if error is not None:
                raise error
            _set_timeout(connection, timeout)
        yield
    except BaseException:
        if not is_detached:
            _discard(connection)
        raise
    finally:
        if not is_detached:
            connection.release()


def _start_thread(target: Callable[[], None]) -> None:
    """Run a function in a thread, or here where no thread can be had."""
    if no_threads_reason() is None:
        with suppress(RuntimeError):  # too many threads, or the interpreter is shutting down
            threading.Thread(target=target, name="brockman-broker", daemon=True).start()
            return
    target()


def _connect(connection: Any, result: _ConnectResult) -> None:
    error: BaseException | None = None
    try:
        connection.default_channel  # noqa: B018 - opens the connection and a channel
    except BaseException as caught:  # raised in the caller
        error = caught
    try:
        result.set_result(error)
    except concurrent.futures.InvalidStateError:  # cancelled
        _discard(connection)
        connection.release()


def _discard(connection: Any) -> None:
    """Close the socket without telling the broker; the next use opens a new one."""
    with suppress(Exception):
        connection.collect()


def _set_timeout(connection: Any, timeout: float) -> None:
    """Set the timeout of py-amqp's socket: its own is an option of the operating system, which gevent ignores."""
    sock = getattr(getattr(connection.connection, "transport", None), "sock", None)
    if sock is not None:
        sock.settimeout(timeout)


class _CircuitBreaker:
    """Keeps calls from the broker for a while after a failure, then lets one try it; logs both changes.

    Any thread may call it: each change is a single store.
    """

    def __init__(self, cooldown: float) -> None:
        self._cooldown = cooldown  # seconds
        self._retry_at = 0.0  # 0 when the last call succeeded
        self._log = Log()

    def allows_attempt(self) -> bool:
        now = monotonic()
        if now < self._retry_at:
            return False
        if self._retry_at:  # the other calls wait for the outcome of this one
            self._retry_at = now + self._cooldown
        return True

    def record_failure(self, cause: str) -> None:
        self._retry_at = monotonic() + self._cooldown
        text = f"the Celery broker cannot be reached ({cause}); recording triggers in this process"
        self._log.trouble("broker", logging.WARNING, text)
        self._log.write()

    def record_success(self) -> None:
        self._retry_at = 0.0
        if self._log.over("broker", "the Celery broker can be reached again"):
            self._log.write()


class Publisher:
    """Publishes the messages of one task. Any thread of any process may call it."""

    def __init__(self, task: RecordTask) -> None:
        self._task = task
        self._pools: PerProcess[dict[Any, Any]] = PerProcess(dict)
        self._breakers = PerProcess(lambda: _CircuitBreaker(task.broker_cooldown))
        weakref.finalize(self, _close, self._pools).atexit = False

    def publish(
        self, body: bytes | None, options: dict[str, Any], task_id: Any = None, producer: Any = None
    ) -> Any:
        """Publish a trigger, or record it here if the broker is unreachable and `celery_fallback` is on. Blocks.

        `body` is None if the trigger was dropped: then a message is needed only for tasks that follow. The other
        arguments are those of Celery's `apply_async`; without `task_id` the message has the trigger's.
        """
        task, text = self._task, "" if body is None else body.decode()
        task_id = task_id or (json.loads(text)["id"] if text else str(uuid.uuid4()))
        message = {"trigger": text}
        options.setdefault("kwargsrepr", "{'trigger': ...}")  # keeps the actor out of logs and monitors
        has_followers = any(options.get(name) for name in ("link", "chain", "chord"))  # only a worker calls them
        # In a test that captures triggers, none is published: a worker would send it for real.
        is_captured = bool(registry.substitutes) and not task.app.conf.task_always_eager
        if not is_captured and (body is not None or has_followers):
            if has_followers or not task.read_settings().celery_fallback:
                return self.publish_message(message, task_id, producer, options)
            breaker = self._breakers.get()
            if breaker.allows_attempt():
                try:
                    result = self._send(message, task_id, producer, options)
                except _BrokerUnavailable as error:
                    breaker.record_failure(_describe(error.cause, task.app.conf))
                else:
                    breaker.record_success()
                    return result
        task.client.record_encoded(body)
        result = task.AsyncResult(task_id)
        result.ignored = True
        return result

    def publish_message(
        self, message: dict[str, Any], task_id: Any, producer: Any, options: dict[str, Any]
    ) -> Any:
        """Publish a message, or raise what the broker's library raised. Blocks."""
        try:
            return self._send(message, task_id, producer, options)
        except _BrokerUnavailable as error:
            raise error.cause from None

    def _send(self, message: dict[str, Any], task_id: Any, producer: Any, options: dict[str, Any]) -> Any:
        """Publish over the caller's connection if there is one, else over one with time limits.

        Raises:
            _BrokerUnavailable: When the broker cannot be reached.
        """
        task = self._task
        if task.app.conf.task_always_eager:
            return task._publish_as_is((), message, task_id, producer, **options)
        if producer is not None or options.get("connection") is not None:
            try:
                return task._publish_as_is((), message, task_id, producer, **options)
            except _broker_errors(task.app.connection_for_write()) as error:
                raise _BrokerUnavailable(error) from error

        def send(connection: Any) -> Any:
            return task._publish_as_is((), message, task_id, **{**options, "connection": connection})

        options.setdefault("retry", False)  # Celery's retries would exceed the time limit
        timeout = task.read_settings().celery_publish_timeout
        pool, started = self._pool(timeout), monotonic()
        try:
            return self._attempt(pool, timeout, send)
        except _BrokerUnavailable:
            if monotonic() - started > timeout / 2:  # no connection that was closed while idle
                raise
        return self._attempt(pool, timeout, send)

    def _pool(self, timeout: float) -> Any:
        app, pools = self._task.app, self._pools.get()
        key = (id(app), str(app.conf.broker_write_url), timeout)  # a text or a list
        pool = pools.get(key)
        if pool is None:
            driver, given = app.connection_for_write().transport.driver_type, app.conf.broker_transport_options
            timeouts = {
                name: min(timeout, given.get(name) or timeout) for name in _SOCKET_TIMEOUTS.get(driver, ())
            }
            options = {**_DEFAULTS.get(driver, {}), **given, **_NO_RETRIES, **timeouts}
            connection = app.connection_for_write(connect_timeout=timeout, transport_options=options)
            pool = pools.setdefault(key, connection.Pool(limit=app.conf.broker_pool_limit))
        return pool

    @staticmethod
    def _attempt(pool: Any, timeout: float, send: Callable[[Any], Any]) -> Any:
        try:
            connection = pool.acquire(block=True, timeout=timeout / 2)
        except pool.LimitExceeded as error:  # other threads use all of them
            text = f"no connection of the pool was free within {timeout / 2} s"
            raise _BrokerUnavailable(OperationalError(text)) from error
        try:
            with bounded_connect(connection, timeout):
                return send(connection)
        except _broker_errors(connection) as error:
            raise _BrokerUnavailable(error) from error


def _close(pools: PerProcess[dict[Any, Any]]) -> None:
    """Close this process's connections, not those inherited from a parent."""
    for pool in pools.get().values():
        pool.force_close_all()


def _broker_errors(connection: Any) -> tuple[type[Exception], ...]:
    return (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors)


def _describe(error: Exception, conf: Any) -> str:
    """Return the error's text, or its class alone if the text may hold a password of the broker."""
    text = str(error)[:300]
    lowered = text.lower()  # as host names are
    if not text or "://" in text or any(secret.lower() in lowered for secret in _find_secrets(conf)):
        return type(error).__name__
    return text


def _find_secrets(conf: Any) -> Iterator[str]:
    """Yield the passwords in an app's settings, and the parts of them that may be taken for a host or a port."""
    for urls in (conf.broker_write_url, conf.broker_url):
        for url in urls if isinstance(urls, (list, tuple)) else [urls or ""]:
            for part in (url, *url.split(";")):  # brokers to fail over to
                user, _, password = part.rpartition("@")[0].partition("://")[2].partition(":")
                query = part.rpartition("@")[2].partition("?")[2]
                values = (password or user, unquote(password or user), *dict(parse_qsl(query)).values())
                yield from (piece for value in values for piece in (value, *re.split("[/?#@:;]", value)) if piece)
    if conf.broker_password:
        yield str(conf.broker_password)
    yield from _passwords(conf.broker_transport_options)


def _passwords(options: Any) -> Iterator[str]:
    for name, value in options.items() if isinstance(options, dict) else ():
        if isinstance(value, dict):
            yield from _passwords(value)
        elif re.search("pass|secret|token|key", str(name), re.I) and isinstance(value, str) and value:
            yield value
