"""The client: what a user holds."""

from __future__ import annotations

import datetime
import math
import os
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from brockman import lifecycle
from brockman.exceptions import ClientClosed, ConfigurationError, InvalidTrigger
from brockman.options import Options
from brockman.pipeline import Pipeline
from brockman.stamp import make_ids
from brockman.stats import FlushResult, Stats
from brockman.transport import Transport
from brockman.trigger import encode_trigger

if TYPE_CHECKING:
    import requests

_ARGUMENTS = ("actor_id", "action", "obj", "identities", "attributes", "variables")


class FocusLabClient:
    """Record triggers without waiting for the network.

    `record_trigger` puts a trigger into a buffer; a daemon thread, started by the first one, sends what waits in
    batches and retries. All methods may be called from any thread, signal handler or finalizer.

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
            ConfigurationError: Naming the setting, its value (never the key's), and what would be right.
        """
        if transport is not None and session is not None:
            raise ConfigurationError("transport and session are both given; give one: a session is for HTTP only")
        self.options = Options.read({"api_key": api_key, **options}, os.environ)
        self._before_record = self.options.before_record
        self._max_trigger_bytes = self.options.max_trigger_bytes
        self._next_id = make_ids(os.urandom).__next__
        self._pipeline = Pipeline(self.options, transport, session)
        self._put = self._pipeline.buffer.put
        weakref.finalize(self, self._pipeline.retire).atexit = False
        # After the first `finalize`, which has an exit hook of its own: hooks run from the last to the first, and
        # once that one has run, urllib3 does not close the connections that a last delivery opens.
        lifecycle.prepare()
        lifecycle.watch(self._pipeline)

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
        if self._pipeline.refusal is not None:
            return self._pipeline.refuse()
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
                    self._next_id(),
                    datetime.datetime.now(datetime.timezone.utc),
                    self._max_trigger_bytes,
                )
            else:
                body = self._encode(actor_id, action, obj, identities, attributes, variables)
        except InvalidTrigger:
            if self.options.on_invalid == "raise":
                raise
            self._pipeline.drop("invalid")
            return False
        return body is not None and self._put(body)

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
        if self._pipeline.refusal == "disabled":
            return
        if self._pipeline.refusal is not None:
            raise ClientClosed("the client is closed; make a new one")
        body = self._encode(actor_id, action, obj, identities, attributes, variables)
        if body is not None:
            self._pipeline.send(body)

    def _encode(
        self, actor_id: Any, action: Any, obj: Any, identities: Any, attributes: Any, variables: Any
    ) -> bytes | None:
        """Return the trigger's JSON, or None when `before_record` kept it back."""
        if self._before_record is not None:
            arguments = self._after_hook(actor_id, action, obj, identities, attributes, variables)
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
            self._next_id(),
            datetime.datetime.now(datetime.timezone.utc),
            self._max_trigger_bytes,
        )

    def _after_hook(self, *values: Any) -> tuple[Any, ...] | None:
        """Return the arguments as `before_record` wants them, or None when the trigger is not to be recorded.

        A hook that raises drops the trigger: it may be there to take personal data out.
        """
        assert self._before_record is not None
        try:
            changed = self._before_record(dict(zip(_ARGUMENTS, values, strict=True)))
            if changed is not None and set(changed) <= set(_ARGUMENTS):
                return tuple(changed.get(name) for name in _ARGUMENTS)
            if changed is not None:
                raise ConfigurationError(f"before_record should return a dict with the keys {_ARGUMENTS}, or None")
        except Exception as error:
            self._pipeline.callbacks.failed("before_record", error)
            self._pipeline.drop("hook_failed")
            return None
        self._pipeline.drop("filtered")
        return None

    def flush(self, timeout: float | None = 10.0) -> FlushResult:
        """Block until everything recorded before the call is settled, or the timeout.

        Wakes the thread at once, and cuts a backoff wait short for one attempt. What other threads record
        meanwhile is not waited for. From a callback, which runs in that thread, it returns at once.

        Args:
            timeout: Seconds; None waits for as long as it takes.

        Returns:
            What happened meanwhile; true when nothing that was recorded before is pending.
        """
        return self._pipeline.flush(_seconds(timeout))

    def close(self, timeout: float | None = 5.0) -> FlushResult:
        """Flush, stop the thread, release the connections. Blocks for at most `timeout` seconds; None is for ever.

        What could not be delivered by then is counted as dropped under `shutdown`, and one line on the log says
        how many that were. Later triggers are dropped under `closed`. Closing again does nothing.

        Returns:
            What happened meanwhile; `pending` is how many were given up.
        """
        return self._pipeline.close(_seconds(timeout))

    def stats(self) -> Stats:
        """Return a snapshot of the counts. Does not block."""
        return self._pipeline.stats()

    def __enter__(self) -> FocusLabClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close within `shutdown_timeout`."""
        self.close(self.options.shutdown_timeout)

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
