"""The client: what a user holds."""

from __future__ import annotations

import datetime
import math
import os
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from brockman import lifecycle, sigterm
from brockman.before_record import call_before_record
from brockman.exceptions import ClientClosed, ConfigurationError, InvalidTrigger
from brockman.flushing import Flushing
from brockman.host import HOST
from brockman.options import Options
from brockman.part import Hold
from brockman.pipeline import Pipeline
from brockman.sending import send_now
from brockman.stats import FlushResult, Stats
from brockman.transport import Transport
from brockman.trigger import encode_trigger

if TYPE_CHECKING:
    import requests


class FocusLabClient:
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
        self.options = Options.read({"api_key": api_key, **options}, os.environ)
        if self.options.handle_sigterm:
            sigterm.install()
        self._before_record = self.options.before_record
        self._max_trigger_bytes = self.options.max_trigger_bytes
        self._refusal = None if self.options.enabled else "disabled"  # the reason why no trigger is taken
        HOST.prepare(lifecycle.after_request, lifecycle.after_fork_of_host, lifecycle.close_last)
        self._hold = Hold()
        weakref.finalize(self, lifecycle.release, self._hold).atexit = False
        is_own = transport is not None or session is not None
        self._key = self._hold if is_own else self.options.identity
        self._pipeline = lifecycle.join(
            self._key, self._hold, lambda: Pipeline(self.options, transport, session, key=self._key)
        )

    def _current(self) -> Pipeline:
        """Return the pipeline to use: a new one in a forked child, and after the exit hook has closed one."""
        pipeline = self._pipeline
        if pipeline.mark[0] or (self._refusal is not None and not pipeline.is_foreign):
            return pipeline
        if self._refusal is None:
            self._pipeline = lifecycle.join(self._key, self._hold, pipeline.succeed)
            if pipeline.is_foreign and HOST.is_heir():  # another one's fork hook is in the place of ours
                pipeline.buffer.give_away(self._pipeline.buffer.put)
        else:
            self._pipeline = pipeline.succeed()
        return self._pipeline

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
            return self._current().refuse(self._refusal)
        pipeline = self._pipeline
        if not pipeline.mark[0]:
            pipeline = self._current()
        try:
            body: bytes | None
            if self._before_record is None:  # written out: `_encode` would be one more call for every trigger
                body = encode_trigger(
                    actor_id,
                    action,
                    obj,
                    identities,
                    attributes,
                    variables,
                    pipeline.next_id(),
                    datetime.datetime.now(datetime.timezone.utc),
                    self._max_trigger_bytes,
                )
            else:
                body = self._encode(actor_id, action, obj, identities, attributes, variables)
                pipeline = self._current()  # the hook may have forked, and this be the child
        except InvalidTrigger:
            if self.options.on_invalid == "raise":
                raise
            pipeline.drop("invalid")
            return False
        return body is not None and pipeline.buffer.put(body)

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
            send_now(self._current().transport, body)

    def _encode(
        self, actor_id: Any, action: Any, obj: Any, identities: Any, attributes: Any, variables: Any
    ) -> bytes | None:
        """Return the trigger's JSON, or None when `before_record` kept it back."""
        if self._before_record is not None:
            values = (actor_id, action, obj, identities, attributes, variables)
            arguments = call_before_record(self._before_record, values, self._current())
            if arguments is None:
                return None
            actor_id, action, obj, identities, attributes, variables = arguments
        return encode_trigger(
            actor_id,
            action,
            obj,
            identities,
            attributes,
            variables,
            self._current().next_id(),
            datetime.datetime.now(datetime.timezone.utc),
            self._max_trigger_bytes,
        )

    def flush(self, timeout: float | None = 10.0) -> FlushResult:
        """Block until everything recorded before the call is settled, or the timeout.

        Wakes the thread at once, and cuts a backoff wait short for one attempt. What other threads record
        meanwhile is not waited for. From a callback, which runs in that thread, it returns at once.

        Args:
            timeout: Seconds; None waits for as long as it takes.

        Returns:
            What happened meanwhile; true when nothing that was recorded before is pending.
        """
        return self._current().flush(_seconds(timeout))

    async def aflush(self, timeout: float | None = 10.0) -> FlushResult:
        """Do as `flush`, without blocking the event loop of `asyncio`."""
        from brockman import asynchronous

        return await asynchronous.flush(self._current(), _seconds(timeout))

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
        pipeline = self._current()
        if self._is_last_to_close():
            return pipeline.close(_seconds(timeout))
        return pipeline.flush(_seconds(timeout))

    async def aclose(self, timeout: float | None = 5.0) -> FlushResult:
        """Do as `close`, without blocking the event loop of `asyncio`."""
        from brockman import asynchronous

        pipeline = self._current()
        if self._is_last_to_close():
            return await asynchronous.close(pipeline, _seconds(timeout))
        return await asynchronous.flush(pipeline, _seconds(timeout))

    def _is_last_to_close(self) -> bool:
        self._refusal = self._refusal or "closed"
        return lifecycle.leave(self._hold)

    def stats(self) -> Stats:
        """Return a snapshot of the counts of this process and these settings. Does not block."""
        pipeline = self._pipeline
        return (self._current() if pipeline.is_foreign else pipeline).stats()

    def __enter__(self) -> FocusLabClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close within `shutdown_timeout`."""
        self.close(self.options.shutdown_timeout)

    async def __aenter__(self) -> FocusLabClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close within `shutdown_timeout`, without blocking the event loop."""
        await self.aclose(self.options.shutdown_timeout)

    def __repr__(self) -> str:
        stats = self.stats()
        return (
            f"<FocusLabClient endpoint={self.options.endpoint!r} queued={stats.queued}"
            f" in_flight={stats.in_flight} delivered={stats.delivered} rejected={stats.rejected}"
            f" dropped={sum(stats.dropped.values())}>"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a FocusLabClient cannot be pickled; make one in the process that uses it")


def _seconds(timeout: float | None) -> float:
    """Return a timeout as seconds to wait: None is infinite; less than nothing, or nan, is nothing."""
    if timeout is None:
        return math.inf
    return timeout if timeout > 0 else 0.0
