"""The client: what a user calls."""

from __future__ import annotations

import weakref
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, overload

from brockman import contexts
from brockman.compatible import Compatible
from brockman.delivery.closing import Closing
from brockman.delivery.reading import WithGroups
from brockman.exceptions import ClientClosed, ConfigurationError, InvalidTrigger
from brockman.process import log_thread, registry, sigterm
from brockman.process.registry import Lease
from brockman.process.unique import Unique
from brockman.process.uwsgi import UWSGI

if TYPE_CHECKING:
    from uuid import UUID

    import requests
    from typing_extensions import Unpack  # in `typing` from Python 3.11 on

    from brockman.delivery.pipeline import Pipeline
    from brockman.options import ClientOptions, Options
    from brockman.stats import Stats
    from brockman.transport import Transport
    from brockman.trigger.arguments import Actor, Arguments, Rest, Text, Values

_UTC = timezone.utc


class FocusLabClient(Unique, Closing, WithGroups, Compatible):
    """Records triggers without waiting for the network.

    `record_trigger` puts a trigger into a buffer; a daemon thread, started by the first one, sends the buffer in
    batches, and retries. Every method may be called from any thread, signal handler or finalizer, and in a forked
    child, which starts with an empty buffer. Clients with equal settings share one buffer, one thread and one
    connection pool, so it costs little to make one where it is needed.

        client = FocusLabClient(api_key="...")
        client.record_trigger(actor_id=user.id, action="viewed", obj="blog post")
    """

    _problem: ConfigurationError | None = None  # in Django, where wrong settings do not raise

    def __init__(
        self,
        api_key: str | None = None,
        endpoint: str | None = None,
        *,
        transport: Transport | None = None,
        session: requests.Session | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        """Open no connection, start no thread. The first client imports `requests`.

        Args:
            api_key: The key of your project; None means `FL_API_KEY` from the environment.
            endpoint: The URL of the API; None means `FL_ENDPOINT` from the environment, or FocusLab's.
            transport: Sends instead of HTTP, such as `brockman.transport.memory.MemoryTransport()`; needs no key.
            session: A `requests.Session` to send with, for its adapters, certificates, proxies and headers.
            **options: Settings of `brockman.options.Options`. One that is not given is read from the environment
                (`FL_FLUSH_INTERVAL` for `flush_interval`), or has its default.

        Raises:
            ConfigurationError: For a wrong setting, with its name, its value (never the key's) and what would be
                right; for `handle_sigterm` outside the main thread; for a transport together with a session.
        """
        from brockman.options.secret import hide_all  # not at the top: importing this module stays cheap

        keywords = hide_all(api_key=api_key, endpoint=endpoint, **options)
        del api_key, endpoint, options  # each may be meant as the key, and a traceback may show the locals
        if transport is not None and session is not None:
            raise ConfigurationError("transport and session are both given; give one: a session is for HTTP only")
        self._configure(keywords, transport, session)

    def _configure(
        self, keywords: dict[str, Any], transport: Transport | None, session: requests.Session | None
    ) -> None:
        from brockman.delivery.environment import read_options

        self._open(read_options(keywords, needs_key=transport is None), transport, session)

    def _open(
        self, options: Options, transport: Transport | None = None, session: requests.Session | None = None
    ) -> None:
        from brockman.delivery.defaults import default_variables
        from brockman.delivery.pipeline import Pipeline
        from brockman.trigger.arguments import apply_hook
        from brockman.trigger.coerce import coerce_stamp
        from brockman.trigger.encode import encode_trigger

        if options.handle_sigterm:
            sigterm.install()
        self._options = options
        self._refusal = None if options.enabled else "disabled"  # the reason under which triggers are dropped
        self._encode_arguments = encode_trigger
        self._coerce_stamp = coerce_stamp
        hook = options.before_record
        self._before_record = None if hook is None else partial(apply_hook, hook)
        self._default_variables = default_variables(options)
        self._is_extended = hook is not None or self._default_variables is not None
        self._max_trigger_bytes = options.max_trigger_bytes
        self._lease = Lease()
        self._blocks = 0  # `with` blocks that were entered and not left
        weakref.finalize(self, registry.release_collected, self._lease).atexit = False
        is_own = transport is not None or session is not None
        self._key = self._lease if is_own else options.identity
        self._pipeline = registry.acquire(
            self._key, self._lease, lambda: Pipeline(options, transport, session, key=self._key)
        )

    @property
    def options(self) -> Options:
        """The settings. The key in them is hidden."""
        return self._options

    @overload
    def record_trigger(
        self,
        actor_id: Actor,
        action: Text,
        obj: Text,
        identities: Values | None = ...,
        attributes: Values | None = ...,
        variables: Values | None = ...,
        *,
        at: datetime | None = ...,
        trigger_id: UUID | str | None = ...,
    ) -> bool: ...
    @overload
    def record_trigger(self, *, action: Text, obj: Text, **rest: Unpack[Rest]) -> bool: ...
    def record_trigger(
        self,
        actor_id: Any = None,
        action: Any = None,
        obj: Any = None,
        identities: Values | None = None,
        attributes: Values | None = None,
        variables: Values | None = None,
        *,
        at: datetime | None = None,
        trigger_id: UUID | str | None = None,
    ) -> bool:
        """Record that an actor did something to an object. Does no I/O, and does not block (but see `overflow`).

        Args:
            actor_id: Who did it: a str, int or UUID. Left out: the actor of the `brockman.context` or request.
            action: What was done: a str such as "viewed".
            obj: To what: a str such as "blog post".
            identities: What else identifies the actor, such as {"email": ...}; None for nothing.
            attributes: Properties of the actor, such as {"plan": ...}; None for nothing.
            variables: Properties of this trigger, such as {"title": ...}; None for nothing.
                All three map str to str, int, float, bool, or lists of these. UUID, date, datetime, Decimal, Enum
                and lazy text are converted; a key whose value is None is left out.
            at: When it was done: a datetime with a time zone, from 1970 to a day ahead; None for now.
            trigger_id: Its id, a UUID or its text; None for a new one. The server keeps one trigger of each id.

        Returns:
            True when the trigger is buffered. False when it was dropped, and counted in `stats().dropped`.

        Raises:
            InvalidTrigger: For a mistake in the arguments, unless `on_invalid` says to drop it.
            BufferFull: When the buffer is full and `overflow="raise"`.
        """
        pipeline = self._pipeline
        if self._refusal is not None or not pipeline.fork_flag[0]:
            if self._refuses():
                return False
            pipeline = self._current()
        try:
            if self._is_extended or at is not None or trigger_id is not None:
                body = self._encode((actor_id, action, obj, identities, attributes, variables), at, trigger_id)
                pipeline = self._current()  # the hook may have forked, and this be the child
            else:  # written out: `_encode` would be one more call for every trigger
                context = contexts.get()
                if context is not None:
                    filled = context.fill(actor_id, identities, attributes, variables)
                    if filled is None:
                        return self._current().refuse("untracked")
                    actor_id, identities, attributes, variables = filled
                    pipeline = self._current()  # `may_track` may have forked, and this be the child
                new_id, now, limit = pipeline.next_id(), datetime.now(_UTC), self._max_trigger_bytes
                body = self._encode_arguments(
                    actor_id, action, obj, identities, attributes, variables, new_id, now, limit
                )
        except InvalidTrigger as error:
            self._drop_invalid(error)
            return False
        return body is not None and pipeline.buffer.put(body)

    @overload
    def encode_trigger(
        self,
        actor_id: Actor,
        action: Text,
        obj: Text,
        identities: Values | None = ...,
        attributes: Values | None = ...,
        variables: Values | None = ...,
        *,
        at: datetime | None = ...,
        trigger_id: UUID | str | None = ...,
    ) -> bytes | None: ...
    @overload
    def encode_trigger(self, *, action: Text, obj: Text, **rest: Unpack[Rest]) -> bytes | None: ...
    def encode_trigger(
        self,
        actor_id: Any = None,
        action: Any = None,
        obj: Any = None,
        identities: Values | None = None,
        attributes: Values | None = None,
        variables: Values | None = None,
        *,
        at: datetime | None = None,
        trigger_id: UUID | str | None = None,
    ) -> bytes | None:
        """Return a trigger as JSON, to pass to `record_encoded` later or in another process. Does not block.

        Takes what `record_trigger` takes, and raises InvalidTrigger as it does. Values and timestamp are captured
        now.

        Returns:
            None when the trigger was dropped, and counted in `stats().dropped`.
        """
        if self._refuses():
            return None
        try:
            return self._encode((actor_id, action, obj, identities, attributes, variables), at, trigger_id)
        except InvalidTrigger as error:
            self._drop_invalid(error)
            return None

    def record_encoded(self, body: bytes | None) -> bool:
        """Record what `encode_trigger` returned. Does not block (but see `overflow`).

        Returns:
            True when the trigger is buffered. False when it was dropped, and for None, which was counted before.

        Raises:
            InvalidTrigger: For anything that `encode_trigger` does not return, unless `on_invalid="drop"`.
            BufferFull: When the buffer is full and `overflow="raise"`.
        """
        from brockman.trigger.encode import check_encoded

        if body is None:
            return False
        if self._refuses():
            return False
        try:
            check_encoded(body, self.options.max_trigger_bytes)
        except InvalidTrigger as error:
            self._drop_invalid(error)
            return False
        return self._current().buffer.put(body)

    @overload
    def send_trigger(
        self,
        actor_id: Actor,
        action: Text,
        obj: Text,
        identities: Values | None = ...,
        attributes: Values | None = ...,
        variables: Values | None = ...,
        *,
        at: datetime | None = ...,
        trigger_id: UUID | str | None = ...,
    ) -> None: ...
    @overload
    def send_trigger(self, *, action: Text, obj: Text, **rest: Unpack[Rest]) -> None: ...
    def send_trigger(
        self,
        actor_id: Any = None,
        action: Any = None,
        obj: Any = None,
        identities: Values | None = None,
        attributes: Values | None = None,
        variables: Values | None = None,
        *,
        at: datetime | None = None,
        trigger_id: UUID | str | None = None,
    ) -> None:
        """Send one trigger now, around the buffer, in a single attempt. Takes what `record_trigger` takes.

        Blocks until the answer is there, for at most `connect_timeout + read_timeout` seconds and the time of the
        DNS look-up. Does nothing if `enabled` is off, `before_record` returns None, or a handler of our log calls.

        Raises:
            InvalidTrigger: For a mistake in the arguments.
            BadRequest, BadAPIKey, ResourceNotFound, ServerError, UnknownError: As the server answered.
            ConnectionFailed: When no answer came back.
            ClientClosed: After `close`.
            ConfigurationError: In Django, when a setting is wrong.
        """
        if self._refusal == "disabled" or log_thread.is_writing():
            return
        if self._refusal is not None:
            raise self._problem or ClientClosed("the client is closed; make a new one, or open it again by `with`")
        body = self._encode((actor_id, action, obj, identities, attributes, variables), at, trigger_id)
        if body is not None:
            self._current().send_now(body)

    def _is_last_to_close(self) -> bool:
        self._refusal = self._refusal or "closed"
        return registry.release(self._lease)

    def _enter_block(self) -> None:
        with registry.current().lock:  # a block that another thread leaves closes the client before, or not at all
            self._blocks += 1
            if self._refusal != "closed":
                return
            self._refusal = None
        self._pipeline = registry.acquire(self._key, self._lease, self._pipeline.replacement)

    def _leave_block(self) -> bool:
        """Return whether the caller is to close the pipeline."""
        with registry.current().lock:
            self._blocks = max(0, self._blocks - 1)
            return not self._blocks and self._is_last_to_close()

    def stats(self) -> Stats:
        """Return a snapshot of the counts of this process for these settings. Does not block."""
        pipeline = self._pipeline
        return (self._current() if pipeline.is_inherited else pipeline).stats()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._describe()}>"

    def _describe(self) -> str:
        if "_pipeline" not in vars(self):  # in a traceback of what made its `__init__` fail
            return "not in use yet"
        stats = self.stats()
        return (
            f"endpoint={self.options.endpoint!r} queued={stats.queued} in_flight={stats.in_flight}"
            f" delivered={stats.delivered} rejected={stats.rejected} dropped={sum(stats.dropped.values())}"
        )

    def _current(self) -> Pipeline:
        """Return the pipeline to use: a new one in a forked child, and after the exit hook has closed one."""
        pipeline = self._pipeline
        if pipeline.is_registered or (self._refusal is not None and not pipeline.is_inherited):
            return pipeline
        if self._refusal is not None:
            self._pipeline = pipeline.replacement()
            return self._pipeline
        self._pipeline = registry.acquire(self._key, self._lease, pipeline.replacement)
        if pipeline.is_inherited and UWSGI.is_first_worker():  # another fork hook has replaced ours
            pipeline.buffer.transfer_to_child(self._pipeline.buffer.put)
        return self._pipeline

    def _refuses(self) -> bool:
        """Return whether no trigger is taken now, after counting it as dropped."""
        reason = self._refusal or ("own_log" if log_thread.is_writing() else None)
        return reason is not None and not self._current().refuse(reason)

    def _drop_invalid(self, error: InvalidTrigger) -> None:
        mode = self.options.on_invalid
        if mode == "raise" or (mode == "auto" and not contexts.is_safe()):
            raise error
        self._current().drop("invalid", detail=str(error))

    def _encode(
        self, arguments: Arguments, at: datetime | None = None, trigger_id: UUID | str | None = None
    ) -> bytes | None:
        """Return the trigger's JSON; None when `before_record` drops it."""
        own_id, moment = self._coerce_stamp(trigger_id, at, datetime.now(_UTC))
        filled = contexts.fill(arguments, self._default_variables)
        pipeline = self._current()  # `may_track` may have forked, and this be the child
        if filled is None:
            pipeline.refuse("untracked")
            return None
        arguments = filled
        if self._before_record is not None:
            try:
                changed = self._before_record(arguments)
            except Exception as error:
                pipeline.callbacks.failed("before_record", error)
                pipeline.drop("hook_failed")  # not recorded as it was: the hook may take personal data out
                return None
            if changed is None:
                pipeline.drop("filtered")
                return None
            arguments, pipeline = changed, self._current()  # the hook may have forked, and this be the child
        return self._encode_arguments(*arguments, own_id or pipeline.next_id(), moment, self._max_trigger_bytes)
