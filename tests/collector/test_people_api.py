"""`GET /api/v1/person/` and `/api/v1/people/`, as a client sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.collector.running import Running, trigger


def person(collector: Running, **parameters: str) -> dict[str, Any]:
    answer = collector.get("person/", **parameters)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["pending"] == 0
    return dict(found)


@pytest.fixture
def started(start: Callable[..., Running], location: str) -> Running:
    """A collector on each engine."""
    return start(database=location)


def test_actor_ids_that_share_an_identity_are_one_person(started: Running) -> None:
    """At once; also when a later trigger joins two people that were there before."""
    ada = trigger(
        actor_id="cookie-1", recorded_at="2026-11-23T10:00:00Z", captured_identities={"email": "ada@example.com"}
    )
    phone = trigger(actor_id="phone", recorded_at="2026-11-21T10:00:00Z", captured_identities={"user": 42})
    started.post([ada, phone])
    assert person(started, actor_id="phone")["actor_ids"] == ["phone"]
    both = trigger(
        actor_id="cookie-2",
        recorded_at="2026-11-22T10:00:00Z",
        captured_identities={"email": " Ada@Example.com", "user": "42"},
        captured_attributes={"plan": "pro"},
    )
    started.post(both)
    found = person(started, identity="email:ADA@example.com")
    assert found.pop("triggers") == [both, phone, ada]
    assert found == {
        "actor_ids": ["cookie-1", "cookie-2", "phone"],
        "identities": {"email": ["ada@example.com"], "user": ["42"]},
        "attributes": {"plan": "pro"},
        "first_seen": "2026-11-21T10:00:00.000000Z",
        "last_seen": "2026-11-23T10:00:00.000000Z",
        "not_joined": [],
        "total": 3,
        "next": None,
        "pending": 0,
    }
    assert person(started, actor_id="phone")["actor_ids"] == found["actor_ids"]
