"""The values that go into a store and come out of it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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
    max_bytes: int | None = None  # the page ends after the trigger that exceeds it; None: as the store has it
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
    # A search that took long ends with a page that is not full: up to which moment of receipt it came.
    searched_to: int | None = None


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


@dataclass(frozen=True, slots=True)
class SharedIdentity:
    """An identity that joins nobody: too many actors carry it, or it is a placeholder."""

    name: str
    value: str  # JSON
    actors: int


@dataclass(frozen=True, slots=True)
class Person:
    number: int  # until it is joined with another
    actors: int
    triggers: int
    first_seen: int  # microseconds since 1970: the earliest recorded_at
    last_seen: int
    actor_ids: list[str] = field(
        default_factory=list
    )  # the last seen first; the rest may have fewer than there are
    identities: dict[str, list[str]] = field(default_factory=dict)  # values as JSON
    attributes: dict[str, str] = field(default_factory=dict)  # the latest value as JSON
    not_joined: list[SharedIdentity] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PeoplePage:
    """People, the last seen first."""

    people: list[Person]
    total: int  # on all pages
    next: tuple[int, int] | None  # the `after` of the next page: last_seen and number of the last person


@dataclass(frozen=True, slots=True)
class Timeline:
    """Triggers of a person in the order of their arrival, or in the reverse order."""

    bodies: list[str]  # the JSON text of each
    next: int | None  # the `after` of the next page


@dataclass(frozen=True, slots=True)
class SenderCounts:
    """The counts of a client when it made a request, the triggers of that request among those that wait.

    They add up: `recorded + recovered = delivered + rejected + sum(dropped.values()) + waiting`.
    """

    recorded: int
    recovered: int  # left in the spool by processes that are gone
    delivered: int
    rejected: int
    waiting: int
    dropped: Mapping[str, int]  # by reason


@dataclass(frozen=True, slots=True)
class Sender:
    """A process that sends, as one of its requests describes it."""

    id: str  # 32 hexadecimal digits
    host: str
    pid: int
    started: int  # microseconds since 1970: when it began to count
    heard_at: int  # microseconds since 1970: when the request was received
    counts: SenderCounts | None  # None: the trigger is not among those it counts


@dataclass(frozen=True, slots=True)
class Heard:
    """A sender whose counts are known, and what came of its triggers. The numbers add up::

    recorded + recovered = delivered_before + arrived + missing + refused + sum(dropped.values()) + waiting
    """

    id: str
    host: str
    pid: int
    started: int
    first_seen: int  # microseconds since 1970
    last_seen: int
    recorded: int
    recovered: int
    delivered: int  # by its own word, when it made the last request
    rejected: int  # by its own word, too
    dropped: Mapping[str, int]
    waiting: int  # after its last request
    arrived: int  # each trigger once, however often it was sent
    stored: int  # of those arrived, the ones that no other sender had sent before
    refused: int
    delivered_before: int  # before it was first heard of in this store
    missing: int  # delivered since then, by its own word, and not arrived
    missing_since: int | None  # when it was last heard of before any was missing
