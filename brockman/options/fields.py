"""Settings: dataclass fields, each declared once with its default, unit, meaning and check.

The keyword, the environment variable, the Django setting and the table in the documentation are derived from it.
No I/O: the environment is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from brockman.exceptions import ConfigurationError
from brockman.options.secret import hide, hide_all, reveal

PREFIX = "FL_"  # of environment variables and Django settings
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_LONGEST_SHOWN = 200  # characters of a value, in a message

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


def text_or_none(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError("a text, or None")
    return value or None


def function(value: Any) -> Any:
    if value is not None and not callable(value):
        raise ValueError("a function, or None")
    return value


def show(value: Any) -> str:
    """Return a repr for a message: on one line, shortened, without control characters."""
    try:
        text = repr(value)
    except Exception:  # foreign code, or an int of thousands of digits
        return f"a value of type {type(value).__name__}"
    if len(text) > _LONGEST_SHOWN:
        text = f"{text[:_LONGEST_SHOWN]}..."
    return printable(text)


def printable(text: str) -> str:
    """Return a text with its control and bidirectional characters escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def setting(default: Any, check: Check, unit: str, doc: str, *, shown: Callable[[Any], str] = show) -> Any:
    """Return a field of `Settings`; `unit` is that of a number, else the kind of value.

    `shown` returns what a message says of a wrong value.
    """
    return field(default=default, metadata={"check": check, "unit": unit, "doc": doc, "shown": shown})


class _Hiding(type):
    """Hides the values from which an instance is made: a traceback shows the locals of `__init__`."""

    def __call__(cls, **values: Any) -> Any:
        values = hide_all(**values)
        return super().__call__(**values)


@dataclass(frozen=True, kw_only=True)
class Settings(metaclass=_Hiding):
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
        value, metadata = hide(value), cls.__dataclass_fields__[name].metadata
        try:
            return metadata["check"](reveal(value))
        except ValueError as error:
            problem = f"it should be {error}"
        except Exception as error:  # a value that runs foreign code
            problem = f"reading it raised {type(error).__name__}"
        raise ConfigurationError(f"{name} is {metadata['shown'](reveal(value))}; {problem}")

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
        keywords = hide_all(**keywords)
        values = cls._read_sources(sources)
        del sources  # the environment has the key too
        known = cls.names()
        for name in keywords:
            if name not in known:
                import difflib

                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else "the options are: " + ", ".join(known)
                raise ConfigurationError(f"unknown option {show(name)}; {hint}")
        for name, value in keywords.items():
            if value is not None or name not in ("api_key", "endpoint"):
                values[name] = value
        return cls(**values)

    @classmethod
    def _read_sources(cls, sources: tuple[Mapping[str, Any], ...]) -> dict[str, Any]:
        found = {name: cls.find(name, *sources) for name in cls.names()}
        return {name: place_and_value[1] for name, place_and_value in found.items() if place_and_value is not None}

    @classmethod
    def find(cls, name: str, *sources: Mapping[str, Any]) -> tuple[int, Any] | None:
        """Return the number of the first source that sets a setting, and the hidden value; None if none does."""
        check = cls.__dataclass_fields__[name].metadata["check"]
        for number, source in enumerate(sources):
            value = hide(source.get(PREFIX + name.upper()))
            if _is_set(value, check):
                return number, value
        return None


def _is_set(value: Any, check: Check) -> bool:
    """Return whether a hidden value of a source counts: an empty text does not, nor the name of a function."""
    return value is not None and not (
        issubclass(type(reveal(value)), str) and (check is function or not reveal(value))
    )
