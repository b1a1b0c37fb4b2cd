"""Groups: their definitions, and the SQL that finds their members.

Each condition and each clause is a query for the people who meet it without its negation. INTERSECT keeps those,
EXCEPT removes them: that needs no index for a combination, and each query uses one of its own.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from brockman.collector import strict_json
from brockman.collector.groups import Clause, Condition, Definition, Scalar
from brockman.collector.store.base import Snapshot, Store, Transaction
from brockman.collector.store.conditions import Sql, one_of
from brockman.collector.store.facts import digest, make_identity
from brockman.collector.store.statements import LAST_ARRIVAL, Value, contains, json_pattern

MAX_GROUPS = 1000
MAX_NAMES = 100  # of identities, and of attributes, as columns
_NAMES = "SELECT name, count(*) FROM {} GROUP BY name ORDER BY 2 DESC, 1 LIMIT ?"
_EVERYBODY = "SELECT person FROM actors"
# The latest value of a person; of two at the same time, the greater one, as within an actor.
_LATEST = """
    SELECT person, value FROM (
        SELECT actors.person, attributes.value, row_number() OVER (
            PARTITION BY actors.person ORDER BY attributes.recorded_at DESC, attributes.value DESC
        ) AS age
        FROM attributes JOIN actors ON actors.actor = attributes.actor WHERE attributes.name = ?
    ) AS latest WHERE age = 1
"""
_CARRIED = """
    SELECT actors.person FROM identities
    JOIN links ON links.identity = identities.identity JOIN actors ON actors.actor = links.actor
"""
_PUT = """
    INSERT INTO groups (name, definition, created_at, updated_at) VALUES (?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, updated_at = excluded.updated_at
"""


@dataclass(frozen=True, slots=True)
class Group:
    """A saved definition."""

    name: str
    definition: str  # JSON
    created_at: int  # microseconds since 1970
    updated_at: int


class TooManyGroups(Exception):
    """Raised when there are `MAX_GROUPS` already."""


class Groups:
    """The groups of a store. Every method blocks, and raises StoreUnavailable if it fails."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def all(self) -> list[Group]:
        """Return all groups, ordered by name."""
        return self._select("", [])

    def get(self, name: str) -> Group | None:
        found = self._select("WHERE name = ?", [self._store.escape(name)])
        return found[0] if found else None

    def put(self, name: str, definition: str, now: int) -> bool:
        """Save a group, or replace its definition; return whether it is new.

        Raises:
            TooManyGroups: If it is, and there are `MAX_GROUPS` already.
        """
        key = self._store.escape(name)

        def save(transaction: Transaction) -> bool:
            ((others, same),) = transaction.execute(
                "SELECT count(CASE WHEN name <> ? THEN 1 END), count(CASE WHEN name = ? THEN 1 END) FROM groups",
                [key, key],
            )
            if not same and others >= MAX_GROUPS:
                raise TooManyGroups
            transaction.execute(_PUT, [key, definition, now, now])
            return not same

        return self._store.write(save)

    def delete(self, name: str) -> bool:
        """Remove a group; return whether there was one."""
        key = self._store.escape(name)

        def remove(transaction: Transaction) -> bool:
            found = list(transaction.execute("SELECT 1 FROM groups WHERE name = ?", [key]))
            transaction.execute("DELETE FROM groups WHERE name = ?", [key])
            return bool(found)

        return self._store.write(remove)

    def members(self, definition: Definition, now: int) -> array[int]:
        """Return the numbers of the people of a group, in their order.

        Raises:
            StoreUnavailable: Also when that takes longer than a read may.
        """
        statement, values = members(definition, now, self._store)
        with self._store.reading() as snapshot:
            return array("q", _column(snapshot, f"{statement} ORDER BY 1", values))

    def names(self) -> tuple[list[str], list[str]]:
        """Return the names of the identities and of the attributes that people have, the most frequent."""
        with self._store.reading() as snapshot:
            identities, attributes = (
                [name for name, _ in snapshot.execute(_NAMES.format(table), [MAX_NAMES])]
                for table in ("identities", "attributes")
            )
        restore = self._store.restore
        return sorted(map(restore, identities)), sorted(map(restore, attributes))

    def _select(self, where: str, values: Sequence[Value]) -> list[Group]:
        statement = f"SELECT name, definition, created_at, updated_at FROM groups {where} ORDER BY name"
        with self._store.reading() as snapshot:
            rows = snapshot.execute(statement, values)
            return [Group(self._store.restore(name), *rest) for name, *rest in rows]


def _column(snapshot: Snapshot, statement: str, values: Sequence[Value]) -> Iterator[int]:
    return (value for (value,) in snapshot.execute(statement, values))


def members(definition: Definition, now: int, store: Store) -> Sql:
    """Return a query for the people of a group."""
    conditions = [(condition.is_negated, _person_passes(condition, store)) for condition in definition.where]
    clauses = [(False, clause) for clause in definition.did] + [(True, clause) for clause in definition.did_not]
    terms = conditions + [(is_negated, _person_did(clause, now, store)) for is_negated, clause in clauses]
    # Those to keep first: PostgreSQL evaluates INTERSECT before EXCEPT, SQLite from left to right.
    kept = [term for is_negated, term in terms if not is_negated] or [(_EVERYBODY, [])]
    removed = [term for is_negated, term in terms if is_negated]
    statement = " INTERSECT ".join(sql for sql, _ in kept)
    statement = " EXCEPT ".join([statement, *(sql for sql, _ in removed)])
    if len(terms) < 2:
        statement = f"SELECT DISTINCT person FROM ({statement}) AS members"
    return statement, [value for _, values in kept + removed for value in values]


def _person_passes(condition: Condition, store: Store) -> Sql:
    """Return a query for the people who meet a condition, without its negation."""
    text, equals = condition.contains, condition.equals or ()
    name = store.escape(condition.name)
    if condition.place == "actor_id":
        if text is not None:
            return f"{_EVERYBODY} WHERE {store.like.format('actor_id')}", [contains(store.escape(text))]
        return _where(_EVERYBODY, [one_of("digest", [digest(str(one)) for one in equals])])
    if condition.place == "identities":
        tests: list[Sql] = [("identities.name = ?", [name])]
        if text is not None:
            tests.append((store.like.format("identities.value"), [json_pattern(text)]))
        elif equals:
            tests.append(one_of("identities.digest", [_digest(condition.name, one) for one in equals]))
        return _where(_CARRIED, tests)
    test, values = store.conditions.passes("latest.value", condition)
    return f"SELECT person FROM ({_LATEST}) AS latest WHERE {test}", [name, *values]


def _digest(name: str, value: Scalar) -> bytes:
    """Return the key of an identity; 42 is equal to "42"."""
    return make_identity(name, value if type(value) is str else strict_json.dump(value)).digest


def _person_did(clause: Clause, now: int, store: Store) -> Sql:
    """Return a query for the people who did something often enough."""
    begin = clause.begin(now)
    tests: list[Sql] = [("events.kind = kinds.kind", [])]
    tests += [("events.recorded_at >= ?", [begin])] if begin is not None else []
    tests += [("events.recorded_at < ?", [clause.until])] if clause.until is not None else []
    tests += _kind_tests("kinds", clause, store)
    # The kinds first: they are few, and the index of events by kind has all that is needed.
    events, values = _where("SELECT events.actor, events.arrival FROM kinds CROSS JOIN events", tests)
    if clause.variables:
        events, values = _with_variables(events, values, clause, store)
    # Counted by actor, and the fewer results by person.
    return (
        f"SELECT actors.person FROM (SELECT actor, count(*) AS times FROM ({events}) AS events GROUP BY actor)"
        " AS done JOIN actors ON actors.actor = done.actor GROUP BY actors.person HAVING sum(done.times) >= ?",
        [*values, clause.times],
    )


def _with_variables(events: str, values: list[Value], clause: Clause, store: Store) -> Sql:
    """Return a query for those of some events whose triggers meet the conditions on variables."""
    tests: list[Sql] = [("triggers.arrival = events.arrival", []), *_kind_tests("triggers", clause, store)]
    for condition in clause.variables:
        text = condition.text
        if text is not None:  # it is found sooner than JSON is parsed
            tests.append((store.like.format("triggers.body"), [json_pattern(text)]))
        test, more = store.conditions.variable_passes("triggers.body", condition)
        # With the negation: it is about one trigger, not about all of a person.
        tests.append((f"NOT {test}" if condition.is_negated else test, more))
    # In the order in which the triggers are stored; a subquery without LIMIT would lose its order.
    found = f"({events} ORDER BY events.arrival LIMIT {LAST_ARRIVAL}) AS events CROSS JOIN triggers"
    statement, more = _where(f"SELECT events.actor FROM {found}", tests)
    return statement, [*values, *more]


def _where(statement: str, tests: Sequence[Sql]) -> Sql:
    return (
        f"{statement} WHERE {' AND '.join(test for test, _ in tests)}",
        [value for _, values in tests for value in values],
    )


def _kind_tests(table: str, clause: Clause, store: Store) -> list[Sql]:
    return [
        one_of(f"{table}.{column}", [store.escape(text) for text in texts])
        for column, texts in (("action", clause.actions), ("object", clause.objects))
        if texts
    ]
