"""Values that nothing shows: the API key, and every setting until it is checked."""

from __future__ import annotations

import html.entities
import re
from typing import Any, NoReturn, TypeVar

AnyHidden = TypeVar("AnyHidden", bound="Hidden")


class Hidden:
    """A value that no repr, log line, traceback's locals or pickle shows. Only `reveal` returns it."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def reveal(self) -> Any:
        return self._value

    def __repr__(self) -> str:
        return "<hidden>"

    __str__ = __repr__

    def __copy__(self: AnyHidden) -> AnyHidden:
        return self

    def __deepcopy__(self: AnyHidden, memo: object) -> AnyHidden:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} is never pickled; make the client in the process that uses it")


class Secret(Hidden):
    """The API key. Only the transport calls `reveal`."""

    __slots__ = ()

    def __init__(self, value: str) -> None:
        """Check and keep a header value, without the white space around it.

        Raises:
            ValueError: With what would be right, without quoting the value.
        """
        problem = _find_problem(value)
        if problem is not None:
            del value  # a traceback may show the locals
            raise ValueError(problem)
        super().__init__(str.strip(value))

    def reveal(self) -> str:
        value: str = self._value
        return value

    def hide_in(self, text: str) -> str:
        """Return a text with `(api key)`, no markup, where the key is, also as JSON or HTML escapes it."""
        text = text.replace(self._value, "(api key)")
        if "\\" not in text and "&" not in text:
            return text
        return re.sub("".join(map(_spellings, self._value)), "(api key)", text)

    def __repr__(self) -> str:
        return "<api key>"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def _find_problem(value: Any) -> str | None:
    """Return what a key should be, without quoting the value; None when it is one."""
    if not issubclass(type(value), str):  # `isinstance` would also believe an overridden `__class__`
        return f"a str, not {type(value).__name__}"
    text = str.strip(value)
    if not text:
        return "a str that is not empty"
    if "://" in text:
        return "a key, not a URL; are api_key and endpoint in the wrong order?"
    if not text.isprintable():
        return "without line breaks or control characters"
    try:
        text.encode("latin-1")
    except UnicodeEncodeError as error:
        return f"made of Latin-1 characters, unlike the one at index {error.start}"
    return None


def hide(value: Any) -> Any:
    """Return a value that no traceback's locals show; None and hidden ones unchanged."""
    return value if value is None or issubclass(type(value), Hidden) else Hidden(value)


def hide_all(**values: Any) -> dict[str, Any]:
    return {name: hide(value) for name, value in values.items()}


def reveal(value: Any) -> Any:
    """Return what `hide` was given; a `Secret` unchanged."""
    return value.reveal() if type(value) is Hidden else value


def _spellings(character: str) -> str:
    """Return a pattern for a character of a text in JSON or HTML."""
    number = ord(character)
    names = [name for name, value in html.entities.html5.items() if value == character]
    ways = [re.escape(character), rf"\\u(?i:{number:04x})", rf"&#0*{number};?", rf"&#(?i:x0*{number:x});?"]
    ways += [re.escape("\\" + character), *(re.escape(f"&{name}") for name in names)]
    return f"(?:{'|'.join(ways)})"
