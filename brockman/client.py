"""The client: what a user holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from brockman.before_record import call_before_record
from brockman.exceptions import ClientClosed, ConfigurationError, FocusLabError, InvalidTrigger
from brockman.holding import Holder
from brockman.options.secret import hidden

if TYPE_CHECKING:
    import requests

    from brockman.delivery.endpoint import Lessons
    from brockman.delivery.sending import Verdict
    from brockman.options import Options
    from brockman.transport import Transport

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

        api_key = hidden(api_key)
        self._start(Options.read({"api_key": api_key, **options}, os.environ), transport, session)

    def _start(self, options: Options, transport: Transport | None, session: requests.Session | None) -> None:
        from brockman.delivery import sending  # here for the reason that `Holder` has
        from brockman.trigger import encode  # here for the reason that `Holder` has

        super().__init__(options, transport, session)
        self._sending = sending
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
        if not pipeline.mark[0]:
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
            self._sending.send_now(self._current().transport, body)

    def send_encoded(self, bodies: Sequence[bytes], lessons: Lessons) -> list[Verdict]:
        """Send what `encode_trigger` returned now, around the buffer, and return the verdict on each.

        Blocks for one attempt; see `brockman.delivery.sending.send_each`. What is not to be tried again goes to
        `give_up`.
        """
        if self._refusal is not None:
            return [self._sending.Verdict(None) for _ in bodies if not self._refuse()]
        pipeline = self._current()
        return self._sending.send_each(pipeline.transport, pipeline.ledger, bodies, lessons)

    def give_up(self, body: bytes, error: FocusLabError) -> None:
        """Count a trigger that `send_encoded` could not deliver as rejected, and tell `on_error`."""
        pipeline = self._current()
        self._sending.give_up(pipeline.ledger, pipeline.callbacks, body, error)

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
