"""A value that is shown to nobody: not in a repr, a log line, a traceback's locals or a pickle."""

from __future__ import annotations

from typing import Any, NoReturn


class Secret:
    """Hold the API key. Only `reveal` gives it out, and only the transport calls that."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Check and keep a header value.

        Raises:
            ValueError: Saying what is wrong with the value, without quoting it.
        """
        if not issubclass(type(value), str):  # `isinstance` also believes a lying `__class__`
            raise ValueError(f"a text, not {type(value).__name__}")
        if not value:
            raise ValueError("a key, and not empty")
        if value != value.strip():
            raise ValueError("without white space or line breaks around it")
        if not value.isprintable():
            raise ValueError("without line breaks or control characters in it")
        try:
            value.encode("latin-1")
        except UnicodeEncodeError as error:
            problem = f"made of latin-1 characters only, and position {error.start} is none"
        else:
            self._value = value
            return
        raise ValueError(problem)  # outside the handler: the codec's error quotes the whole key

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def hide_in(self, text: str) -> str:
        """Return the text with every occurrence of the value replaced."""
        return text.replace(self._value, "<api key>")

    def __repr__(self) -> str:
        return "<api key>"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("the API key is never pickled; make the client in the process that uses it")


def hidden(value: Any) -> Any:
    """Return a key as a `Secret`, so that no frame of a traceback shows it; what cannot be one stays as it is."""
    try:
        return Secret(value)
    except ValueError:
        return value
