"""Groups: list, save, remove, and read the members."""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from brockman.collector import strict_json
from brockman.collector.api.members import MemberTable
from brockman.collector.api.people import show
from brockman.collector.auth import check_key
from brockman.collector.groups import Definition, InvalidGroup, check_name, parse_definition
from brockman.collector.joiner import Joiner
from brockman.collector.query import parse_cursor, parse_limit, parse_parameters
from brockman.collector.request_body import check_headers, inflate, read_body
from brockman.collector.responses import json_response
from brockman.collector.settings import Settings
from brockman.collector.store.base import Store
from brockman.collector.store.groups import MAX_GROUPS, Group, Groups, TooManyGroups
from brockman.collector.store.values import Person
from brockman.collector.timestamps import format_timestamp

MAX_DEFINITION_BYTES = 256 * 1024
_DEFAULT_LIMIT = 100
_AT_ONCE = 500  # people that are read in a snapshot
_MEDIA_TYPES = {"csv": "text/csv", "ndjson": "application/x-ndjson"}


def routes(store: Store, joiner: Joiner, settings: Settings) -> list[Route]:
    api = _Api(store, joiner, settings)
    path = "/api/v1/group/{name:path}/"  # a name with a slash is not valid, and gets the reason
    return [
        Route("/api/v1/group/", api.all, methods=["GET"]),
        Route(path, api.members, methods=["GET"]),
        Route(path, api.save, methods=["PUT"]),
        Route(path, api.delete, methods=["DELETE"]),
    ]


class _Api:
    """The handlers. The store is used in a worker thread."""

    def __init__(self, store: Store, joiner: Joiner, settings: Settings) -> None:
        self._store = store
        self._joiner = joiner
        self._settings = settings
        self._groups = Groups(store)

    async def all(self, request: Request) -> Response:
        check_key(request, self._settings)
        parse_parameters(request.query_params.multi_items(), {})
        groups = await run_in_threadpool(self._groups.all)
        return json_response({"groups": [_show_group(group) for group in groups]})

    async def members(self, request: Request) -> Response:
        check_key(request, self._settings)
        parsers = {"limit": parse_limit, "after": parse_cursor, "format": _parse_format}
        parameters = parse_parameters(request.query_params.multi_items(), parsers)
        return await run_in_threadpool(self._members, _name_of(request), **parameters)

    async def save(self, request: Request) -> Response:
        check_key(request, self._settings)
        parse_parameters(request.query_params.multi_items(), {})
        is_gzip = check_headers(request, MAX_DEFINITION_BYTES)
        body = await read_body(request, MAX_DEFINITION_BYTES, self._settings.body_timeout)
        return await run_in_threadpool(self._save, _name_of(request), body, is_gzip)

    async def delete(self, request: Request) -> Response:
        check_key(request, self._settings)
        parse_parameters(request.query_params.multi_items(), {})
        name = _name_of(request)
        if not await run_in_threadpool(self._groups.delete, name):
            raise _unknown(name)
        return Response(status_code=204)

    def _save(self, name: str, body: bytes, is_gzip: bool) -> Response:
        if is_gzip:
            body = inflate(body, MAX_DEFINITION_BYTES)
        try:
            value = strict_json.parse(body)
        except ValueError as error:
            raise HTTPException(400, f"the body is not JSON: {error}") from None
        try:
            parse_definition(value)
        except InvalidGroup as error:
            raise HTTPException(400, str(error)) from None
        definition = strict_json.dump({"where": {}, "did": [], "did_not": [], **value})
        try:
            is_new = self._groups.put(name, definition, time.time_ns() // 1000)
        except TooManyGroups:
            text = f"there are {MAX_GROUPS} groups, and {name!a} is not one of them; delete one first"
            raise HTTPException(409, text) from None
        return json_response(_show_group(self._find(name)), 201 if is_new else 200)

    def _members(
        self, name: str, limit: int | None = None, after: int | None = None, format: str = "json"
    ) -> Response:
        group = self._find(name)
        pending = self._joiner.catch_up()
        numbers = self._groups.members(_parse(group), time.time_ns() // 1000)
        total = len(numbers)
        numbers = numbers[0 if after is None else bisect_right(numbers, after) :]
        if format != "json":
            lines = (self._csv if format == "csv" else self._lines)(numbers[:limit])
            return StreamingResponse(lines, headers=_download(name, format), media_type=_MEDIA_TYPES[format])
        page, count = list[str](), limit or _DEFAULT_LIMIT
        last = self._fill(page, numbers[:count])
        head = strict_json.dump({"name": name, **strict_json.parse(group.definition.encode()), "total": total})
        ends = {"next": None if not numbers or last == numbers[-1] else str(last), "pending": pending}
        content = f'{head[:-1]},"members":[{",".join(page)}],{strict_json.dump(ends)[1:]}'
        return Response(content, media_type="application/json")

    def _fill(self, page: list[str], numbers: array[int]) -> int:
        """Append the JSON of people to a page until it has many bytes; return the last number."""
        size = 0
        for people in self._read(numbers):
            for person in people:
                page.append(strict_json.dump(show(person)))
                size += len(page[-1])
                if size > self._store.max_page_bytes:
                    return person.number
        return numbers[-1] if numbers else 0

    def _read(self, numbers: array[int]) -> Iterator[list[Person]]:
        for begin in range(0, len(numbers), _AT_ONCE):
            with self._store.reading() as snapshot:
                people = self._joiner.people.read(snapshot, numbers[begin : begin + _AT_ONCE])
            yield people

    def _lines(self, numbers: array[int]) -> Iterator[str]:
        for people in self._read(numbers):
            yield "".join(f"{strict_json.dump(show(person))}\n" for person in people)

    def _csv(self, numbers: array[int]) -> Iterator[str]:
        table = MemberTable(*self._groups.names())
        yield table.header()
        for people in self._read(numbers):
            yield table.rows(map(show, people))

    def _find(self, name: str) -> Group:
        group = self._groups.get(name)
        if group is None:
            raise _unknown(name)
        return group


def _parse(group: Group) -> Definition:
    return parse_definition(strict_json.parse(group.definition.encode()))


def _show_group(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        **strict_json.parse(group.definition.encode()),
        "created_at": format_timestamp(group.created_at),
        "updated_at": format_timestamp(group.updated_at),
    }


def _name_of(request: Request) -> str:
    """Return the name in the path; reject one that no group can have."""
    try:
        return check_name(request.path_params["name"])
    except InvalidGroup as error:
        raise HTTPException(400, str(error)) from None


def _unknown(name: str) -> HTTPException:
    return HTTPException(404, f"there is no group {name!a}")


def _parse_format(name: str, text: str) -> str:
    if text not in ("json", *_MEDIA_TYPES):
        raise HTTPException(400, f"{name}: {text[:40]!a} is not json, csv or ndjson")
    return text


def _download(name: str, format: str) -> dict[str, str]:
    """Return the header that names the file (RFC 6266), for programs that know no other characters too."""
    plain = "".join(one if one.isascii() and (one.isalnum() or one in "-_. ") else "_" for one in name)
    quoted = quote(f"{name}.{format}", safe="")
    return {"Content-Disposition": f"attachment; filename=\"{plain}.{format}\"; filename*=UTF-8''{quoted}"}
