"""The settings of a Django project, each as `FL_` and its name in capitals."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import LazyObject
from django.utils.module_loading import import_string

from brockman.django.test_runs import in_test_run
from brockman.exceptions import ConfigurationError
from brockman.options import Options
from brockman.options.fields import PREFIX, AnySettings, Settings, flag, function, setting, show, text_or_none
from brockman.options.web import WebSettings
from brockman.process import sigterm
from brockman.web.client import report


@dataclass(frozen=True, kw_only=True)
class DjangoSettings(WebSettings):
    """The settings that Django projects have beside those of a client."""

    send_in_tests: bool = setting(
        False, flag, "flag", "Send triggers in test runs too. Off: they are checked, then discarded."
    )
    stats_cache: str | None = setting(
        None,
        text_or_none,
        "text",
        "Alias of a shared cache to which processes write their counts for `focuslab_stats`.",
    )


_FUNCTIONS = frozenset(
    PREFIX + spec.name.upper()
    for table in (Options, DjangoSettings)
    for spec in fields(table)
    if spec.metadata["check"] is function
)


class _Source(Mapping[str, Any]):
    """Settings, read at each access. A dotted path becomes its function, a lazy object what it wraps."""

    def __init__(self, read: Callable[[str], Any], names: Callable[[], Iterable[str]]) -> None:
        self._read = read
        self._names = names

    def __getitem__(self, name: str) -> Any:
        try:
            value = self._read(name)
            if isinstance(value, LazyObject) and value.__class__:  # reading its class evaluates it
                value = value._wrapped
        except (AttributeError, KeyError):
            raise KeyError(name) from None
        except ImproperlyConfigured:
            raise
        except Exception as error:  # of a value or module: no page must fail for it
            problem = f"{name}: reading it raised {type(error).__name__}"
        else:
            return _import(name, value) if name in _FUNCTIONS and isinstance(value, str) and value else value
        raise ConfigurationError(problem)  # outside the handler: the frames of its error may hold a key

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names() if name.startswith(PREFIX))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _import(name: str, path: str) -> Any:
    try:
        return import_string(path)
    except Exception as error:
        what = f"{type(error).__name__}: {show(str(error))}"
        problem = f"{name} is {show(path)}; it should be a function, or the dotted path of one ({what})"
    raise ConfigurationError(problem)


PROJECT = _Source(lambda name: getattr(settings, name), lambda: dir(settings))
ENVIRONMENT = _Source(lambda name: os.environ[name], lambda: os.environ)


def read_settings(
    table: type[AnySettings], keywords: Mapping[str, Any] | None = None, *defaults: Mapping[str, Any]
) -> AnySettings:
    """Return a table of settings: from keywords, then the project, then the environment, then `defaults`.

    Raises:
        ConfigurationError: For an unknown keyword or a wrong value.
        django.core.exceptions.ImproperlyConfigured: When the project has no settings.
    """
    return table.read(keywords or {}, PROJECT, ENVIRONMENT, *defaults)


@dataclass(frozen=True, kw_only=True)
class _Sigterm(Settings):
    handle_sigterm: bool = setting(False, flag, "flag", "As in `Options`, whatever the other settings are.")


def install_sigterm_handler() -> None:
    """Handle SIGTERM if `FL_HANDLE_SIGTERM` is on. Called in the main thread: requests may come in others.

    Where that is impossible, or the setting is wrong, nothing changes; checks and the first client report it.
    """
    with suppress(ConfigurationError):
        if read_settings(_Sigterm).handle_sigterm:
            sigterm.install()


def is_strict() -> bool:
    """Return whether mistakes raise: where `DEBUG` is on, and in test runs."""
    return bool(settings.DEBUG) or in_test_run()


def raise_or_log(error: ConfigurationError, consequence: str) -> None:
    """Raise the error where mistakes raise; elsewhere log it once, with its consequence."""
    report(error, consequence, is_strict=is_strict())
