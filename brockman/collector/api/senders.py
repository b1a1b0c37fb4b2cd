"""`GET /api/v1/senders/`: the processes that send, and whether everything has arrived."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from brockman.collector.auth import check_key
from brockman.collector.query import parse_limit
from brockman.collector.responses import json_response
from brockman.collector.settings import Settings
from brockman.collector.store.base import Store
from brockman.collector.store.senders import FIRST, Senders
from brockman.collector.store.values import Heard
from brockman.collector.timestamps import format_timestamp

_DEFAULT_LIMIT = 100
_SILENT_MICROS = 60 * 1_000_000  # afterwards a sentence says when the sender was last heard of
_CURSOR = re.compile(r"([0-9]{1,18})\.([0-9a-f]{32})")
_TIMES = ("started", "first_seen", "last_seen", "missing_since")


def routes(store: Store, settings: Settings) -> list[Route]:
    """Return the routes of this resource."""
    senders = Senders(store)

    async def send_senders(request: Request) -> Response:
        check_key(request, settings)
        limit, after = _parse(request)
        found = await run_in_threadpool(senders.page, limit + 1, after)
        rest = found[limit:]
        page = found[:limit]
        now = time.time_ns() // 1000
        last = f"{page[-1].last_seen}.{page[-1].id}" if rest else None
        return json_response({"senders": [show(sender, now) for sender in page], "next": last})

    return [Route("/api/v1/senders/", send_senders, methods=["GET"])]


def show(sender: Heard, now: int) -> dict[str, Any]:
    """Return the JSON of a sender."""
    times = {name: getattr(sender, name) for name in _TIMES}
    texts = {name: None if micros is None else format_timestamp(micros) for name, micros in times.items()}
    return {**asdict(sender), **texts, "says": describe(sender, now)}


def describe(sender: Heard, now: int) -> str:
    """Return a sentence that says whether everything has arrived."""
    dropped = sum(sender.dropped.values())
    reasons = ", ".join(f"{reason} {_grouped(number)}" for reason, number in sender.dropped.items() if number)
    parts = [
        f"recorded {_grouped(sender.recorded)}",
        f"recovered {_grouped(sender.recovered)}" if sender.recovered else "",
        f"dropped {_grouped(dropped)}" + (f" ({reasons})" if reasons else ""),
        f"refused {_grouped(sender.refused)}" if sender.refused else "",
        f"arrived {_grouped(sender.arrived)}",
    ]
    text = f"{sender.host or 'a process'}: {', '.join(filter(None, parts))}"
    if sender.missing:
        since = format_timestamp(sender.missing_since or 0)
        text += f"; {_grouped(sender.missing)} that it delivered are missing here since {since}"
    if sender.delivered_before:
        since, number = format_timestamp(sender.first_seen), _grouped(sender.delivered_before)
        text += f"; {number} were delivered before it was first heard of here at {since}"
    if sender.waiting and now - sender.last_seen > _SILENT_MICROS:
        since, verb = format_timestamp(sender.last_seen), "was" if sender.waiting == 1 else "were"
        return f"{text}; {_grouped(sender.waiting)} {verb} waiting when it was last heard of at {since}"
    return f"{text}; {_grouped(sender.waiting)} waiting" if sender.waiting else text


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _parse(request: Request) -> tuple[int, tuple[int, str]]:
    """Return limit and cursor; reject a wrong parameter with 400."""
    given = dict(request.query_params)
    for name in given:
        if name not in ("limit", "after"):
            raise HTTPException(400, f"{name[:40]!a}: unknown parameter; there are limit, after")
    if len(given) < len(request.query_params.multi_items()):
        raise HTTPException(400, "limit or after: given twice; give it once")
    limit = parse_limit("limit", given.get("limit", str(_DEFAULT_LIMIT)))
    if "after" not in given:
        return limit, FIRST
    match = _CURSOR.fullmatch(given["after"])
    if match is None:
        raise HTTPException(400, f"after: {given['after'][:40]!a} is not the next of a page")
    return limit, (int(match[1]), match[2])
