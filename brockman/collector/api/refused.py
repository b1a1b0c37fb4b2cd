"""`/api/v1/refused/`: the refused triggers that are kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from brockman.collector import strict_json
from brockman.collector.auth import check_key
from brockman.collector.query import parse_cursor, parse_limit, parse_order
from brockman.collector.responses import json_response
from brockman.collector.settings import Settings
from brockman.collector.store.refused import Refusal, Refused, RefusedPage, RefusedQuery
from brockman.collector.timestamps import format_timestamp

_FILTERS = ("action", "object", "actor_id", "reason", "number")
_PAGES = ("limit", "after", "order")
_ALL = "all"
MAX_NUMBERS = 1000  # in one request

# From ids to `{"id", "host", "pid"}`, for those that are known.
FindSenders = Callable[[Collection[str]], Mapping[str, Mapping[str, Any]]]


def routes(refused: Refused, settings: Settings, find_senders: FindSenders = lambda ids: {}) -> list[Route]:
    """Return the routes; `find_senders` describes the senders of what is on a page."""
    api = _Api(refused, settings, find_senders)
    return [
        Route("/api/v1/refused/", api.list, methods=["GET"]),
        Route("/api/v1/refused/", api.remove, methods=["DELETE"]),
    ]


class _Api:
    def __init__(self, refused: Refused, settings: Settings, find_senders: FindSenders) -> None:
        self._refused = refused
        self._settings = settings
        self._find_senders = find_senders

    async def list(self, request: Request) -> Response:
        check_key(request, self._settings)
        query = parse_query(request.query_params.multi_items(), (*_FILTERS, *_PAGES))
        return await run_in_threadpool(self._list, query)

    async def remove(self, request: Request) -> Response:
        check_key(request, self._settings)
        given = request.query_params.multi_items()
        names = (*_FILTERS, _ALL)
        if not given:
            raise HTTPException(400, f"nothing is named; give {', '.join(_FILTERS)}, or all=yes")
        if (_ALL, "yes") in given and len(given) > 1:
            raise HTTPException(400, f"{_ALL}: given with another parameter; give it alone")
        query = parse_query(given, names)
        return json_response({"removed": await run_in_threadpool(self._refused.remove, query)})

    def _list(self, query: RefusedQuery) -> Response:
        page = self._refused.page(query)
        senders = self._find_senders({one.sender_id for _, one in page.refused if one.sender_id})
        return Response(_dump(page, senders), media_type="application/json")


def parse_query(parameters: Iterable[tuple[str, str]], names: Collection[str]) -> RefusedQuery:
    """Parse a query string; reject an unknown, repeated or malformed parameter with 400."""
    values: dict[str, Any] = {}
    for name, text in parameters:
        if name not in names:
            raise HTTPException(400, f"{name[:40]!a}: unknown parameter; there are {', '.join(names)}")
        if name in values:
            raise HTTPException(400, f"{name}: given twice; give it once")
        if name == _ALL and text != "yes":
            raise HTTPException(400, f"{name}: {text[:40]!a} is not yes")
        values[name] = _PARSERS[name](name, text) if name in _PARSERS else text
    values.pop(_ALL, None)
    numbers, newest_first = values.pop("number", ()), values.pop("order", True)
    return RefusedQuery(numbers=numbers, newest_first=newest_first, **values)


def _numbers(name: str, text: str) -> tuple[int, ...]:
    """Return the numbers in a list such as `17,18`."""
    numbers = text.split(",", MAX_NUMBERS)
    if len(numbers) > MAX_NUMBERS:
        raise HTTPException(400, f"{name}: more than {MAX_NUMBERS}; give at most that")
    return tuple(parse_cursor(name, number) for number in numbers)


_PARSERS: dict[str, Callable[[str, str], Any]] = {
    "number": _numbers,
    "limit": parse_limit,
    "after": parse_cursor,
    "order": parse_order,
}


def _dump(page: RefusedPage, senders: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a page as JSON; the triggers in it are JSON already."""
    dump = strict_json.dump
    refused = ",".join([_dump_one(number, refusal, senders) for number, refusal in page.refused])
    after = None if page.next is None else str(page.next)
    ends = dump({"total": page.total, "next": after, "newest": str(page.newest), "removed": page.removed})
    return f'{{"refused":[{refused}],{ends[1:]}'


def _dump_one(number: int, refusal: Refusal, senders: Mapping[str, Mapping[str, Any]]) -> str:
    sender = senders.get(refusal.sender_id or "")
    head = strict_json.dump(
        {
            "number": number,
            "reason": refusal.reason,
            "received_at": format_timestamp(refusal.received_at),
            "sender": sender if sender is not None or refusal.sender_id is None else {"id": refusal.sender_id},
            "text": refusal.text,
        }
    )
    return f'{head[:-1]},"trigger":{refusal.body or "null"}}}'
