"""The values that `groups` and `download_group` return. Values only: no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Group:
    """A saved filter over people.

    Attributes:
        name: Its name.
        where: Conditions on a person, such as {"attributes.plan": "pro"}.
        did: What a person did, such as [{"action": "viewed", "object": "pricing", "times": 3, "within_days": 30}].
        did_not: What a person did not do.
        created_at: When it was saved first; in UTC.
        updated_at: When it was saved last; in UTC.
    """

    name: str
    where: Mapping[str, Any] = field(default_factory=dict)
    did: Sequence[Mapping[str, Any]] = ()
    did_not: Sequence[Mapping[str, Any]] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True)
class Member:
    """A person in a group: the actors that share identities.

    Attributes:
        actor_ids: Actor ids, the last seen first; at most 10.
        actors: How many there are.
        identities: The values of each identity, such as {"email": ["ada@example.com"]}; at most 10 in all.
        attributes: The latest value of each attribute, such as {"plan": "pro"}.
        first_seen: The time of the first trigger; in UTC.
        last_seen: The time of the last one.
        total: How many triggers there are.
    """

    actor_ids: Sequence[str]
    actors: int = 1
    identities: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    first_seen: datetime | None = None
    last_seen: datetime | None = None
    total: int = 0
