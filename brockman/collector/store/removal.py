"""Removes what is known of people from triggers that are no longer stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

from brockman.collector.store.base import Store, Transaction
from brockman.collector.store.regrouping import Regrouping, Run, Select

# First: the lock of the row keeps collectors from joining, and what one has read is no longer true.
_LOCK = "UPDATE joined SET removals = removals + 1"
_SELECT_EVENTS = "SELECT events.actor FROM given CROSS JOIN events WHERE events.arrival = given.arrival"
_DELETE_EVENTS = "DELETE FROM events WHERE arrival IN (SELECT arrival FROM given)"
_COUNT = """
    UPDATE actors SET triggers = actors.triggers - given.triggers FROM given WHERE actors.actor = given.actor
"""
_SELECT_GONE = """
    SELECT actors.actor, actors.person FROM given CROSS JOIN actors
    WHERE actors.actor = given.actor AND actors.triggers <= 0
"""
_SELECT_LINKS = "SELECT links.identity FROM given CROSS JOIN links WHERE links.actor = given.actor"
_COUNT_IDENTITIES = """
    UPDATE identities SET actors = identities.actors - given.actors FROM given
    WHERE identities.identity = given.identity
"""
_DELETE_IDENTITIES = "DELETE FROM identities WHERE identity IN (SELECT identity FROM given) AND actors <= 0"


def remove_events(store: Store, transaction: Transaction, arrivals: Sequence[int]) -> None:
    """Remove the events of some triggers; actors without any other, and what only they have, go with them."""
    transaction.execute(_LOCK, [])
    select: Select = partial(store.select_given, transaction.execute)
    run: Run = partial(store.run_given, transaction.execute)
    rows = [(arrival,) for arrival in arrivals]
    counts = Counter(actor for (actor,) in select(_SELECT_EVENTS, {"arrival": int}, rows))
    run(_DELETE_EVENTS, {"arrival": int}, rows)
    run(_COUNT, {"actor": int, "triggers": int}, counts.items())
    gone = dict(select(_SELECT_GONE, {"actor": int}, zip(counts, strict=True)))
    if gone:
        _remove_actors(select, run, gone)
        people = Regrouping(select)
        people.divide(set(gone.values()), ())
        people.settle()
        people.write(run)


def _remove_actors(select: Select, run: Run, actors: Iterable[int]) -> None:
    rows = [(actor,) for actor in actors]
    identities = Counter(identity for (identity,) in select(_SELECT_LINKS, {"actor": int}, rows))
    run(_COUNT_IDENTITIES, {"identity": int, "actors": int}, identities.items())
    run(_DELETE_IDENTITIES, {"identity": int}, zip(identities, strict=True))
    for table in ("links", "attributes", "actors"):
        run(f"DELETE FROM {table} WHERE actor IN (SELECT actor FROM given)", {"actor": int}, rows)
