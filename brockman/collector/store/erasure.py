"""Erases what is stored about a person: triggers, and what other parts of the store keep."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from brockman.collector import strict_json
from brockman.collector.store.base import Store
from brockman.collector.store.pruning import AT_ONCE, Subject
from brockman.collector.store.statements import NEWEST, Value, in_body

MAX_ACTORS = 200  # an identity of more is nobody's in particular
_OVERWRITE_TIMEOUT = 10.0  # seconds

# Returns the actor ids that are joined by an identity; None if it joins nobody.
FindActors = Callable[[str, str], Collection[str] | None]
# Returns those of some identities that are one person's, if they are anybody's.
OnlyJoining = Callable[[Collection[tuple[str, str]]], Collection[tuple[str, str]]]


@dataclass(slots=True)
class Erased:
    """Counts of what was erased, or would be."""

    triggers: int = 0
    actor_ids: set[str] = field(default_factory=set)  # of these triggers
    identities: set[tuple[str, str]] = field(default_factory=set)  # in these triggers
    others: dict[str, int] = field(default_factory=dict)  # by the parts of the store
    is_overwritten: bool = False  # the files of the database have nothing of it any more


@dataclass(frozen=True, slots=True)
class _Match:
    """The ids and the identity of a person, one of which a trigger has."""

    actor_ids: frozenset[str]
    identity: tuple[str, str] | None

    def holds(self, actor_id: str, identities: Collection[tuple[str, str]]) -> bool:
        return actor_id in self.actor_ids or self.identity in identities


class Erasure:
    """Finds and erases the triggers of an actor id, or those of the person with an identity.

    The person has the actor ids that `find_actors` returns, and those whose triggers have the identity; of more
    than `max_actors` none is the person's. In any case all triggers that have the identity are erased. The store
    is read in steps, so that large ones need no long transaction.
    """

    def __init__(
        self,
        store: Store,
        find_actors: FindActors | None = None,
        max_actors: int = MAX_ACTORS,
        only_joining: OnlyJoining | None = None,
    ) -> None:
        self._store = store
        self._find_actors = find_actors
        self._only_joining = only_joining
        self._max_actors = max_actors

    def run(
        self, *, actor_id: str | None = None, identity: tuple[str, str] | None = None, is_trial: bool = False
    ) -> Erased:
        """Erase; a trial only counts."""
        if actor_id is not None:
            match = _Match(frozenset([actor_id]), None)
        else:
            assert identity is not None
            identity = normal(*identity)
            match = _Match(self._actors_with(identity), identity)
        erased, own = Erased(), set[tuple[str, str]]()
        for arrivals, actor_ids, identities in self._scan(match):
            erased.actor_ids |= actor_ids
            new = identities - erased.identities
            erased.identities |= identities
            if is_trial:
                erased.triggers += len(arrivals)
            else:
                own.update(self._own(match, new))  # as long as they are known
                erased.triggers += self._remove(arrivals)
        if not is_trial:
            if match.identity is not None:
                own.add(match.identity)
            for part in self._store.parts:
                self._count(erased, part.on_erased(Subject(match.actor_ids, own, erased.actor_ids)))
            erased.is_overwritten = self._store.overwrite_removed(_OVERWRITE_TIMEOUT)
        return erased

    def _actors_with(self, identity: tuple[str, str]) -> frozenset[str]:
        joined = () if self._find_actors is None else self._find_actors(*identity)
        if joined is None:
            return frozenset()
        found = set[str]()
        for _, actor_ids, _ in self._scan(_Match(frozenset(), identity)):
            found |= actor_ids
            if len(found) > self._max_actors:
                return frozenset()
        return frozenset({*found, *joined})

    def _scan(self, match: _Match) -> Iterator[tuple[list[int], set[str], set[tuple[str, str]]]]:
        """Yield the arrival numbers of matching triggers, their actors and their identities, some at a time."""
        condition, values = self._condition(match)
        statement = f"""
            SELECT arrival, actor_id, body FROM triggers
            WHERE arrival > ? AND arrival <= ? AND {condition} ORDER BY arrival
        """
        position, newest = -1, -1
        while position < newest or newest < 0:
            arrivals, actor_ids, identities = list[int](), set[str](), set[tuple[str, str]]()
            with self._store.reading(math.inf) as snapshot:
                if newest < 0:  # what arrives later is new
                    ((newest,),) = snapshot.execute(NEWEST, [snapshot.horizon])
                ((first,),) = snapshot.execute("SELECT coalesce(min(arrival), 0) FROM triggers", [])
                position = max(position, int(first) - 1)
                end = min(newest, position + self._store.scan_step)
                for arrival, text, body in snapshot.execute(statement, [position, end, *values]):
                    actor_id, there = self._store.restore(text), identities_of(body)
                    if match.holds(actor_id, there):
                        arrivals.append(arrival)
                        actor_ids.add(actor_id)
                        identities |= there
                        if len(arrivals) == AT_ONCE:
                            end = arrival
                            break
            position = end
            if arrivals:
                yield arrivals, actor_ids, identities

    def _condition(self, match: _Match) -> tuple[str, list[Value]]:
        conditions, values, filters = list[str](), list[Value](), self._store.filters
        for condition, given in (
            *([self._is_among(match.actor_ids)] if match.actor_ids else ()),
            *(in_body(text, filters) for text in (match.identity or ())[1:] if text.isascii()),
            *(("true", []) for text in (match.identity or ())[1:] if not text.isascii()),  # in any case of letters
        ):
            conditions.append(f"({condition})")
            values += given
        return f"({' OR '.join(conditions)})", values

    def _is_among(self, actor_ids: Collection[str]) -> tuple[str, list[Value]]:
        texts, marks = [*map(self._store.escape, actor_ids)], ", ".join("?" * len(actor_ids))
        columns = self._store.actor_columns
        return (
            " AND ".join(f"{column} IN ({marks})" for column, _ in columns),
            [text[:length] for _, length in columns for text in texts],
        )

    def _remove(self, arrivals: list[int]) -> int:
        started = time.monotonic()
        removed = self._store.write(lambda transaction: self._store.remove(transaction, arrivals, keep_ids=True))
        time.sleep(time.monotonic() - started)  # for requests
        return removed

    def _own(self, match: _Match, found: Collection[tuple[str, str]]) -> Iterable[tuple[str, str]]:
        """Return the identities that are the person's alone, if one was given; of an actor id there is none."""
        if match.identity is None or not match.actor_ids or self._only_joining is None:
            return ()
        return self._only_joining(found)

    def _count(self, erased: Erased, counts: Mapping[str, int]) -> None:
        for name, number in counts.items():
            erased.others[name] = erased.others.get(name, 0) + number


def identities_of(body: str) -> set[tuple[str, str]]:
    """Return the identities in a trigger's JSON; each value of a list is one."""
    trigger = strict_json.parse(body.encode())
    identities = trigger.get("captured_identities") if isinstance(trigger, Mapping) else None
    return {
        normal(name, value)
        for name, values in (identities or {}).items()
        for value in (values if isinstance(values, list) else [values])
    }


def normal(name: str, value: Any) -> tuple[str, str]:
    """Return an identity as it is compared: the value as text, and of an address in lower case."""
    text = (value if isinstance(value, str) else strict_json.dump(value)).strip()
    return name, text.casefold() if "email" in name.lower() else text
