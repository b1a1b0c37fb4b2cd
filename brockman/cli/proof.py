"""Whether the collector has exactly what the demonstration recorded, read from its own database."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brockman.cli.arguments import Arguments
from brockman.cli.scenario import NUMBER, compose

if TYPE_CHECKING:
    from brockman.collector.store import Store

_PAGE = 10_000
_NAMED = 10  # how many numbers a problem names


@dataclass(frozen=True)
class Proof:
    """What was found.

    Attributes:
        expected: How many triggers were recorded.
        rows: How many the database holds.
        distinct_ids: How many different ids they have.
        duplicates: How many the collector dropped, since it had one of that id.
        missing: Numbers of the triggers that are not there.
        double: Numbers of those that are there more than once.
        altered: Numbers of those that are there, but not as they were recorded.
        strangers: How many rows hold what was never recorded.
    """

    expected: int
    rows: int
    distinct_ids: int
    duplicates: int
    missing: list[int]
    double: list[int]
    altered: list[int]
    strangers: int

    @property
    def problems(self) -> list[str]:
        """What is wrong, a line for each kind; nothing when all is right."""
        found = [
            f"{what}: {len(numbers)}, number {_name_some(numbers)}"
            for what, numbers in (("missing", self.missing), ("double", self.double), ("altered", self.altered))
            if numbers
        ]
        if self.strangers:
            found.append(f"never recorded: {self.strangers}")
        if self.distinct_ids != self.rows:
            found.append(f"ids: {self.rows} rows have {self.distinct_ids} different ones")
        return found

    @property
    def verdict(self) -> str:
        """The last line: `20000 of 20000, each once`, or what is wrong instead."""
        found = self.expected - len(self.missing)
        return f"{found} of {self.expected}, " + ("; ".join(self.problems) or "each once")


def examine(database: Path, seed: int, count: int) -> Proof:
    """Compare a collector's database with the triggers 1 to `count` of a scenario, field by field.

    Raises:
        brockman.collector.errors.InvalidSetting, brockman.collector.errors.StoreUnavailable: When the database
            cannot be read.
    """
    from brockman.collector.store import Store

    store = Store(database)
    try:
        return _compare(_read_all(store), store.tally().duplicates, seed, count)
    finally:
        store.close()


def _compare(triggers: Iterator[dict[str, Any]], duplicates: int, seed: int, count: int) -> Proof:
    ids, numbers, altered = set(), Counter[int](), []
    rows = strangers = 0
    for trigger in triggers:
        rows += 1
        ids.add(trigger.get("id"))
        number = trigger.get("variables", {}).get(NUMBER)
        if type(number) is not int or not 1 <= number <= count:
            strangers += 1
            continue
        numbers[number] += 1
        if not _is_same(trigger, compose(seed, number)):
            altered.append(number)
    return Proof(
        expected=count,
        rows=rows,
        distinct_ids=len(ids),
        duplicates=duplicates,
        missing=[number for number in range(1, count + 1) if number not in numbers],
        double=sorted(number for number, times in numbers.items() if times > 1),
        altered=sorted(altered),
        strangers=strangers,
    )


def _read_all(store: Store) -> Iterator[dict[str, Any]]:
    from brockman.collector.query import Query

    after: int | None = 0
    while after is not None:
        page = store.page(Query(limit=_PAGE, after=after))
        yield from map(json.loads, page.bodies)
        after = page.next


def _is_same(trigger: dict[str, Any], recorded: Arguments) -> bool:
    return recorded == (
        trigger.get("actor_id"),
        trigger.get("action"),
        trigger.get("object"),
        trigger.get("captured_identities", {}),
        trigger.get("captured_attributes", {}),
        trigger.get("variables", {}),
    )


def _name_some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:_NAMED])) + (", ..." if len(numbers) > _NAMED else "")
