"""The client for Django: its options are those of the project's settings, and it knows of transactions."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.utils import ConnectionDoesNotExist

from brockman.client import FocusLabClient
from brockman.django.settings import DjangoSettings, is_strict, raise_or_tell, read_settings
from brockman.django.test_runs import in_test_run, send_nowhere
from brockman.exceptions import ConfigurationError, InvalidTrigger
from brockman.options import Options
from brockman.options.fields import PREFIX
from brockman.options.secret import as_secret
from brockman.process.clock import monotonic
from brockman.process.fork import PerProcess
from brockman.process.log import say
from brockman.transport import Transport

if TYPE_CHECKING:
    import requests


class DjangoFocusLabClient(FocusLabClient):
    """Record triggers from Django; each option is a setting, `FL_API_KEY` for `api_key` and so on.

    The settings are read with the first use, and again when `override_settings` changes one. Making a client costs
    next to nothing: all with the same options share one buffer, one thread, one connection.

        DjangoFocusLabClient().record_trigger(request.user.pk, "viewed", "blog post")

    A trigger that is wrong, and settings that are, raise where `DEBUG` is on and in test runs. Elsewhere they are
    counted (`invalid`, `misconfigured`) and told on the log: tracking makes no page fail. `on_invalid`, when it is
    given, decides for triggers.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        transport: Transport | None = None,
        session: requests.Session | None = None,
        **options: Any,
    ) -> None:
        """Make a client; reads no setting yet.

        Args:
            api_key: The key of your project; None means the setting, or the environment.
            transport: As for `FocusLabClient`.
            session: As for `FocusLabClient`.
            **options: Every setting of `brockman.options.Options` by its name. What is not given is read from the
                project's settings, then from the environment, then the default holds.

        Raises:
            ConfigurationError: When `transport` and `session` are both given. For wrong settings at the first use,
                where `DEBUG` is on or in a test run.
        """
        if transport is not None and session is not None:
            raise ConfigurationError("transport and session are both given; give one: a session is for HTTP only")
        self._given = (transport, session, {"api_key": as_secret(api_key), **options})

    problem: ConfigurationError | None  # what is wrong with the settings, where that does not raise
    _look_again_at: float  # on the clock

    def __getattr__(self, name: str) -> Any:
        """Read the settings, when an attribute is missed that a client has by them."""
        if name not in _BY_SETTINGS or "_given" not in self.__dict__:  # a test runner's look for anything else
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        with _lock.get():
            configured = self.__dict__.get("_configured")
            if configured is None:
                configured = _Configured(*self._given)
                # It is kept: when it goes, it lets go of the pipeline.
                self.__dict__.update(configured.__dict__, _configured=configured)
                _clients.add(self)
        return configured.__dict__[name]

    def _forget_settings(self) -> None:
        with _lock.get():
            for name in (*_BY_SETTINGS, "_configured"):
                self.__dict__.pop(name, None)

    def _refuse(self) -> bool:
        refused = super()._refuse()
        if self.problem is not None and monotonic() >= self._look_again_at:  # it may have passed
            self._forget_settings()
        return refused

    def record_trigger_on_commit(
        self,
        actor_id: Any,
        action: Any,
        obj: Any,
        identities: Any = None,
        attributes: Any = None,
        variables: Any = None,
        *,
        using: str | None = None,
    ) -> bool:
        """Record a trigger when the current transaction commits, and not at all when it is rolled back.

        It is what it is at the time of this call, its time too. Outside a transaction it is recorded at once.

        Args:
            actor_id, action, obj, identities, attributes, variables: As `record_trigger` takes them.
            using: Which database's transaction; None means the default one.

        Returns:
            False when it was dropped, and counted; True when it is recorded, or will be.

        Raises:
            InvalidTrigger: As `record_trigger` does.
        """
        body = self.encode_trigger(actor_id, action, obj, identities, attributes, variables)
        return body is not None and self.on_commit(lambda: self.record_encoded(body), using)

    def on_commit(self, record: Callable[[], object], using: str | None = None) -> bool:
        """Call a function when the current transaction commits, and at once where there is none.

        Returns:
            False when there is no such database; that is counted as an invalid trigger.

        Raises:
            InvalidTrigger: For a database that there is not, as for any mistake of the caller's.
        """
        try:
            connection = connections[using or DEFAULT_DB_ALIAS]
        except ConnectionDoesNotExist:
            self._drop_invalid(InvalidTrigger(f"using: {using!r} should be one of {', '.join(connections)}"))
            return False
        # Django would connect for an answer, in a view that needs no database perhaps, or in an event loop.
        if not connection.in_atomic_block:
            record()
            return True

        def record_on_commit() -> None:
            record()

        # Robust: a full buffer under overflow="raise" is no reason to lose the callbacks that come after.
        transaction.on_commit(record_on_commit, using=using, robust=True)
        return True

    @property
    def takes_triggers(self) -> bool:
        """Whether triggers are recorded: not when `enabled` is off, the settings are wrong, or after `close`."""
        return self._refusal is None

    def count_untracked(self) -> bool:
        """Count a trigger that is not recorded since its request is not to be tracked; return False."""
        return self._current().refuse("untracked")

    def count_failure(self, name: str, error: Exception) -> None:
        """Count that a function of a setting has raised; the log says so."""
        self._current().callbacks.failed(name, error)

    def send_trigger(
        self,
        actor_id: Any,
        action: Any,
        obj: Any,
        identities: Any = None,
        attributes: Any = None,
        variables: Any = None,
    ) -> None:
        """Do as `FocusLabClient.send_trigger`; raises ConfigurationError when a setting is wrong."""
        if self.problem is not None:
            raise self.problem
        super().send_trigger(actor_id, action, obj, identities, attributes, variables)


class _Configured(FocusLabClient):
    """What the settings make of a client, read at one moment."""

    def __init__(self, transport: Transport | None, session: Any, keywords: dict[str, Any]) -> None:
        self.problem: ConfigurationError | None = None
        self._look_again_at = monotonic() + _LOOK_EVERY
        try:
            self._start(_read_options(keywords), transport, session)
        except ConfigurationError as error:
            raise_or_tell(error, "triggers are dropped as misconfigured")
            self.problem = error
            self._start(Options(enabled=False), transport, session)
            self._refusal = "misconfigured"


def _read_options(keywords: dict[str, Any]) -> Options:
    state = (in_test_run(), bool(settings.DEBUG))
    if keywords == _NO_KEYWORDS and state in _read:
        return _read[state]
    sends_nowhere = state[0] and not read_settings(DjangoSettings).send_in_tests
    send_nowhere(on=sends_nowhere)
    defaults = {"FL_ON_INVALID": "raise" if is_strict() else "drop"}
    if sends_nowhere:
        defaults["FL_API_KEY"] = "of a test run"
    options = read_settings(Options, keywords, defaults)
    if options.handle_sigterm and threading.current_thread() is not threading.main_thread():
        say(logging.WARNING, "FL_HANDLE_SIGTERM has no effect when the first trigger comes from another thread")
        options = replace(options, handle_sigterm=False)
    if keywords == _NO_KEYWORDS:
        _read[state] = options
    return options


_LOOK_EVERY = 5.0  # seconds between two looks at settings that are wrong
_BY_SETTINGS = (  # what `Holder`, `FocusLabClient` and `_Configured` set
    *("options", "problem", "_look_again_at", "_refusal", "_hold", "_key", "_pipeline"),
    *("_before_record", "_max_trigger_bytes"),
)
_NO_KEYWORDS: dict[str, Any] = {"api_key": None}
_read: dict[tuple[bool, bool], Options] = {}  # of clients without keywords: they are made in every view
_clients: weakref.WeakSet[DjangoFocusLabClient] = weakref.WeakSet()  # those that have read the settings
# Held while one of them does, which may import and so call us again. Guards `_read`, `_clients`, and the test run.
_lock: PerProcess[threading.RLock] = PerProcess(threading.RLock)


def _on_setting_changed(*, setting: str, **_: Any) -> None:
    if setting.startswith(PREFIX) or setting == "DEBUG":
        with _lock.get():
            _read.clear()
            for client in list(_clients):
                client._forget_settings()


setting_changed.connect(_on_setting_changed, dispatch_uid="brockman")
