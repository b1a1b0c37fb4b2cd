"""The client for Django: takes its options from the project's settings, and waits for transactions."""

from __future__ import annotations

import logging
import signal
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, overload

from django.conf import settings
from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.utils import ConnectionDoesNotExist

from brockman.client import FocusLabClient
from brockman.delivery.environment import warn_of_misspelt
from brockman.django.settings import DjangoSettings, is_strict, read_settings
from brockman.django.test_runs import in_test_run, send_nowhere
from brockman.exceptions import ConfigurationError, InvalidTrigger
from brockman.options import Options
from brockman.options.fields import PREFIX, show
from brockman.options.table import KeylessOptions
from brockman.process import sigterm
from brockman.process.fork import PerProcess
from brockman.process.log import say
from brockman.web.client import SafeClient

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    import requests
    from typing_extensions import Unpack

    from brockman.delivery.pipeline import Pipeline
    from brockman.stats import Stats
    from brockman.transport import Transport
    from brockman.trigger.arguments import Actor, Arguments, Rest, Text, Values


class DjangoFocusLabClient(FocusLabClient):
    """Records triggers from Django. Each option is a setting: `FL_API_KEY` for `api_key`, and so on.

    The settings are read at the first use, and again when `override_settings` changes one. Making a client costs
    next to nothing: all with the same options share one buffer, one thread, one connection pool.

        DjangoFocusLabClient().record_trigger(request.user.pk, "viewed", "blog post")

    Takes what `FocusLabClient` takes. What is not given is read from the project's settings, then from the
    environment, or has its default.

    Invalid triggers, and wrong settings at the first use, raise where `DEBUG` is on and in test runs. Elsewhere
    they are counted (`invalid`, `misconfigured`) and logged: tracking makes no page fail. `on_invalid` decides for
    triggers when it is given.
    """

    _configured: SafeClient | None = None  # made at the first use; also read by the repr of a failed `__init__`

    def _configure(
        self, keywords: dict[str, Any], transport: Transport | None, session: requests.Session | None
    ) -> None:
        self._given = (keywords, transport, session)

    def _client(self) -> SafeClient:
        """Return the client that has the settings. It is made at the first use, and when they have changed."""
        client = self._configured
        if client is None or (client._problem is not None and client.is_outdated()):
            with _lock.get():
                client = self._configured
                if client is None or client.is_outdated():
                    client = self._configured = _make_client(*self._given)
                    _clients.add(self)
        return client

    @property
    def options(self) -> Options:
        """The settings. Reads them at the first use. The key in them is hidden."""
        return self._client().options

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
        """See `FocusLabClient.record_trigger`."""
        return self._client().record_trigger(
            actor_id,
            action,
            obj,
            identities,
            attributes,
            variables,
            at=at,
            trigger_id=trigger_id,
        )

    @overload
    def record_trigger_on_commit(
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
        using: str | None = ...,
    ) -> bool: ...
    @overload
    def record_trigger_on_commit(
        self, *, action: Text, obj: Text, using: str | None = ..., **rest: Unpack[Rest]
    ) -> bool: ...
    def record_trigger_on_commit(
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
        using: str | None = None,
    ) -> bool:
        """Record a trigger when the current transaction commits, and not at all when it is rolled back.

        Values and timestamp are captured now. Outside a transaction it is recorded at once.

        Args:
            actor_id, action, obj, identities, attributes, variables, at, trigger_id: See `record_trigger`.
            using: The alias of the database whose transaction it is; None means the default one.

        Returns:
            False when it was dropped, and counted; True when it is recorded, or will be.

        Raises:
            InvalidTrigger: As `record_trigger` does, and for a database that does not exist.
        """
        body = self.encode_trigger(
            actor_id,
            action,
            obj,
            identities,
            attributes,
            variables,
            at=at,
            trigger_id=trigger_id,
        )
        return body is not None and self._on_commit(lambda: self.record_encoded(body), using)

    def _on_commit(self, record: Callable[[], Any], using: str | None = None) -> bool:
        """Call a function when the current transaction commits, and at once where there is none.

        Returns False for a database that does not exist, and counts that as an invalid trigger, or raises it.
        """
        try:
            connection = connections[using or DEFAULT_DB_ALIAS]
        except ConnectionDoesNotExist:
            self._drop_invalid(InvalidTrigger(f"using: {show(using)} should be one of {', '.join(connections)}"))
            return False
        # `transaction.on_commit` would connect to find out, perhaps in a view that needs no database, or in an
        # event loop.
        if not connection.in_atomic_block:
            record()
            return True

        # Robust: BufferFull under overflow="raise" must not skip the callbacks after this one.
        transaction.on_commit(record, using=using, robust=True)
        return True

    def stats(self) -> Stats:
        """See `FocusLabClient.stats`."""
        return self._client().stats()

    def _describe(self) -> str:
        return "not in use yet" if self._configured is None else self._configured._describe()

    # The inherited methods work on the configured client.

    def _current(self) -> Pipeline:
        return self._client()._current()

    @property
    def _refusal(self) -> str | None:  # type: ignore[override]
        return self._client()._refusal

    def _encode(
        self, arguments: Arguments, at: datetime | None = None, trigger_id: UUID | str | None = None
    ) -> bytes | None:
        return self._client()._encode(arguments, at, trigger_id)

    def _is_last_to_close(self) -> bool:
        return self._client()._is_last_to_close()

    def _enter_block(self) -> None:
        self._client()._enter_block()

    def _leave_block(self) -> bool:
        return self._client()._leave_block()

    @property
    def _problem(self) -> ConfigurationError | None:  # type: ignore[override]
        return self._client()._problem


def _make_client(
    keywords: dict[str, Any], transport: Transport | None, session: requests.Session | None
) -> SafeClient:
    read = partial(_read_options, keywords, needs_key=transport is None)
    return SafeClient(read, is_strict=is_strict, transport=transport, session=session)


def _read_options(keywords: dict[str, Any], *, needs_key: bool) -> Options:
    state = (in_test_run(), bool(settings.DEBUG), needs_key)
    if keywords == _NO_KEYWORDS and state in _read:
        return _read[state]
    warn_of_misspelt()
    sends_nowhere = state[0] and not read_settings(DjangoSettings).send_in_tests
    send_nowhere(on=sends_nowhere)
    defaults = {"FL_ON_INVALID": "raise" if is_strict() else "drop"}
    if sends_nowhere:
        defaults["FL_API_KEY"] = "of a test run"
    options = read_settings(Options if needs_key else KeylessOptions, keywords, defaults)
    if options.handle_sigterm:
        try:
            sigterm.install()
        except ConfigurationError:
            if sigterm.handler() is signal.SIG_DFL:
                problem = "FL_HANDLE_SIGTERM has no effect when the first trigger comes from another thread"
                say(logging.WARNING, f"{problem}; add 'brockman.django' to INSTALLED_APPS")
            options = replace(options, handle_sigterm=False)
    if keywords == _NO_KEYWORDS:
        _read[state] = options
    return options


_NO_KEYWORDS: dict[str, Any] = {"api_key": None, "endpoint": None}
_read: dict[
    tuple[bool, bool, bool], Options
] = {}  # for clients without keywords, which views make for each request
_clients: weakref.WeakSet[DjangoFocusLabClient] = weakref.WeakSet()  # those that have read the settings
# Guards `_read`, `_clients` and the state of the test run. Re-entrant: reading settings may import what uses a
# client.
_lock: PerProcess[threading.RLock] = PerProcess(threading.RLock)


def _on_setting_changed(*, setting: str, **_: Any) -> None:
    if setting.startswith(PREFIX) or setting == "DEBUG":
        with _lock.get():
            _read.clear()
            for client in list(_clients):
                client._configured = None


setting_changed.connect(_on_setting_changed, dispatch_uid="brockman")
