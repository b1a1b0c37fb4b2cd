"""The removal of triggers, and of all that other parts of the store keep about them. No I/O."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from brockman.collector.store.statements import Value

if TYPE_CHECKING:
    from brockman.collector.store.base import Transaction

AT_ONCE = 5000  # triggers removed in one transaction; requests are stored in between
AT_MOST = 1_000_000  # triggers removed before the size of the store is measured again
_LOOKED_AT = 100_000  # triggers: a clock that was once ahead keeps no more than these from being removed
_NEIGHBOURS = 1000
_ROOM = 0.02  # of the size, made beyond what is needed


class Removed(NamedTuple):
    """A trigger that was removed, its texts as the columns have them."""

    arrival: int
    actor_id: str


@dataclass(frozen=True)
class Subject:
    """The ids of a person whose data is erased, and the identities, as they are in the triggers' JSON."""

    actor_ids: Collection[str]
    identities: Collection[tuple[str, str]]  # name, and the value as text
    others: Collection[str] = ()  # actor ids that keep triggers: of an identity that joins nobody

    @property
    def all_actor_ids(self) -> set[str]:
        return {*self.actor_ids, *self.others}


class Part:
    """Tables beside the triggers, which follow when triggers are removed."""

    def prune(self, before: int) -> None:
        """Remove what was received before a time, and goes with no trigger."""

    def on_removed(self, transaction: Transaction, removed: Sequence[Removed]) -> None:
        """Remove what is kept about triggers, in the transaction that removes them."""

    def on_erased(self, subject: Subject) -> dict[str, int]:
        """Remove what else is kept about a person, after the triggers; return how much of each kind."""
        return {}


def select_old(after: int, before: int) -> tuple[str, list[Value]]:
    """Return a statement that finds some of the triggers received before a time, the oldest first."""
    return (
        "SELECT arrival FROM (SELECT arrival, received_at FROM triggers WHERE arrival > ?"
        f" ORDER BY arrival LIMIT {_LOOKED_AT}) AS oldest WHERE received_at < ? LIMIT {AT_ONCE}",
        [after, before],
    )


def select_moment(number: int) -> tuple[str, list[Value]]:
    """Return a statement for the time before which about that many triggers were received.

    It is the earliest of a thousand neighbours: one of them may have come when a clock was ahead.
    """
    return (
        "SELECT min(received_at) FROM"
        f" (SELECT received_at FROM triggers ORDER BY arrival LIMIT {_NEIGHBOURS} OFFSET ?) AS neighbours",
        [number],
    )


def excess(triggers: int, used: int, allowed: int) -> int:
    """Return how many of the triggers to remove next, so that the rest fits into a number of bytes."""
    if used <= allowed:
        return 0
    share = 1 - allowed * (1 - _ROOM) / used
    return min(triggers, AT_MOST, math.ceil(triggers * share))
