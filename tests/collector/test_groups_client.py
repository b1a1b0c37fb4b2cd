"""A client and a collector: triggers recorded, a group saved, its members downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from brockman.client import FocusLabClient
from brockman.exceptions import BadAPIKey, BadRequest, ResourceNotFound
from tests.collector.running import Running
from tests.support.client import KEY
from tests.support.waiting import eventually


@pytest.fixture
def started(start: Callable[..., Running], location: str) -> Running:
    """A collector on each engine."""
    return start(database=location)


@pytest.fixture
def client(started: Running) -> Iterator[FocusLabClient]:
    with closing(FocusLabClient(KEY, started.endpoint)) as client:
        yield client


def is_joined(started: Running) -> bool:
    """Return whether all that is stored is joined to its person."""
    return bool(started.get("people/").json()["pending"] == 0)


def test_those_who_did_it_are_downloaded(client: FocusLabClient, started: Running) -> None:
    """The way of the documentation: record, save, download, over more than one page."""
    for number in range(2500):
        client.record_trigger(number, "viewed", "pricing", {"email": f"{number}@example.com"}, {"plan": "pro"})
    client.record_trigger(7, "paid", "order")
    client.record_trigger("laptop", "viewed", "docs", {"email": "8@example.com"})
    assert client.flush(30)
    assert eventually(lambda: is_joined(started))
    saved = client.save_group(
        "hot leads, 2026",
        where={"attributes.plan": "pro"},
        did=[{"action": "viewed", "object": "pricing", "within_days": 1}],
        did_not=[{"action": "paid"}],
    )
    assert client.groups() == [saved]
    members = list(client.download_group(saved.name))
    assert len(members) == 2499
    assert {one for member in members for one in member.identities["email"]} == {
        f"{number}@example.com" for number in range(2500) if number != 7
    }
    assert [sorted(member.actor_ids) for member in members if member.actors > 1] == [["8", "laptop"]]
    assert all(member.first_seen == member.last_seen for member in members if member.total == 1)


def test_mistakes_are_named(client: FocusLabClient, started: Running) -> None:
    """A wrong definition, a name that no group can have, an unknown group, a wrong key."""
    with pytest.raises(BadRequest, match=r"did\[0\].times: 'three' should be a whole number"):
        client.save_group("a", did=[{"action": "viewed", "times": "three"}])
    with pytest.raises(BadRequest, match="name: 'a/b' should be"):
        client.save_group("a/b")
    with pytest.raises(ResourceNotFound, match=r"no group 'a': .*there is no group 'a'"):
        next(client.download_group("a"))
    with closing(FocusLabClient("wrong", started.endpoint)) as other, pytest.raises(BadAPIKey):
        other.groups()
