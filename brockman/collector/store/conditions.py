"""SQL for the conditions of a group on values that are stored as JSON. No I/O.

A column holds the JSON of a scalar or of a list of scalars; a list has the values of its elements. An engine takes
JSON apart in its own way, so there is a class for each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from brockman.collector import strict_json
from brockman.collector.groups import Condition, Scalar
from brockman.collector.store.statements import Value, contains

# Neither engine has NUL characters in texts taken from JSON. An escaped one becomes U+FDD0 and 0. Before that,
# each pair of backslashes becomes one character: in `\\u0000` the second backslash begins no escape.
_WITHOUT_NUL = (
    r"CASE WHEN {0} LIKE '%\u0000%' ESCAPE '!' THEN"
    r" replace(replace(replace({0}, '\\', '" + "\ufdd1" + r"'), '\u0000', '\ufdd00'), '" + "\ufdd1" + r"', '\\')"
    r" ELSE {0} END"
)

Sql = tuple[str, list[Value]]  # an expression, and the values of its placeholders


def one_of(column: str, wanted: Sequence[Value]) -> Sql:
    """Return the condition that a column has one of some values; nothing wanted is anything."""
    return f"{column} IN ({', '.join('?' * len(wanted))})" if wanted else "true", list(wanted)


class JsonConditions(ABC):
    """The conditions of an engine."""

    def __init__(self, like: str) -> None:
        self._like = like  # of the engine

    @abstractmethod
    def passes(self, column: str, condition: Condition) -> Sql:
        """Return an expression: a column of JSON has a value that passes. The negation is the caller's."""

    @abstractmethod
    def variable_passes(self, column: str, condition: Condition) -> Sql:
        """Return the same for a variable of the trigger whose JSON is in a column."""


class SqliteConditions(JsonConditions):
    """With `json_each`, which a path or a key cannot confuse."""

    def passes(self, column: str, condition: Condition) -> Sql:
        test, values = self._test("each", condition)
        return f"EXISTS (SELECT 1 FROM json_each({_WITHOUT_NUL.format(column)}) AS each WHERE {test})", values

    def variable_passes(self, column: str, condition: Condition) -> Sql:
        test, values = self._test("variable", condition)
        element_test, _ = self._test("each", condition)
        return (
            f"EXISTS (SELECT 1 FROM json_each({_WITHOUT_NUL.format(column)}, '$.variables') AS variable"
            " WHERE variable.key = ? AND CASE variable.type WHEN 'array' THEN"
            f" EXISTS (SELECT 1 FROM json_each(variable.value) AS each WHERE {element_test}) ELSE {test} END)",
            [without_nul(condition.name), *values, *values],
        )

    def _test(self, row: str, condition: Condition) -> Sql:
        """Return the test for a row of `json_each`."""
        is_number, is_text = f"{row}.type IN ('integer', 'real')", f"{row}.type = 'text'"
        if condition.equals is not None:
            tests, values = [], list[Value]()
            for wanted in condition.equals:
                if type(wanted) is bool:
                    tests.append(f"{row}.type = '{'true' if wanted else 'false'}'")
                else:
                    tests.append(f"({is_text if type(wanted) is str else is_number} AND {row}.value = ?)")
                    values.append(_bound(wanted))
            return f"({' OR '.join(tests)})", values
        if condition.contains is not None:
            has_text = self._like.format(f"{row}.value")
            return f"({is_text} AND {has_text})", [contains(without_nul(condition.contains))]
        bounds = _bounds(condition)
        tests = [f"{row}.value {operator} ?" for operator, _ in bounds]
        return " AND ".join([is_number, *tests]) if tests else "true", [_bound(bound) for _, bound in bounds]


class PostgresqlConditions(JsonConditions):
    """With `jsonb`, whose numbers are decimals of any length. Its operators look into an array by themselves."""

    def passes(self, column: str, condition: Condition) -> Sql:
        return self._test(f"({_WITHOUT_NUL.format(column)})::jsonb", [], condition)

    def variable_passes(self, column: str, condition: Condition) -> Sql:
        found = f"(({_WITHOUT_NUL.format(column)})::jsonb -> 'variables' -> ?::text)"
        test, values = self._test(found, [without_nul(condition.name)], condition)
        return f"coalesce({test}, false)", values

    def _test(self, found: str, name: list[Value], condition: Condition) -> Sql:
        """Return the test for an expression, whose placeholders have these values."""
        if condition.equals is not None:
            wanted = [strict_json.dump(without_nul(one) if type(one) is str else one) for one in condition.equals]
            tests = [f"{found} @> ?::jsonb"] * len(wanted)
            return f"({' OR '.join(tests)})", [value for one in wanted for value in (*name, one)]
        if condition.contains is not None:
            each = f"jsonb_path_query({found}, 'lax $[*]') AS each (value)"
            has_text = self._like.format("each.value #>> '{}'")
            return (
                f"EXISTS (SELECT 1 FROM {each} WHERE jsonb_typeof(each.value) = 'string' AND {has_text})",
                [*name, contains(without_nul(condition.contains))],
            )
        bounds = _bounds(condition)
        if not bounds:
            return f"{found} <> '[]'", list(name)
        tests = [f"@ {operator} $b{number}" for number, (operator, _) in enumerate(bounds)]
        numbers = strict_json.dump({f"b{number}": bound for number, (_, bound) in enumerate(bounds)})
        path = f"lax $[*] ? ({' && '.join(tests)})"
        return f"jsonb_path_exists({found}, ?::jsonpath, ?::jsonb)", [*name, path, numbers]


def without_nul(text: str) -> str:
    """Return a text as the expressions above have it."""
    return text.replace("\0", "\ufdd00")


def _bounds(condition: Condition) -> list[tuple[str, int | float]]:
    bounds = ((">=", condition.low), ("<=", condition.high))
    return [(operator, bound) for operator, bound in bounds if bound is not None]


def _bound(value: Scalar) -> Value:
    """Return a value for SQLite, whose integers have 64 bits and a sign."""
    if type(value) is str:
        return without_nul(value)
    return float(value) if type(value) is int and value >= 2**63 else value
