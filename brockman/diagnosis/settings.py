"""The step `settings`: the settings that are set, where each is from, and what is odd about it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from brockman.delivery.environment import find_misspelt
from brockman.diagnosis.finding import Finding, good, problem, warning
from brockman.exceptions import ConfigurationError
from brockman.options import Options
from brockman.options.celery import CelerySettings
from brockman.options.fields import PREFIX, Settings, function, show
from brockman.options.secret import reveal
from brockman.options.table import is_loopback
from brockman.options.web import WebSettings

if TYPE_CHECKING:
    from brockman.client import FocusLabClient

STEP = "settings"
_WITHOUT = (  # a setting, another one, and the value without which the first does nothing
    ("max_spool_bytes", "spool_dir", None),
    ("spool_fsync", "spool_dir", None),
    ("block_timeout", "overflow", "block"),
)


_QUOTES = "\"'\u201c\u201d\u2018\u2019"


@dataclass(frozen=True)
class Source:
    """A place of settings.

    Attributes:
        name: How a line calls it, such as "the environment".
        values: By `FL_` and the name in capitals.
        has_paths: Whether the dotted path of a function stands for it.
    """

    name: str
    values: Mapping[str, Any]
    has_paths: bool = False


@dataclass(frozen=True)
class Setup:
    """The settings to examine.

    Attributes:
        sources: Where settings are read, the one that wins first.
        make_client: Returns a client with these settings. Called once they are right.
        tables: The settings that exist.
        more: Returns further findings about settings.
        obstacle: Returns why this process sends nothing; None if it does.
    """

    sources: Sequence[Source]
    make_client: Callable[[], FocusLabClient]
    tables: Sequence[type[Settings]] = (Options, WebSettings, CelerySettings)
    more: Callable[[], Iterable[Finding]] = tuple
    obstacle: Callable[[], Finding | None] = lambda: None

    @property
    def _mappings(self) -> list[Mapping[str, Any]]:
        return [source.values for source in self.sources]


@dataclass(frozen=True)
class _Given:
    """A setting that a source has."""

    name: str
    value: Any  # hidden
    source: Source

    @property
    def place(self) -> str:
        if self.source.name.startswith("--"):
            return self.source.name
        return f"{PREFIX}{self.name.upper()} in {self.source.name}"


def examine_settings(setup: Setup) -> Iterator[Finding]:
    """Yield what is to be seen of the settings. They can be used if no finding is a problem."""
    given = list(_find_given(setup))
    wrong = list(_find_wrong(setup, given))
    yield from wrong
    if not wrong:
        try:
            options = Options.read({}, *setup._mappings)
        except ConfigurationError as error:
            yield _name_misspelt_key(setup, given) or _explain(error)
        else:
            yield from _describe(options, given)
            if not options.enabled:
                yield problem(STEP, "enabled is off, so nothing is sent", "set FL_ENABLED to 1, or leave it out")
            yield from _find_idle(options, given)
            yield from _find_hidden(setup, given)
            yield from setup.more()
    yield from _find_empty(setup)
    yield from _find_slips(setup)
    obstacle = setup.obstacle()
    if obstacle is not None:
        yield obstacle


def _find_given(setup: Setup) -> Iterator[_Given]:
    for table in setup.tables:
        for name in table.names():
            try:
                found = table.find(name, *setup._mappings)
            except ConfigurationError:  # `_find_wrong` reports it
                continue
            if found is not None:
                place, value = found
                yield _Given(name, value, setup.sources[place])


def _find_wrong(setup: Setup, given: Sequence[_Given]) -> Iterator[Finding]:
    for table in setup.tables:
        for name in table.names():
            try:
                found = table.find(name, *setup._mappings)
                if found is not None:
                    table.check_value(name, found[1])
            except ConfigurationError as error:
                place = next((f" ({one.place})" for one in given if one.name == name), "")
                yield _find_wrapping(name, found, place) or _explain(error, place)


def _find_wrapping(name: str, found: tuple[int, Any] | None, place: str) -> Finding | None:
    """Return a finding if a wrong text is wrapped in what a .env file or a copy adds to it."""
    text = reveal(found[1]) if found else None
    if not isinstance(text, str):
        return None
    if text[:1] == "\ufeff":
        seen, advice = "begins with an invisible character (U+FEFF)", "save its file as UTF-8 without BOM"
    elif text.strip() != text:
        seen, advice = "has white space around it", "take it away"
    elif len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES:
        seen, advice = "is in quotation marks, which are a part of it", "take them away"
    else:
        return None
    return problem(STEP, f"{name} {seen}{place}", advice)


def _explain(error: ConfigurationError, place: str = "") -> Finding:
    """Return a finding about a wrong setting; the part of the message after ";" says what would be right."""
    seen, _, advice = str(error).partition("; ")
    return problem(STEP, seen + place, advice)


def _describe(options: Options, given: Sequence[_Given]) -> Iterator[Finding]:
    places = {one.name: one for one in given}
    for name in dict.fromkeys(["endpoint", "api_key", *places]):
        one = places.get(name)
        shown = _show(name, getattr(options, name, reveal(one.value) if one else None))
        seen = f"{name} {shown} ({one.place if one else 'the default'})"
        yield good(STEP, seen, setting=name, value=shown, source=one.source.name if one else "default")


def _show(name: str, value: Any) -> str:
    if name == "api_key":
        return "is set" if value is not None else "is not set"
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__name__))
    return str(value) if name == "endpoint" else show(value)


def _find_idle(options: Options, given: Sequence[_Given]) -> Iterator[Finding]:
    """Yield a warning for each setting that has no effect beside the others, or is odd."""
    for one in given:
        for name, other, needed in _WITHOUT:
            actual = getattr(options, other)
            if one.name == name and (actual is None if needed is None else actual != needed):
                wanted = other if needed is None else f"{other}={needed!r}"
                yield warning(STEP, f"{one.place} has no effect", f"it needs {wanted}, or leave it out")
        if one.name == "api_key" and _is_quoted(one.value):
            yield warning(STEP, f"{one.place} is in quotation marks, which are sent with it", "take them away")
        if one.name in CelerySettings.names() and importlib.util.find_spec("celery") is None:
            yield warning(STEP, f"{one.place} has no effect", "Celery is not installed")
    parts = urlsplit(options.endpoint)
    if options.allow_insecure and (parts.scheme == "https" or is_loopback(parts.hostname or "")):
        yield warning(STEP, "allow_insecure has no effect", "the endpoint needs none; leave it out")


def _is_quoted(value: Any) -> bool:
    text = value.reveal()
    return isinstance(text, str) and len(text) > 1 and text.strip()[:1] in "\"'" and text[:1] == text[-1:]


def _find_hidden(setup: Setup, given: Sequence[_Given]) -> Iterator[Finding]:
    """Yield a warning for each value that another source replaces. An option of the command is meant to."""
    for one in given:
        variable = PREFIX + one.name.upper()
        if one.source.name.startswith("--"):
            continue
        for later in setup.sources[setup.sources.index(one.source) + 1 :]:
            value = _value_in(later, variable)
            if value not in (None, "") and str(value) != str(reveal(one.value)):
                seen = f"{variable} in {later.name} has no effect"
                yield warning(STEP, seen, f"another value is in {one.source.name}; keep one of them")


def _value_in(source: Source, variable: str) -> Any:
    """Return what a source has for a variable; None for nothing, and for what cannot be read."""
    with suppress(ConfigurationError):
        return reveal(source.values.get(variable))
    return None


def _find_empty(setup: Setup) -> Iterator[Finding]:
    """Yield a warning for each variable that counts as not set: an empty one, or a text for a function."""
    for source in setup.sources:
        for table in setup.tables:
            for name in table.names():
                variable = f"{PREFIX}{name.upper()} in {source.name}"
                value = None if source.has_paths else _value_in(source, PREFIX + name.upper())
                if value == "":
                    yield warning(STEP, f"{variable} is empty", "it counts as not set")
                elif table is Options and isinstance(value, str) and _takes_function(name):
                    yield warning(STEP, f"{variable} has no effect", f"pass {name}=... to the client, a function")


def _takes_function(name: str) -> bool:
    return Options.__dataclass_fields__[name].metadata["check"] is function


def _name_misspelt_key(setup: Setup, given: Sequence[_Given]) -> Finding | None:
    near = next((name for name, near in _slips(setup).items() if near == "FL_API_KEY"), None)
    if near is None or any(one.name == "api_key" for one in given):
        return None
    return problem(STEP, f"FL_API_KEY is not set, and the environment has {show(near)}", "rename it to FL_API_KEY")


def _slips(setup: Setup) -> dict[str, str]:
    known = [PREFIX + name.upper() for table in setup.tables for name in table.names()]
    return find_misspelt(set(os.environ) - set(known), known)


def _find_slips(setup: Setup) -> Iterator[Finding]:
    for name, near in _slips(setup).items():
        yield warning(STEP, f"the environment has {show(name)}, which is no setting", f"did you mean {near}?")
