"""`DELETE person/`: erases what is stored about a person."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from brockman.collector.auth import check_key
from brockman.collector.joiner import Joiner
from brockman.collector.responses import json_response
from brockman.collector.settings import Settings
from brockman.collector.store.base import Store
from brockman.collector.store.erasure import Erased, Erasure

_LISTED = 100  # actor ids in a response
_NAMES = ("actor_id", "identity", "dry_run")


def routes(store: Store, settings: Settings, joiner: Joiner) -> list[Route]:
    people = joiner.people
    erasure = Erasure(store, people.find_actors, only_joining=people.only_joining)

    def run(person: dict[str, Any]) -> Erased:
        joiner.catch_up()
        return erasure.run(**person)

    async def erase(request: Request) -> Response:
        check_key(request, settings)
        person = parse_person(request.query_params.multi_items())
        return json_response(describe(await run_in_threadpool(run, person)))

    return [Route("/api/v1/person/", erase, methods=["DELETE"])]


def describe(erased: Erased) -> dict[str, Any]:
    """Return the content of a response."""
    return {
        "triggers": erased.triggers,
        "actor_ids": sorted(erased.actor_ids)[:_LISTED],
        "actors": len(erased.actor_ids),
        "identities": len(erased.identities),
        **erased.others,
        "overwritten": erased.is_overwritten,
    }


def parse_person(parameters: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Parse the query string: `actor_id` or `identity`, and perhaps `dry_run`; reject others with 400."""
    given: dict[str, str] = {}
    for name, text in parameters:
        if name not in _NAMES:
            raise HTTPException(400, f"{name[:40]!a}: unknown parameter; there are {', '.join(_NAMES)}")
        if name in given:
            raise HTTPException(400, f"{name}: given twice; give it once")
        given[name] = text
    is_trial = given.pop("dry_run", "no")
    if is_trial not in ("yes", "no"):
        raise HTTPException(400, f"dry_run: {is_trial[:40]!a} is not yes or no")
    if len(given) != 1:
        raise HTTPException(400, "actor_id, identity: give one of them")
    ((name, text),) = given.items()
    if name == "actor_id":
        if not text.strip():
            raise HTTPException(400, "actor_id: empty; give that of a trigger")
        return {"actor_id": text, "is_trial": is_trial == "yes"}
    key, colon, value = text.partition(":")
    if not colon or not key or not value:
        raise HTTPException(400, f"identity: {text[:40]!a} is no name and value, such as email:ada@example.com")
    return {"identity": (key, value), "is_trial": is_trial == "yes"}
