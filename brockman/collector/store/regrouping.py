"""Which actors are one person, when some of them are joined or divided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from brockman.collector.store.components import Components
from brockman.collector.store.statements import Value

Select = Callable[[str, Mapping[str, type], Iterable[Sequence[Value]]], Iterator[Any]]
Run = Callable[[str, Mapping[str, type], Iterable[Sequence[Value]]], None]

_SELECT_MEMBERS = """
    SELECT actors.actor, actors.person FROM given CROSS JOIN actors WHERE actors.person = given.person
"""
_SELECT_JOINING = """
    SELECT links.identity, links.actor FROM given CROSS JOIN actors CROSS JOIN links CROSS JOIN identities
    WHERE actors.person = given.person AND links.actor = actors.actor
    AND identities.identity = links.identity AND identities.is_joining = 1
"""
_SELECT_SIZES = """
    SELECT actors.person, count(*) FROM given CROSS JOIN actors WHERE actors.person = given.person
    GROUP BY actors.person
"""
_UPDATE_MEMBERS = "UPDATE actors SET person = given.person FROM given WHERE actors.actor = given.actor"
_UPDATE_PEOPLE = "UPDATE actors SET person = given.person FROM given WHERE actors.person = given.old"


class Regrouping:
    """Actors, and the people they are of. A person is known by the number of one of its actors."""

    def __init__(self, select: Select) -> None:
        self._select = select
        self._components = Components()  # of people, and of actors that have none yet
        self._nodes: dict[int, int] = {}  # which of these an actor is in
        self._people: set[int] = set()
        self._divided: dict[int, int] = {}  # actors, and their person before
        self._chosen: dict[int, int] = {}
        self._moved: list[tuple[int, int]] = []

    def add(self, actor: int, person: int | None) -> None:
        """Add an actor, with the person it is part of, if it is not new."""
        if person is None:
            self._nodes[actor] = actor
        else:
            self._nodes[actor] = person
            self._people.add(person)

    def person_of(self, actor: int) -> int:
        node = self._nodes[actor]
        return self._chosen.get(node, node)

    def divide(self, people: Collection[int], without: Collection[int]) -> None:
        """Join the actors of some people anew, by the identities that are left without some."""
        rows = [(person,) for person in people]
        for actor, person in self._select(_SELECT_MEMBERS, {"person": int}, rows):
            self._nodes[actor] = actor
            self._divided[actor] = person
        self._people.difference_update(people)
        carriers = defaultdict[int, list[int]](list)
        for identity, actor in self._select(_SELECT_JOINING, {"person": int}, rows):
            if identity not in without:
                carriers[identity].append(actor)
        for actors in carriers.values():
            self.join(actors)

    def join(self, actors: Iterable[int]) -> None:
        """Make one person of those that some actors are of."""
        self._components.join(self._nodes[actor] for actor in actors)

    def settle(self) -> None:
        """Choose the number of each person: that of its largest part, so that few rows change."""
        sets = self._components.sets(set(self._nodes.values()))
        several = [(part,) for numbers in sets if len(parts := numbers & self._people) > 1 for part in parts]
        sizes = dict(self._select(_SELECT_SIZES, {"person": int}, several))
        for numbers in sets:
            parts = numbers & self._people
            chosen = max(parts, key=lambda part: (sizes.get(part, 0), -part)) if parts else min(numbers)
            self._chosen.update(dict.fromkeys(numbers, chosen))
            self._moved += [(part, chosen) for part in parts if part != chosen]

    def write(self, run: Run) -> None:
        """Store the people of actors that were stored before."""
        members = [(actor, new) for actor, old in self._divided.items() if (new := self.person_of(actor)) != old]
        run(_UPDATE_MEMBERS, {"actor": int, "person": int}, members)
        run(_UPDATE_PEOPLE, {"old": int, "person": int}, self._moved)
