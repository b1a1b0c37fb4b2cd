"""`/api/v1/person/` and `/api/v1/people/`: the people that triggers are joined to."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from brockman.collector import strict_json
from brockman.collector.auth import check_key
from brockman.collector.joiner import Joiner
from brockman.collector.query import (
    parse_cursor,
    parse_limit,
    parse_order,
    parse_parameters,
    parse_search,
)
from brockman.collector.responses import json_response
from brockman.collector.settings import Settings
from brockman.collector.store.values import Person, SharedIdentity
from brockman.collector.timestamps import format_timestamp

_LIMIT = 100
_MOST_COLONS = 8  # of an identity, at which it is split
_CURSOR = re.compile(r"(-?[0-9]{1,18})\.([0-9]{1,18})")


def routes(joiner: Joiner, settings: Settings) -> list[Route]:
    api = _Api(joiner, settings)
    return [
        Route("/api/v1/person/", api.person, methods=["GET"]),
        Route("/api/v1/people/", api.people, methods=["GET"]),
    ]


class _Api:
    """The handlers. What was stored before a request is joined before its response, or is `pending`."""

    def __init__(self, joiner: Joiner, settings: Settings) -> None:
        self._joiner = joiner
        self._settings = settings

    async def person(self, request: Request) -> Response:
        check_key(request, self._settings)
        parameters = parse_parameters(request.query_params.multi_items(), _PERSON)
        if ("actor_id" in parameters) == ("identity" in parameters):
            raise HTTPException(400, "give actor_id, or identity as name:value, such as email:ada@example.com")
        return await run_in_threadpool(self._person, parameters)

    async def people(self, request: Request) -> Response:
        check_key(request, self._settings)
        parameters = parse_parameters(request.query_params.multi_items(), _PEOPLE)
        return await run_in_threadpool(self._people, parameters)

    def _person(self, parameters: dict[str, Any]) -> Response:
        pending = self._joiner.catch_up()
        people = self._joiner.people
        found: Person | SharedIdentity | None
        if "actor_id" in parameters:
            found = people.find_actor(parameters["actor_id"])
        else:
            splits = (people.find_identity(name, value) for name, value in parameters["identity"])
            found = next((one for one in splits if one is not None), None)
        if isinstance(found, SharedIdentity):
            text = f"{found.actors} actor ids carry this identity, so it joins nobody; give an actor_id"
            return json_response({"error": text}, 404)
        if found is None:
            return json_response({"error": "no person has it"}, 404)
        timeline = people.timeline(
            found,
            limit=parameters.get("limit", _LIMIT),
            after=parameters.get("after"),
            newest_first=parameters.get("order", True),
        )
        head = show(found, is_whole=True)
        after = None if timeline.next is None else str(timeline.next)
        ends = strict_json.dump({**head, "next": after, "pending": pending})
        # The bodies are JSON already.
        return Response(f'{ends[:-1]},"triggers":[{",".join(timeline.bodies)}]}}', media_type="application/json")

    def _people(self, parameters: dict[str, Any]) -> Response:
        pending = self._joiner.catch_up()
        people = self._joiner.people
        page = people.page(
            search=parameters.get("search"), limit=parameters.get("limit", _LIMIT), after=parameters.get("after")
        )
        return json_response(
            {
                "people": [show(person) for person in page.people],
                "total": page.total,
                "next": None if page.next is None else "{}.{}".format(*page.next),
                "pending": pending,
                "not_joined": _show_shared(people.shared_identities()),
            }
        )


def show(person: Person, *, is_whole: bool = False) -> dict[str, Any]:
    """Return a person as JSON has it: an entry of a list, or the person as a whole."""
    identities = {name: list(map(_parse, values)) for name, values in person.identities.items()}
    more: dict[str, Any] = {"actors": person.actors}
    if is_whole:
        more = {"not_joined": _show_shared(person.not_joined)}
    return {
        "actor_ids": person.actor_ids,
        **more,
        "identities": identities,
        "attributes": {name: _parse(value) for name, value in person.attributes.items()},
        "first_seen": format_timestamp(person.first_seen),
        "last_seen": format_timestamp(person.last_seen),
        "total": person.triggers,
    }


def _show_shared(identities: Iterable[SharedIdentity]) -> list[dict[str, Any]]:
    return [{**asdict(identity), "value": _parse(identity.value)} for identity in identities]


def _parse(value: str) -> Any:
    return strict_json.parse(value.encode())


def _actor_id(name: str, text: str) -> str:
    if not text.strip():
        raise HTTPException(400, f"{name}: empty; give that of a trigger")
    return text


def _identity(name: str, text: str) -> list[tuple[str, str]]:
    """Return the names and values that the text may mean: a name may have colons, too."""
    parts = text.split(":", _MOST_COLONS)
    if not (parts[0] and len(parts) > 1):
        raise HTTPException(400, f"{name}: {text[:40]!a} is no name:value, such as email:ada@example.com")
    names = itertools.accumulate(parts[:-1], "{}:{}".format)
    return [(identity, text[len(identity) + 1 :]) for identity in names]


def _after(name: str, text: str) -> tuple[int, int]:
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise HTTPException(400, f"{name}: {text[:40]!a} is not the next of a page")
    return int(match[1]), int(match[2])


_PERSON = {
    "actor_id": _actor_id,
    "identity": _identity,
    "limit": parse_limit,
    "after": parse_cursor,
    "order": parse_order,
}
_PEOPLE = {"search": parse_search, "limit": parse_limit, "after": _after}
