"""Connected components. No I/O."""

from __future__ import annotations

from collections.abc import Iterable


class Components:
    """Numbers that are joined to sets. A number that was never joined is a set of its own."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    def join(self, numbers: Iterable[int]) -> None:
        """Make one set of the sets of some numbers."""
        roots = {self.find(number) for number in numbers}
        if len(roots) > 1:
            root = min(roots)
            self._parents.update(dict.fromkeys(roots, root))

    def find(self, number: int) -> int:
        """Return the number that stands for the set."""
        parents = self._parents
        root = number
        while (parent := parents.get(root, root)) != root:
            root = parent
        while number != root:
            parents[number], number = root, parents.get(number, root)
        return root

    def sets(self, numbers: Iterable[int]) -> list[set[int]]:
        """Return the sets that some numbers are in, with these numbers only."""
        found: dict[int, set[int]] = {}
        for number in numbers:
            found.setdefault(self.find(number), set()).add(number)
        return list(found.values())
