"""The settings of a Django project, each as `FL_` and its name in capitals."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from brockman.exceptions import ConfigurationError
from brockman.options import Options
from brockman.setting import PREFIX, AnySettings, Settings, choice, flag, function, setting


def _text(value: Any) -> Any:
    if value is not None and not isinstance(value, str):
        raise ValueError("a text, or None")
    return value


def _flag_or_none(value: Any) -> bool | None:
    return None if value is None else flag(value)


@dataclass(frozen=True, kw_only=True)
class DjangoSettings(Settings):
    """What only Django projects set."""

    send_in_tests: bool = setting(
        False, flag, "flag", "Send triggers in test runs too. Off: they are checked, and go nowhere."
    )
    may_track: Callable[[Any], bool] | None = setting(
        None,
        function,
        "function",
        "Called with a request; False: nothing is recorded for it and no cookie is set. A dotted path will do.",
    )
    cookie_secure: bool | None = setting(
        None, _flag_or_none, "flag", "Whether the actor's cookie is for https only. None: as the request came."
    )
    cookie_samesite: str = setting(
        "Lax",
        choice("Lax", "Strict", "None"),
        "text",
        "`SameSite` of the actor's cookie: `Lax`, `Strict`, `None`.",
    )
    cookie_domain: str | None = setting(
        None, _text, "text", "Domain of the actor's cookie, to share it among hosts. None: this host only."
    )
    stats_cache: str | None = setting(
        None, _text, "text", "Alias of a shared cache where processes leave their counts for `focuslab_stats`."
    )


class _ProjectSettings(Mapping[str, Any]):
    """Django's settings, read at each look. The dotted path of a function stands for the function."""

    _functions = frozenset(
        PREFIX + spec.name.upper()
        for table in (Options, DjangoSettings)
        for spec in fields(table)
        if spec.metadata["check"] is function
    )

    def __getitem__(self, name: str) -> Any:
        try:
            value = getattr(settings, name)
        except AttributeError:
            raise KeyError(name) from None
        if name not in self._functions or not isinstance(value, str) or not value:
            return value
        try:
            return import_string(value)
        except Exception as error:  # whatever the module raises, no page is to fail for it
            what = f"{type(error).__name__}: {error}"
            problem = f"{name} is {value!r}; it should be a function, or the dotted path of one ({what})"
        raise ConfigurationError(problem)

    def __iter__(self) -> Iterator[str]:
        return (name for name in dir(settings) if name.startswith(PREFIX))

    def __len__(self) -> int:
        return sum(1 for _ in self)


PROJECT: Mapping[str, Any] = _ProjectSettings()


def read_settings(
    table: type[AnySettings], keywords: Mapping[str, Any] | None = None, *defaults: Mapping[str, Any]
) -> AnySettings:
    """Return a table of settings: from keywords, then the project, then the environment, then `defaults`.

    Raises:
        ConfigurationError: For an unknown keyword or a wrong value.
        django.core.exceptions.ImproperlyConfigured: When the project's settings cannot be had.
    """
    return table.read(keywords or {}, PROJECT, os.environ, *defaults)
