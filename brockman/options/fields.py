"""Settings: dataclass fields, each declared once with its default, unit, meaning and check.

The keyword, the environment variable, the Django setting and the table in the documentation are derived from it.
No I/O: the environment is passed in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from brockman.exceptions import ConfigurationError
from brockman.options.secret import as_secret

PREFIX = "FL_"  # of environment variables and Django settings
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")

Check = Callable[[Any], Any]  # returns the value to store, or raises ValueError(what would be right)
AnySettings = TypeVar("AnySettings", bound="Settings")


def number(low: float, high: float, *, whole: bool, above: bool = False) -> Check:
    """Return a check for a number, or its text, from `low` (included unless `above`) to `high`."""
    bound = "above" if above else "of at least"
    expected = f"a {'whole ' if whole else ''}number {bound} {low:_.0f} and at most {high:_.0f}"

    def check(value: Any) -> Any:
        if isinstance(value, str):
            with suppress(ValueError):
                value = int(value) if whole else float(value)
        is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not is_number or not low <= value <= high or (above and value == low):  # nan too
            raise ValueError(expected)
        return value if whole else float(value)

    return check


def flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = value.strip().lower() if isinstance(value, str) else ""
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError("True or False (in the environment: 1, true, yes, on, 0, false, no, off)")


def choice(*names: str) -> Check:
    def check(value: Any) -> str:
        if value not in names:
            raise ValueError("one of " + ", ".join(map(repr, names)))
        return str(value)

    return check


def function(value: Any) -> Any:
    if value is not None and not callable(value):
        raise ValueError("a function, or None")
    return value


def setting(default: Any, check: Check, unit: str, doc: str, *, secret: bool = False) -> Any:
    """Return a field of `Settings`; `unit` is that of a number, else the kind of value.

    Messages do not show the value of a `secret` one.
    """
    return field(default=default, metadata={"check": check, "unit": unit, "doc": doc, "secret": secret})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of the tables of settings: each field is made by `setting`, and checked when an instance is made."""

    def __post_init__(self) -> None:
        for name in self.names():
            object.__setattr__(self, name, self.check_value(name, getattr(self, name)))

    @classmethod
    def check_value(cls, name: str, value: Any) -> Any:
        """Return the value to store for a setting.

        Raises:
            ConfigurationError: With the setting, its value unless that is secret, and what would be right.
        """
        metadata = cls.__dataclass_fields__[name].metadata
        try:
            return metadata["check"](value)
        except ValueError as error:
            problem = f"it should be {error}"
        except Exception as error:  # a value that runs foreign code
            problem = f"reading it raised {type(error).__name__}"
        raise ConfigurationError(f"{name} is {_shown(value, secret=metadata['secret'])}; {problem}")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the name of every setting, in the order of the table."""
        return tuple(spec.name for spec in fields(cls))

    @classmethod
    def read(cls: type[AnySettings], keywords: Mapping[str, Any], *sources: Mapping[str, Any]) -> AnySettings:
        """Return the settings in keywords and sources; keywords win, then the earlier source.

        Sources, such as `os.environ`, have values by `FL_` and the name in capitals. Not set are: None, an empty
        string, and a string for a setting that takes a function; in keywords, None for `api_key` or `endpoint`.

        Raises:
            ConfigurationError: For an unknown keyword or a wrong value.
        """
        values = cls._read_sources(sources)
        del sources  # keeps the environment out of the locals that a traceback may show
        known = cls.names()
        for name in keywords:
            if name not in known:
                import difflib

                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else "the options are: " + ", ".join(known)
                raise ConfigurationError(f"unknown option {name!r}; {hint}")
        for name, value in keywords.items():
            if value is not None or name not in ("api_key", "endpoint"):
                values[name] = value
        return cls(**values)

    @classmethod
    def _read_sources(cls, sources: tuple[Mapping[str, Any], ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for spec in fields(cls):
            for source in sources:
                value = source.get(PREFIX + spec.name.upper())
                value = as_secret(value) if spec.metadata["secret"] else value
                if value not in (None, "") and not (spec.metadata["check"] is function and isinstance(value, str)):
                    values[spec.name] = value
                    break
        return values


def _shown(value: Any, *, secret: bool) -> str:
    if secret:
        return "not usable"
    try:
        # Without a password in a URL.
        return re.sub("//[^/]*@", "//...@", repr(value)[:200])
    except Exception:  # foreign code, or an int of thousands of digits
        return f"a value of type {type(value).__name__}"
