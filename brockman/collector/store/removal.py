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
_SELECT_PREVIOUS = """
    SELECT events.arrival, events.previous FROM given CROSS JOIN events WHERE events.arrival = given.arrival
"""
# Where an earlier event of the actor is still there, or was left out before for one that is.
_INSERT_GAPS = """
    INSERT INTO gaps (arrival, previous) SELECT given.arrival, coalesce(gaps.previous, events.arrival) FROM given
    LEFT JOIN events ON events.arrival = given.previous LEFT JOIN gaps ON gaps.arrival = given.previous
    WHERE events.arrival IS NOT NULL OR gaps.arrival IS NOT NULL
"""
_DELETE_GAPS = "DELETE FROM gaps WHERE arrival IN (SELECT previous FROM given)"
_DELETE_OLD_GAPS = "DELETE FROM gaps WHERE arrival < (SELECT coalesce(min(arrival), 9e18) FROM events)"
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
_SELECT_CARRIERS = """
    SELECT DISTINCT actors.person FROM given CROSS JOIN links CROSS JOIN actors
    WHERE links.identity = given.identity AND actors.actor = links.actor
"""
_SELECT_IDENTITIES = """
    SELECT identities.identity FROM given CROSS JOIN identities WHERE identities.digest = given.digest
"""
_DELETE_IDENTITIES = "DELETE FROM identities WHERE identity IN (SELECT identity FROM given) AND actors <= 0"


def remove_events(store: Store, transaction: Transaction, arrivals: Sequence[int]) -> None:
    """Remove the events of some triggers; actors without any other, and what only they have, go with them."""
    transaction.execute(_LOCK, [])
    select: Select = partial(store.select_given, transaction.execute)
    run: Run = partial(store.run_given, transaction.execute)
    rows = [(arrival,) for arrival in arrivals]
    counts = Counter(actor for (actor,) in select(_SELECT_EVENTS, {"arrival": int}, rows))
    previous = dict(select(_SELECT_PREVIOUS, {"arrival": int}, rows)) if store.has_chains else {}
    run(_DELETE_EVENTS, {"arrival": int}, rows)
    if previous:
        _bridge(run, previous)
        transaction.execute(_DELETE_OLD_GAPS, [])
    run(_COUNT, {"actor": int, "triggers": int}, counts.items())
    gone = dict(select(_SELECT_GONE, {"actor": int}, zip(counts, strict=True)))
    if gone:
        _remove_actors(select, run, gone)
        people = Regrouping(select)
        people.divide(set(gone.values()), ())
        people.settle()
        people.write(run)


def remove_identities(store: Store, transaction: Transaction, digests: Iterable[bytes]) -> None:
    """Remove some identities from all actors that carry them; people whom only they joined are apart again."""
    transaction.execute(_LOCK, [])
    select: Select = partial(store.select_given, transaction.execute)
    run: Run = partial(store.run_given, transaction.execute)
    rows = list(select(_SELECT_IDENTITIES, {"digest": bytes}, zip(digests, strict=True)))
    carriers = {person for (person,) in select(_SELECT_CARRIERS, {"identity": int}, rows)}
    for table in ("links", "identities"):
        run(f"DELETE FROM {table} WHERE identity IN (SELECT identity FROM given)", {"identity": int}, rows)
    people = Regrouping(select)
    people.divide(carriers, ())
    people.settle()
    people.write(run)


def _bridge(run: Run, removed: dict[int, int]) -> None:
    """Let the chains of actors go on across events that were removed from within them.

    Those are not the oldest of their actor when a clock was ahead, or when an identity was erased that many have.
    """
    newest = removed.keys() - removed.values()  # of each part of a chain
    for arrival in sorted(removed):
        removed[arrival] = removed.get(removed[arrival], removed[arrival])
    ends = [(arrival, removed[arrival]) for arrival in newest if removed[arrival]]
    columns = {"arrival": int, "previous": int}
    run(_INSERT_GAPS, columns, ends)
    run(_DELETE_GAPS, columns, ends)


def _remove_actors(select: Select, run: Run, actors: Iterable[int]) -> None:
    rows = [(actor,) for actor in actors]
    identities = Counter(identity for (identity,) in select(_SELECT_LINKS, {"actor": int}, rows))
    run(_COUNT_IDENTITIES, {"identity": int, "actors": int}, identities.items())
    run(_DELETE_IDENTITIES, {"identity": int}, zip(identities, strict=True))
    for table in ("links", "attributes", "actors"):
        run(f"DELETE FROM {table} WHERE actor IN (SELECT actor FROM given)", {"actor": int}, rows)
