"""The refused triggers that a collector keeps, as commands read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from brockman.cli.conditions import Conditions
from brockman.cli.requesting import Api

PATH = "refused/"
FILTERS = ("action", "object", "actor_id", "reason")  # which the collector has too
_PAGE = 1000  # entries
Entry = dict[str, Any]  # as the API has it; its `trigger` is None if it is not one


def matches(entry: Entry, conditions: Conditions) -> bool:
    return conditions.matches(entry["trigger"] or {}, reason=entry["reason"])


def read_refused(source: Api, conditions: Conditions) -> Iterator[list[Entry]]:
    """Yield pages of the refused triggers that match, the oldest first, up to the newest one at the start."""
    newest = None
    parameters = {**conditions.parameters(FILTERS), "order": "oldest", "limit": str(_PAGE)}
    for page in source.pages(PATH, parameters):
        newest = int(page["newest"]) if newest is None else newest
        # A later number was refused since, perhaps again.
        yield [entry for entry in page["refused"] if entry["number"] <= newest and matches(entry, conditions)]
        if page["refused"] and page["refused"][-1]["number"] >= newest:
            return
