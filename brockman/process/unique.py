"""Objects that belong to one process, such as a client."""

from __future__ import annotations

from typing import NoReturn, TypeVar

AnyUnique = TypeVar("AnyUnique", bound="Unique")


class Unique:
    """An object whose copy is itself, and which cannot be pickled."""

    def __copy__(self: AnyUnique) -> AnyUnique:
        return self

    def __deepcopy__(self: AnyUnique, memo: object) -> AnyUnique:  # of a test's class data, say
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be pickled; make one in the process that uses it")
