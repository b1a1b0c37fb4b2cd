"""Removes what is known of people from triggers that are no longer stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import partial

from brockman.collector.store.base import Execute, Store, Transaction
from brockman.collector.store.chains import relink
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
_SELECT_LINKS = "SELECT links.identity, links.actor FROM given CROSS JOIN links WHERE links.actor = given.actor"
_DELETE_LINKS = "DELETE FROM links WHERE (identity, actor) IN (SELECT identity, actor FROM given)"
_COUNT_IDENTITIES = """
    UPDATE identities SET actors = identities.actors - given.actors FROM given
    WHERE identities.identity = given.identity
"""
_DELETE_IDENTITIES = "DELETE FROM identities WHERE identity IN (SELECT identity FROM given) AND actors <= 0"
_SELECT_UNUSED = "SELECT kind FROM kinds WHERE NOT EXISTS (SELECT 1 FROM events WHERE events.kind = kinds.kind)"
_DELETE_UNUSED = f"DELETE FROM kinds WHERE kind IN (SELECT kind FROM given) AND kind IN ({_SELECT_UNUSED})"


def lock(execute: Execute) -> None:
    """Let no collector join until the end of the transaction, nor write what it has read before."""
    execute(_LOCK, [])


def remove_events(store: Store, transaction: Transaction, arrivals: Sequence[int]) -> None:
    """Remove the events of some triggers; actors without any other, and what only they have, go with them."""
    lock(transaction.execute)
    select: Select = partial(store.select_given, transaction.execute)
    run: Run = partial(store.run_given, transaction.execute)
    rows = [(arrival,) for arrival in arrivals]
    counts = Counter(actor for (actor,) in select(_SELECT_EVENTS, {"arrival": int}, rows))
    if store.has_chains:
        relink(transaction.execute, select, run, arrivals)
    run(_DELETE_EVENTS, {"arrival": int}, rows)
    run(_COUNT, {"actor": int, "triggers": int}, counts.items())
    gone = dict(select(_SELECT_GONE, {"actor": int}, zip(counts, strict=True)))
    if gone:
        _remove_actors(select, run, gone)
        divide(select, run, set(gone.values()))


def remove_links(run: Run, links: Collection[tuple[int, int]]) -> None:
    """Remove identities from actors, by their numbers; identities that no actor carries go with them."""
    identities = Counter(identity for identity, _ in links)
    run(_DELETE_LINKS, {"identity": int, "actor": int}, links)
    run(_COUNT_IDENTITIES, {"identity": int, "actors": int}, identities.items())
    run(_DELETE_IDENTITIES, {"identity": int}, zip(identities, strict=True))


def divide(select: Select, run: Run, people: Collection[int]) -> None:
    """Divide people whose actors are no longer joined."""
    regrouping = Regrouping(select)
    regrouping.divide(people, ())
    regrouping.settle()
    regrouping.write(run)


def remove_unused_kinds(store: Store) -> None:
    """Remove the actions and objects of which no event is left."""
    with store.reading() as snapshot:
        unused = [(int(kind),) for (kind,) in snapshot.execute(_SELECT_UNUSED, [])]

    def remove(transaction: Transaction) -> None:
        lock(transaction.execute)
        store.run_given(transaction.execute, _DELETE_UNUSED, {"kind": int}, unused)

    if unused:
        store.write(remove)


def _remove_actors(select: Select, run: Run, actors: Iterable[int]) -> None:
    rows = [(actor,) for actor in actors]
    remove_links(run, list(select(_SELECT_LINKS, {"actor": int}, rows)))
    for table in ("attributes", "actors"):
        run(f"DELETE FROM {table} WHERE actor IN (SELECT actor FROM given)", {"actor": int}, rows)
