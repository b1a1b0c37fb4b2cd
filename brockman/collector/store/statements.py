"""SQL that both engines share, and its values. No I/O.

A placeholder is `?`; the PostgreSQL engine translates it. Both have a table `triggers` with the columns that are
named here. `arrival` counts up, with gaps: it is the order of arrival, and the cursor of a reader.
"""

from __future__ import annotations

import re

from brockman.collector import strict_json
from brockman.collector.store.values import Query

Value = str | int | float | bytes | None
FIRST_ARRIVAL, LAST_ARRIVAL = 0, 2**63 - 1

_FILTERS = {
    "actor_id": "actor_id = ?",
    "action": "action = ?",
    "object": "object = ?",
    "id": "id = ?",
    "since": "recorded_at >= ?",
    "until": "recorded_at < ?",
    "search": "body LIKE ? ESCAPE '\\'",
}
UPDATE_TALLY = """
    UPDATE tally SET triggers = triggers + ?, duplicates = duplicates + ?, rejected = rejected + ?,
    requests = requests + ?
"""
SELECT_JOINED = "SELECT arrival, actor, identity, kind, removals FROM joined"
COUNT_REMOVED = "UPDATE tally SET triggers = triggers - ?, removed = removed + ?"
COUNTS = "SELECT sum(triggers), sum(duplicates), sum(rejected), sum(requests), sum(removed) FROM tally"
OLDEST = "SELECT coalesce(min(arrival), 0) FROM triggers"
NEWEST = "SELECT coalesce(max(arrival), 0) FROM triggers WHERE arrival <= ?"


def newest(number: int, column: str) -> str:
    """Return the FROM clause for a column of the newest triggers, up to a horizon."""
    return (
        f"FROM (SELECT {column} FROM triggers WHERE arrival <= ? ORDER BY arrival DESC LIMIT {number}) AS newest"
    )


def per_minute(number: int) -> str:
    """Return a statement with two placeholders: the horizon, and the first moment of receipt."""
    return (
        f"SELECT received_at / 60000000 * 60, count(*) {newest(number, 'received_at')} WHERE received_at >= ?"
        " GROUP BY 1 ORDER BY 1"
    )


def most_frequent(number: int, column: str, limit: int) -> str:
    """Return a statement with one placeholder, the horizon."""
    return f"SELECT {column}, count(*) {newest(number, column)} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {limit}"


def where(query: Query, filters: dict[str, str]) -> tuple[str, list[Value]]:
    """Return the condition of a query, with the values of its placeholders.

    `filters` has the conditions that differ in an engine.
    """
    conditions, values = ["true"], list[Value]()
    for name in _FILTERS:
        value = getattr(query, name)
        if value is not None:
            condition, some = in_body(value, filters) if name == "search" else equals(name, value, filters)
            conditions.append(condition)
            values += some
    return " AND ".join(conditions[1:] or conditions), values


def equals(name: str, value: Value, filters: dict[str, str]) -> tuple[str, list[Value]]:
    """Return a condition, with the values of its placeholders."""
    condition = filters.get(name, _FILTERS[name])
    return condition, [value] * condition.count("?")


def in_body(text: str, filters: dict[str, str]) -> tuple[str, list[Value]]:
    """Return a condition for triggers whose JSON has a text, in any case of A to Z."""
    condition = filters.get("search", _FILTERS["search"])
    return condition, [json_pattern(text) if "LIKE" in condition else json_text(text)]


def json_pattern(text: str) -> str:
    """Return the pattern of LIKE for a text within JSON."""
    return contains(json_text(text))


def json_text(text: str) -> str:
    """Return a text as it is within JSON."""
    return strict_json.dump(text)[1:-1]


def contains(text: str) -> str:
    """Return the pattern of LIKE for a text within another, with a backslash as ESCAPE."""
    escaped = re.sub(r"[\\%_]", r"\\\g<0>", text)
    return f"%{escaped}%"


def count(query: Query, filters: dict[str, str]) -> tuple[str, list[Value]]:
    """Return a statement that counts the matching triggers."""
    condition, values = where(query, filters)
    if not values:
        return "SELECT sum(triggers) FROM tally", []
    return f"SELECT count(*) FROM triggers WHERE {condition}", values


def bounds(query: Query, horizon: int) -> tuple[int, int]:
    """Return the first and the last arrival number that the page of a query may have."""
    first, last = FIRST_ARRIVAL, horizon
    if query.after is not None:
        first, last = (first, min(last, query.after - 1)) if query.newest_first else (query.after + 1, last)
    return min(first, LAST_ARRIVAL), last


def select(query: Query, filters: dict[str, str], first: int, last: int) -> tuple[str, list[Value]]:
    """Return a statement that selects arrival and body in a range of arrival numbers, one more than a page has."""
    condition, values = where(query, filters)
    direction = "DESC" if query.newest_first else "ASC"
    return (
        f"SELECT arrival, body FROM triggers WHERE {condition} AND arrival BETWEEN ? AND ?"
        f" ORDER BY arrival {direction} LIMIT ?",
        [*values, first, last, query.limit + 1],
    )


def received(*, newest_first: bool) -> str:
    """Return a statement with the moment of receipt of the trigger at an arrival number, or of its neighbour."""
    comparison, direction = (">=", "ASC") if newest_first else ("<=", "DESC")
    return f"SELECT received_at FROM triggers WHERE arrival {comparison} ? ORDER BY arrival {direction} LIMIT 1"
