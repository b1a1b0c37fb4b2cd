"""People: the actor ids that one person has, joined through the identities they share."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from brockman.collector.store import people_statements as statements
from brockman.collector.store.base import Snapshot, Store, Transaction
from brockman.collector.store.facts import digest, make_identity
from brockman.collector.store.joining import Batch, Cache, Joining
from brockman.collector.store.pruning import Part, Removed, Subject
from brockman.collector.store.remaining import correct
from brockman.collector.store.removal import remove_events, remove_unused_kinds
from brockman.collector.store.statements import LAST_ARRIVAL, Value, contains, json_pattern
from brockman.collector.store.values import PeoplePage, Person, SharedIdentity, Timeline

MAX_ACTORS_PER_IDENTITY = 200
_BATCH = 5000  # triggers that are joined in one transaction
_PENDING = 100_000  # triggers that are counted
_SHOWN = 10  # actor ids of each person in a list, and identities
_SHOWN_ALONE = 10_000
_SHOWN_ATTRIBUTES = 200
_SHARED = 20
_DIGEST = {"digest": bytes}


class People(Part):
    """The people in a store. Thread-safe; its methods block, and raise StoreUnavailable if they fail."""

    def __init__(self, store: Store, max_actors: int = MAX_ACTORS_PER_IDENTITY) -> None:
        self._store = store
        self._max_actors = max_actors  # that one identity may join
        self._joining = threading.Lock()
        self._cache = Cache()

    def join_some(self, limit: int = _BATCH) -> bool | None:
        """Join the next triggers; return whether there may be more, or None if another collector joins them."""
        with self._joining:
            with self._store.reading() as snapshot:
                batch = Batch(snapshot, limit, self._cache)
            if len(batch):
                joining = self._store.write(partial(self._join, batch))
                if joining is None:
                    return None
                joining.learn()
            return not batch.is_last

    def catch_up(self) -> None:
        """Join what is stored at the moment, if no collector does; of very much, a part."""
        for _ in range(self.pending() // _BATCH + 1):
            if self.join_some() is False:
                return

    def pending(self) -> int:
        """Return how many triggers are stored, and not joined yet; at most 100 000 are counted."""
        with self._store.reading() as snapshot:
            ((pending,),) = snapshot.execute(statements.COUNT_PENDING, [snapshot.horizon, _PENDING])
        return int(pending)

    def find_actor(self, actor_id: str) -> Person | None:
        """Return the person with an actor id."""
        return self._find(statements.SELECT_PERSON_OF_ACTOR, digest(actor_id))

    def find_identity(self, name: str, value: str) -> Person | SharedIdentity | None:
        """Return the person with an identity, or the identity if it joins nobody and several actors carry it."""
        key = make_identity(name, value).digest
        with self._store.reading() as snapshot:
            for name, value, actors, is_joining in snapshot.execute(statements.SELECT_IDENTITY, [key]):
                if not is_joining and actors > 1:
                    return SharedIdentity(self._store.restore(name), value, actors)
        return self._find(statements.SELECT_PERSON_OF_IDENTITY, key)

    def timeline(
        self, person: Person, *, limit: int, after: int | None = None, newest_first: bool = True
    ) -> Timeline:
        """Return a page of the triggers of all actors of a person, of those that were joined."""
        first, last = 0, LAST_ARRIVAL
        if after is not None:
            first, last = (0, after - 1) if newest_first else (min(after, LAST_ARRIVAL - 1), LAST_ARRIVAL)
        bodies, arrival, size = list[str](), 0, 0
        with self._store.reading() as snapshot:
            ((joined,),) = snapshot.execute(statements.SELECT_CURSOR, [])
            values: list[Value] = [first, min(last, joined), limit + 1, person.number]
            rows = snapshot.execute(self._store.timeline[newest_first], values)
            for next_arrival, body in rows:
                if len(bodies) == limit or size > self._store.max_page_bytes:
                    return Timeline(bodies, arrival)
                bodies.append(body)
                arrival = int(next_arrival)
                size += len(body)
        return Timeline(bodies, None)

    def page(self, *, search: str | None = None, limit: int, after: tuple[int, int] | None = None) -> PeoplePage:
        """Return people, the last seen first: all, or those with a text in an actor id or an identity's value."""
        condition, values = statements.ALL, list[Value]()
        if search is not None:
            condition = statements.matching(self._store.like)
            text = self._store.escape(search)
            # For LIKE of SQLite a NUL ends a text, and the pattern would match all.
            values = [None if "\0" in text else contains(text), json_pattern(search)]
        begin = after or (LAST_ARRIVAL, LAST_ARRIVAL)
        with self._store.reading() as snapshot:
            found = list(snapshot.execute(statements.list_people(condition), [*values, *begin, limit + 1]))
            rows = [row for _, *row in found if row[0] is not None]
            people = self._complete(snapshot, rows[:limit], _SHOWN)
        end = (people[-1].last_seen, people[-1].number) if len(rows) > limit else None
        return PeoplePage(people, int(found[0][0]), end)

    def read(self, snapshot: Snapshot, numbers: Collection[int]) -> list[Person]:
        """Return people by their numbers, in this order, as in a list."""
        rows = {row[0]: row for row in self._select(snapshot, statements.SELECT_PEOPLE, numbers)}
        return self._complete(snapshot, [rows[number] for number in numbers if number in rows], _SHOWN)

    def shared_identities(self) -> list[SharedIdentity]:
        """Return identities that join nobody although several actors carry them, the most frequent first."""
        with self._store.reading() as snapshot:
            return [
                SharedIdentity(self._store.restore(name), value, actors)
                for name, value, actors in snapshot.execute(statements.SELECT_SHARED, [_SHARED])
            ]

    def find_actors(self, name: str, value: str) -> Collection[str] | None:
        """Return the actor ids that are joined by an identity; None if it joins nobody."""
        identity = make_identity(name, value)
        if not identity.may_join:
            return None
        with self._store.reading() as snapshot:
            for _, _, _, is_joining in snapshot.execute(statements.SELECT_IDENTITY, [identity.digest]):
                if not is_joining:
                    return None
        found = self._find(statements.SELECT_PERSON_OF_IDENTITY, identity.digest)
        return () if found is None else found.actor_ids

    def only_joining(self, identities: Collection[tuple[str, str]]) -> Collection[tuple[str, str]]:
        """Return those of some identities that are one person's, if they are anybody's."""
        found = {make_identity(*given): given for given in identities}
        by_digest = {identity.digest: given for identity, given in found.items() if identity.may_join}
        keys = zip(by_digest, strict=True)
        with self._store.reading() as snapshot:
            shared = self._store.select_given(snapshot.execute, statements.SELECT_NOT_JOINING, _DIGEST, keys)
            others = {bytes(key) for (key,) in shared}
        return [given for key, given in by_digest.items() if key not in others]

    def prune(self, before: int) -> None:
        remove_unused_kinds(self._store)

    def on_removed(self, transaction: Transaction, removed: Sequence[Removed]) -> None:
        if removed:
            remove_events(self._store, transaction, [trigger.arrival for trigger in removed])

    def on_erased(self, subject: Subject) -> dict[str, int]:
        """Let nothing be known that only erased triggers had; of an actor with other triggers too."""
        keys = (
            (statements.SELECT_ACTORS, map(digest, subject.all_actor_ids)),
            (statements.SELECT_CARRIERS, (make_identity(*identity).digest for identity in subject.identities)),
        )
        with self._store.reading() as snapshot:
            actors = {
                int(actor)
                for statement, keys in keys
                for (actor,) in self._store.select_given(
                    snapshot.execute, statement, _DIGEST, [(key,) for key in keys]
                )
            }
        correct(self._store, actors)
        remove_unused_kinds(self._store)
        return {}

    def _join(self, batch: Batch, transaction: Transaction) -> Joining | None:
        joining = Joining(self._store, batch, transaction, self._max_actors)
        return joining if joining.run() else None

    def _find(self, statement: str, key: bytes) -> Person | None:
        with self._store.reading() as snapshot:
            numbers = [number for (number,) in snapshot.execute(statement, [key])]
            rows = list(self._select(snapshot, statements.SELECT_PEOPLE, numbers))
            return next(iter(self._complete(snapshot, rows, _SHOWN_ALONE)), None)

    def _complete(self, snapshot: Snapshot, rows: Sequence[Sequence[int]], shown: int) -> list[Person]:
        """Return people with what else is known of them."""
        restore = self._store.restore
        people = {row[0]: _make_person(row) for row in rows}
        select = partial(self._select, snapshot, numbers=people)
        for number, actor_id in select(statements.actor_ids(shown)):
            people[number].actor_ids.append(restore(actor_id))
        for number, name, value, actors, is_joining in select(statements.identities(shown)):
            person, name = people[number], restore(name)
            if is_joining:
                person.identities.setdefault(name, []).append(value)
            else:
                person.not_joined.append(SharedIdentity(name, value, actors))
        for number, name, value in select(statements.attributes(_SHOWN_ATTRIBUTES)):
            people[number].attributes[restore(name)] = value
        return list(people.values())

    def _select(self, snapshot: Snapshot, statement: str, numbers: Iterable[int]) -> Iterator[Any]:
        return self._store.select_given(snapshot.execute, statement, {"number": int}, zip(numbers, strict=True))


def _make_person(row: Sequence[int]) -> Person:
    number, actors, triggers, first_seen, last_seen = map(int, row)
    return Person(number, actors, triggers, first_seen, last_seen)
