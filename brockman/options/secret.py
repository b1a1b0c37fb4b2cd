"""The API key, which no repr, log line, traceback's locals or pickle shows."""

from __future__ import annotations

from typing import Any, NoReturn


class Secret:
    """The API key. Only `reveal` returns it, and only the transport calls that."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Check and keep a header value.

        Raises:
            ValueError: With what would be right, without quoting the value.
        """
        problem = None
        if not issubclass(type(value), str):  # `isinstance` would also believe an overridden `__class__`
            problem = f"a str, not {type(value).__name__}"
        elif not value:
            problem = "a str that is not empty"
        elif value != value.strip():
            problem = "without white space or line breaks around it"
        elif not value.isprintable():
            problem = "without line breaks or control characters"
        else:
            try:
                value.encode("latin-1")
            except UnicodeEncodeError as error:
                problem = f"made of Latin-1 characters, unlike the one at index {error.start}"
        if problem is not None:
            raise ValueError(problem)  # outside the handler: the codec's error quotes the whole key
        self._value = value

    def reveal(self) -> str:
        return self._value

    def hide_in(self, text: str) -> str:
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


def as_secret(value: Any) -> Any:
    """Return a key as a `Secret`, so that no traceback's locals show it; return an invalid key unchanged."""
    try:
        return Secret(value)
    except ValueError:
        return value
