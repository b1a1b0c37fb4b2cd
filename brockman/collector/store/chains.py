"""Repairs the chains of events when some are removed that are not the oldest of their actor. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from brockman.collector.store.base import Execute
from brockman.collector.store.regrouping import Run, Select

_SELECT_REMOVED = """
    SELECT events.arrival, events.actor, events.previous FROM given CROSS JOIN events
    WHERE events.arrival = given.arrival
"""
_SELECT_STORED = "SELECT events.arrival FROM given CROSS JOIN events WHERE events.arrival = given.arrival"
# From the newest event of an actor to the first that is not behind another, and the one after that.
_SELECT_CHAIN = """
    WITH RECURSIVE chain (arrival, previous) AS (
        SELECT events.arrival, events.previous FROM actors CROSS JOIN events
        WHERE actors.actor = ? AND events.arrival = actors.newest
        UNION ALL
        SELECT events.arrival, events.previous FROM chain CROSS JOIN events
        WHERE events.arrival = chain.previous AND chain.arrival > ?
    )
    SELECT arrival, previous FROM chain
"""
_UPDATE_EVENTS = "UPDATE events SET previous = given.previous FROM given WHERE events.arrival = given.arrival"
_UPDATE_ACTORS = "UPDATE actors SET newest = given.newest FROM given WHERE actors.actor = given.actor"


def relink(execute: Execute, select: Select, run: Run, arrivals: Sequence[int]) -> None:
    """Lead the chains around some events, which are removed next."""
    removed, behind, oldest = set[int](), dict[int, int](), dict[int, int]()
    for arrival, actor, previous in select(_SELECT_REMOVED, {"arrival": int}, [(number,) for number in arrivals]):
        removed.add(arrival)
        behind[previous] = actor
        oldest[actor] = min(arrival, oldest.get(actor, arrival))
    # The oldest of an actor leave a chain that ends at a number that is not stored.
    kept = [(arrival,) for arrival in behind if arrival and arrival not in removed]
    broken = {behind[arrival] for (arrival,) in select(_SELECT_STORED, {"arrival": int}, kept)}
    newest, links = list[tuple[int, int]](), list[tuple[int, int]]()
    for actor in broken:
        for arrival, previous in _gaps(execute(_SELECT_CHAIN, [actor, oldest[actor]]), removed):
            if arrival is None:
                newest.append((actor, previous))
            else:
                links.append((arrival, previous))
    run(_UPDATE_ACTORS, {"actor": int, "newest": int}, newest)
    run(_UPDATE_EVENTS, {"arrival": int, "previous": int}, links)


def _gaps(chain: Iterator[tuple[int, int]], removed: set[int]) -> Iterator[tuple[int | None, int]]:
    """Yield each event before a gap, None for the begin of the chain, and the event behind the gap."""
    last: int | None = None
    is_gap, end = False, 0
    for arrival, previous in chain:
        if arrival in removed:
            is_gap, end = True, previous
            continue
        if is_gap:
            yield last, arrival
        last, is_gap = arrival, False
    if is_gap:
        yield last, end
