"""The client: what a user holds."""

from __future__ import annotations

import functools
import math
import os
import weakref
from collections.abc import Callable
from datetime import datetime, timezone
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from brockman.exceptions import ClientClosed, ConfigurationError, InvalidTrigger
from brockman.options.secret import as_secret
from brockman.process import registry, sigterm
from brockman.process.clock import monotonic
from brockman.process.registry import Lease
from brockman.process.uwsgi import UWSGI

if TYPE_CHECKING:
    import requests

    from brockman.delivery.pipeline import Pipeline
    from brockman.options import Options
    from brockman.stats import FlushResult, Stats
    from brockman.transport import Transport

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


class Flushes(Protocol):
    """What can be flushed: a client."""

    def flush(self, timeout: float | None) -> object:
        """Block until everything recorded is settled, or the timeout."""

    async def aflush(self, timeout: float | None) -> object:
        """Do so without blocking the event loop."""


class Flushing:
    """Flush a client when the block, or the function, is left, also by an exception. May be used many times."""

    def __init__(self, client: Flushes, timeout: float | None) -> None:
        """Make it.

        Args:
            client: What to flush.
            timeout: Seconds that the flush may take; None waits for as long as it takes.
        """
        self._client = client
        self._timeout = timeout

    def __enter__(self) -> Flushing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.flush(self._timeout)

    async def __aenter__(self) -> Flushing:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aflush(self._timeout)

    def __call__(self, function: AnyFunction) -> AnyFunction:
        """Return the function with a flush at its end."""
        import inspect  # here: a module that imports the client need not wait for it

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def flushed_coroutine(*arguments: Any, **keywords: Any) -> Any:
                async with self:
                    return await function(*arguments, **keywords)

            return flushed_coroutine  # type: ignore[return-value]

        @functools.wraps(function)
        def flushed(*arguments: Any, **keywords: Any) -> Any:
            with self:
                return function(*arguments, **keywords)

        return flushed  # type: ignore[return-value]


AnyHolder = TypeVar("AnyHolder", bound="Holder")


class Holder:
    """Holds the pipeline of its process and settings, and knows what to do when it is another one's."""

    def __init__(
        self, options: Options, transport: Transport | None = None, session: requests.Session | None = None
    ) -> None:
        """Join the pipeline of this process for these options, or make it; see `FocusLabClient`."""
        # Imported here: a module that imports the client, and makes none, need not wait for it.
        from brockman.delivery.pipeline import Pipeline

        self.options = options
        if options.handle_sigterm:
            sigterm.install()
        self._refusal = None if options.enabled else "disabled"  # the reason why no trigger is taken
        self._lease = Lease()
        weakref.finalize(self, registry.release_collected, self._lease).atexit = False
        is_own = transport is not None or session is not None
        self._key = self._lease if is_own else options.identity
        self._pipeline = registry.acquire(
            self._key, self._lease, lambda: Pipeline(options, transport, session, key=self._key)
        )

    def _current(self) -> Pipeline:
        """Return the pipeline to use: a new one in a forked child, and after the exit hook has closed one."""
        pipeline = self._pipeline
        if pipeline.fork_flag[0] or (self._refusal is not None and not pipeline.is_inherited):
            return pipeline
        if self._refusal is None:
            self._pipeline = registry.acquire(self._key, self._lease, pipeline.replacement)
            if (
                pipeline.is_inherited and UWSGI.is_first_worker()
            ):  # another one's fork hook is in the place of ours
                pipeline.buffer.transfer_to_child(self._pipeline.buffer.put)
        else:
            self._pipeline = pipeline.replacement()
        return self._pipeline

    def _refuse(self) -> bool:
        """Count a trigger that is not taken; return False."""
        return self._current().refuse(self._refusal or "closed")

    def flush(self, timeout: float | None = 10.0) -> FlushResult:
        """Block until everything recorded before the call is settled, or the timeout.

        Wakes the thread at once, and cuts a backoff wait short for one attempt. What other threads record
        meanwhile is not waited for. From a callback, which runs in that thread, it returns at once. What processes
        that are gone have left in `spool_dir` is adopted first, and waited for too: of 64 at a time, or
        fewer where few files may be open.

        Args:
            timeout: Seconds; None waits for as long as it takes.

        Returns:
            What happened meanwhile; true when nothing that was recorded before is pending.
        """
        pipeline, seconds, begun = self._current(), _seconds(timeout), monotonic()
        pipeline.buffer.adopt(seconds)
        return pipeline.flush(max(0.0, seconds - (monotonic() - begun)))

    async def aflush(self, timeout: float | None = 10.0) -> FlushResult:
        """Do as `flush`, without blocking the event loop of `asyncio`."""
        from brockman.delivery import aio

        pipeline, seconds, begun = self._current(), _seconds(timeout), monotonic()
        if pipeline.options.spool_dir is not None:
            await aio.adopt(pipeline, seconds)
        return await aio.flush(pipeline, max(0.0, seconds - (monotonic() - begun)))

    def flushing(self, timeout: float | None = 2.0) -> Flushing:
        """Return a `with` block, also a decorator, that flushes at its end: where processes freeze or end at once.

        Both work for coroutines too (`async with`, `async def`). The client stays open.

            @client.flushing(timeout=2)
            def handler(event, context): ...

        Args:
            timeout: Seconds that the flush may take; None waits for as long as it takes.
        """
        return Flushing(self, timeout)

    def close(self, timeout: float | None = 5.0) -> FlushResult:
        """Flush, stop the thread, release the connections. Blocks for at most `timeout` seconds; None is for ever.

        What could not be delivered by then is counted as dropped under `shutdown`, and one line on the log says
        how many that were. Later triggers are dropped under `closed`. Closing again does nothing. While other
        clients with the same settings are open, only the flush is done, and nothing is given up.

        Returns:
            What happened meanwhile; `pending` is how many were not delivered.
        """
        pipeline, seconds = self._current(), _seconds(timeout)
        return pipeline.close(seconds) if self._is_last_to_close() else pipeline.flush(seconds)

    async def aclose(self, timeout: float | None = 5.0) -> FlushResult:
        """Do as `close`, without blocking the event loop of `asyncio`."""
        from brockman.delivery import aio

        pipeline, seconds = self._current(), _seconds(timeout)
        if self._is_last_to_close():
            return await aio.close(pipeline, seconds)
        return await aio.flush(pipeline, seconds)

    def _is_last_to_close(self) -> bool:
        self._refusal = self._refusal or "closed"
        return registry.release(self._lease)

    def stats(self) -> Stats:
        """Return a snapshot of the counts of this process and these settings. Does not block."""
        pipeline = self._pipeline
        return (self._current() if pipeline.is_inherited else pipeline).stats()

    def __enter__(self: AnyHolder) -> AnyHolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close within `shutdown_timeout`."""
        self.close(self.options.shutdown_timeout)

    async def __aenter__(self: AnyHolder) -> AnyHolder:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close within `shutdown_timeout`, without blocking the event loop."""
        await self.aclose(self.options.shutdown_timeout)

    def __repr__(self) -> str:
        # In a traceback of what made it fail, or before its settings are read:
        if "_pipeline" not in self.__dict__:
            return f"<{type(self).__name__} not in use yet>"
        stats = self.stats()
        return (
            f"<{type(self).__name__} endpoint={self.options.endpoint!r} queued={stats.queued}"
            f" in_flight={stats.in_flight} delivered={stats.delivered} rejected={stats.rejected}"
            f" dropped={sum(stats.dropped.values())}>"
        )

    def __copy__(self: AnyHolder) -> AnyHolder:
        return self

    def __deepcopy__(self: AnyHolder, memo: object) -> AnyHolder:  # of a test's class data, say
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be pickled; make one in the process that uses it")


def _seconds(timeout: float | None) -> float:
    """Return a timeout as seconds to wait: None is infinite; less than nothing, or nan, is nothing."""
    if timeout is None:
        return math.inf
    try:
        seconds = float(timeout)  # a Decimal does not add to a float, and a lock takes no number of numpy's
    except (TypeError, ValueError, OverflowError) as error:
        kind = type(timeout).__name__
        raise type(error)(f"timeout: a value of type {kind} should be a number of seconds, or None") from None
    return seconds if seconds > 0 else 0.0


_ARGUMENTS = ("actor_id", "action", "obj", "identities", "attributes", "variables")


def call_before_record(
    hook: Callable[[dict[str, Any]], dict[str, Any] | None], values: tuple[Any, ...], pipeline: Pipeline
) -> tuple[Any, ...] | None:
    """Return the arguments of `record_trigger` as the hook wants them, or None when it keeps the trigger back.

    That is counted as `filtered`. A hook that raises drops the trigger too (`hook_failed`): it may be there to
    take personal data out.
    """
    try:
        changed = hook(dict(zip(_ARGUMENTS, values, strict=True)))
        if changed is not None and set(changed) <= set(_ARGUMENTS):
            return tuple(changed.get(name) for name in _ARGUMENTS)
        if changed is not None:
            raise ConfigurationError(f"before_record should return a dict with the keys {_ARGUMENTS}, or None")
    except Exception as error:
        pipeline.callbacks.failed("before_record", error)
        pipeline.drop("hook_failed")
        return None
    pipeline.drop("filtered")
    return None


_UTC = timezone.utc


class FocusLabClient(Holder):
    """Record triggers without waiting for the network.

    `record_trigger` puts a trigger into a buffer; a daemon thread, started by the first one, sends what waits in
    batches and retries. All methods may be called from any thread, signal handler or finalizer, and in a forked
    child, which starts with an empty buffer. Clients with the same settings share one buffer, thread and
    connection, so making one where it is needed costs little.

        client = FocusLabClient(api_key="...")
        client.record_trigger(actor_id=user.id, action="viewed", obj="blog post")
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        transport: Transport | None = None,
        session: requests.Session | None = None,
        **options: Any,
    ) -> None:
        """Make a client; opens no connection and starts no thread. The first one imports `requests`.

        Args:
            api_key: The key of your project; None means `FL_API_KEY` from the environment.
            transport: Sends instead of HTTP, e.g. `brockman.transport.memory.MemoryTransport()`.
            session: A `requests.Session` to send with, for its adapters, certificates, proxies and headers.
            **options: Every setting of `brockman.options.Options` by its name. What is not given is read from
                the environment (`FL_FLUSH_INTERVAL` for `flush_interval`), then the default holds.

        Raises:
            ConfigurationError: Naming the setting, its value (never the key's), and what would be right; and for
                `handle_sigterm` outside the main thread.
        """
        if transport is not None and session is not None:
            raise ConfigurationError("transport and session are both given; give one: a session is for HTTP only")
        from brockman.options import Options  # here for the reason that `Holder` has

        api_key = as_secret(api_key)
        self._start(Options.read({"api_key": api_key, **options}, os.environ), transport, session)

    def _start(self, options: Options, transport: Transport | None, session: requests.Session | None) -> None:
        from brockman.trigger import encode  # here for the reason that `Holder` has

        super().__init__(options, transport, session)
        self._encode_fields = encode.encode_trigger
        self._before_record = options.before_record
        self._max_trigger_bytes = options.max_trigger_bytes

    def record_trigger(
        self,
        actor_id: Any,
        action: Any,
        obj: Any,
        identities: Any = None,
        attributes: Any = None,
        variables: Any = None,
    ) -> bool:
        """Record that an actor did something to an object. Does no I/O and does not block (but see `overflow`).

        Args:
            actor_id: Who: a str, int or UUID.
            action: What was done: a str, e.g. "viewed".
            obj: To what: a str, e.g. "blog post".
            identities: What else the actor is known by, e.g. {"email": ...}; None for nothing.
            attributes: What the actor is like, e.g. {"plan": ...}; None for nothing.
            variables: What belongs to this trigger, e.g. {"title": ...}; None for nothing.
                The three map str to str, int, float, bool, or lists of these; UUID, date, datetime, Decimal,
                Enum and lazy text are made to fit; a key whose value is None is left out.

        Returns:
            True when the trigger is buffered. False when it was dropped, and counted in `stats().dropped`.

        Raises:
            InvalidTrigger: For a mistake in the arguments, unless `on_invalid="drop"`.
            BufferFull: When there is no room and `overflow="raise"`.
        """
        if self._refusal is not None:
            return self._refuse()
        pipeline = self._pipeline
        if not pipeline.fork_flag[0]:
            pipeline = self._current()
        try:
            body: bytes | None
            if self._before_record is None:  # written out: `_encode` would be one more call for every trigger
                body = self._encode_fields(
                    actor_id,
                    action,
                    obj,
                    identities,
                    attributes,
                    variables,
                    pipeline.next_id(),
                    datetime.now(_UTC),
                    self._max_trigger_bytes,
                )
            else:
                body = self._encode(actor_id, action, obj, identities, attributes, variables)
                pipeline = self._current()  # the hook may have forked, and this be the child
        except InvalidTrigger as error:
            self._drop_invalid(error)
            return False
        return body is not None and pipeline.buffer.put(body)

    def encode_trigger(
        self,
        actor_id: Any,
        action: Any,
        obj: Any,
        identities: Any = None,
        attributes: Any = None,
        variables: Any = None,
        *,
        trigger_id: str | None = None,
    ) -> bytes | None:
        """Return a trigger as JSON, with an id and the time of this call, for `record_encoded` later or elsewhere.

        Takes what `record_trigger` takes, and raises what that raises for a mistake. `trigger_id` is a UUID to be
        the trigger's id; None for a new one.

        Returns:
            None when the trigger is dropped, and counted: by `before_record`, as invalid, or since the client is
            closed or off.
        """
        if self._refusal is not None:
            self._refuse()
            return None
        try:
            return self._encode(actor_id, action, obj, identities, attributes, variables, trigger_id)
        except InvalidTrigger as error:
            self._drop_invalid(error)
            return None

    def record_encoded(self, body: bytes | None) -> bool:
        """Record what `encode_trigger` returned, here or in another process. Returns as `record_trigger` does.

        None, for a trigger that was dropped, and counted, returns False.

        Raises:
            InvalidTrigger: For what is neither, unless `on_invalid="drop"`.
            BufferFull: When there is no room and `overflow="raise"`.
        """
        if body is None:
            return False
        if self._refusal is not None:
            return self._refuse()
        if not isinstance(body, bytes):  # a text in a batch could not be sent, nor anything after it
            kind = type(body).__name__
            self._drop_invalid(InvalidTrigger(f"body: a {kind} should be the bytes of `encode_trigger`"))
            return False
        return self._current().buffer.put(body)

    def send_trigger(
        self,
        actor_id: Any,
        action: Any,
        obj: Any,
        identities: Any = None,
        attributes: Any = None,
        variables: Any = None,
    ) -> None:
        """Send one trigger now, around the buffer, in a single attempt. Takes what `record_trigger` takes.

        Blocks until the answer is there, at most `connect_timeout + read_timeout` (and the resolver's own time).
        Does nothing when `enabled` is off, or `before_record` returns None.

        Raises:
            InvalidTrigger: For a mistake in the arguments.
            BadRequest, BadAPIKey, ResourceNotFound, ServerError, UnknownError: As the server answered.
            ConnectionFailed: When no answer came back.
            ClientClosed: After `close`.
        """
        if self._refusal == "disabled":
            return
        if self._refusal is not None:
            raise ClientClosed("the client is closed; make a new one")
        body = self._encode(actor_id, action, obj, identities, attributes, variables)
        if body is not None:
            self._current().send_now(body)

    def _drop_invalid(self, error: InvalidTrigger) -> None:
        if self.options.on_invalid == "raise":
            raise error
        self._current().drop("invalid", detail=str(error))

    def _encode(
        self,
        actor_id: Any,
        action: Any,
        obj: Any,
        identities: Any,
        attributes: Any,
        variables: Any,
        trigger_id: str | None = None,
    ) -> bytes | None:
        """Return the trigger's JSON, or None when `before_record` kept it back."""
        if self._before_record is not None:
            values = (actor_id, action, obj, identities, attributes, variables)
            arguments = call_before_record(self._before_record, values, self._current())
            if arguments is None:
                return None
            actor_id, action, obj, identities, attributes, variables = arguments
        return self._encode_fields(
            actor_id,
            action,
            obj,
            identities,
            attributes,
            variables,
            trigger_id or self._current().next_id(),
            datetime.now(_UTC),
            self._max_trigger_bytes,
        )
