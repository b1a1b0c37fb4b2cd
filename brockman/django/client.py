"""The client for Django: its options are those of the project's settings, and it knows of transactions."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.signals import setting_changed
from django.db import transaction

from brockman.client import FocusLabClient
from brockman.django.settings import DjangoSettings, read_settings
from brockman.django.strictness import is_strict, raise_or_tell
from brockman.django.test_runs import in_test_run, send_nowhere
from brockman.exceptions import ConfigurationError
from brockman.options import Options
from brockman.setting import PREFIX
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
            ConfigurationError: At the first use, where `DEBUG` is on or in a test run.
        """
        self._given = (transport, session, {"api_key": api_key, **options})

    problem: ConfigurationError | None  # what is wrong with the settings, where that does not raise

    def __getattr__(self, name: str) -> Any:
        """Read the settings, when an attribute is missed that a client has by them."""
        if name.startswith("__") or "_given" not in self.__dict__:
            raise AttributeError(name)
        # Any number of threads may come here at once: all take the attributes of the one whose line was first.
        configured = self.__dict__.setdefault("_configured", _Configured(*self._given))
        self.__dict__.update(configured.__dict__)
        _clients.add(self)
        return object.__getattribute__(self, name)

    def _forget_settings(self) -> None:
        for name in set(self.__dict__) - {"_given"}:
            self.__dict__.pop(name, None)

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
        if body is None:
            return False

        def record_encoded() -> None:
            self.record_encoded(body)

        # Robust: a full buffer under overflow="raise" is no reason to lose the callbacks that come after.
        transaction.on_commit(record_encoded, using=using, robust=True)
        return True

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
        state = (in_test_run(), bool(settings.DEBUG))
        found = _read.get(state) if keywords == _NO_KEYWORDS else None
        if found is None:
            found = _read_options(keywords)
        if keywords == _NO_KEYWORDS:
            _read[state] = found
        self.problem = found[1]
        self._start(found[0], transport, session)
        if self.problem is not None:
            self._refusal = "misconfigured"


def _read_options(keywords: dict[str, Any]) -> Read:
    try:
        sends_nowhere = in_test_run() and not read_settings(DjangoSettings).send_in_tests
        send_nowhere(on=sends_nowhere)
        defaults = {"FL_ON_INVALID": "raise" if is_strict() else "drop"}
        if sends_nowhere:
            defaults["FL_API_KEY"] = "of a test run"
        return read_settings(Options, keywords, defaults), None
    except ConfigurationError as error:
        raise_or_tell(error, "triggers are dropped as misconfigured")
        return Options(enabled=False), error


Read = tuple[Options, ConfigurationError | None]  # what was read, or what is wrong with it

_NO_KEYWORDS: dict[str, Any] = {"api_key": None}
_read: dict[tuple[bool, bool], Read] = {}  # of clients without keywords: they are made in every view
_clients: weakref.WeakSet[DjangoFocusLabClient] = weakref.WeakSet()  # those that have read the settings


def _on_setting_changed(*, setting: str, **_: Any) -> None:
    if setting.startswith(PREFIX) or setting == "DEBUG":
        _read.clear()
        for client in list(_clients):
            client._forget_settings()


setting_changed.connect(_on_setting_changed, dispatch_uid="brockman")
