"""The values that go into a store and come out of it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Query:
    """A query. Filters that are not None are combined with AND."""

    actor_id: str | None = None
    action: str | None = None
    object: str | None = None
    id: str | None = None
    since: int | None = None  # microseconds since 1970; recorded at this time or later
    until: int | None = None  # microseconds since 1970; recorded before it
    search: str | None = None  # somewhere in the trigger's JSON, as text; A to Z match a to z
    limit: int = 100
    after: int | None = None  # arrival number of the last trigger of the page before; None: the first page
    newest_first: bool = False
    count: bool = True  # how many match, on all pages; without an index it reads through all triggers


@dataclass(frozen=True, slots=True)
class Page:
    """Triggers in the order of their arrival, or in the reverse order."""

    bodies: list[str]  # the JSON text of each
    arrivals: list[int]  # the arrival number of each: a cursor, to be given as `after`
    total: int | None  # how many match, on all pages; None if that was not asked
    newest: int  # arrival number of the newest trigger, whether it matches or not; 0 if there is none
    next: int | None  # the `after` of the next page; None on the last


@dataclass(frozen=True, slots=True)
class Added:
    """The result of storing the triggers of one request."""

    stored: int  # new ones
    repeated: tuple[str, ...]  # an id for each that was dropped: stored before, or earlier in the same request


@dataclass(frozen=True, slots=True)
class Overview:
    """The newest triggers in numbers."""

    minutes: list[tuple[int, int]]  # seconds since 1970 at the start of a minute, and the triggers received in it
    actions: list[tuple[str, int]]  # the most frequent first
    objects: list[tuple[str, int]]
    is_partial: bool  # more triggers were received in this time than are counted


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of a store since it was made."""

    triggers: int  # stored, and not removed since
    duplicates: int  # dropped: a trigger with that id was stored before
    rejected: int  # invalid, in requests that were accepted
    requests: int  # accepted: 201 or 207
    removed: int = 0  # because of their age, of the size of the store, or to erase a person
