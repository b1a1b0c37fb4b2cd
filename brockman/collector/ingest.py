"""From a request body to rows for the store and errors for the client. No I/O.

A body is one trigger (an object) or several (an array of objects). What is refused of it is kept with its reason,
and what is no trigger as text.
"""

from __future__ import annotations

import codecs
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException

from brockman.collector import strict_json
from brockman.collector.request_body import inflate
from brockman.collector.store.refused import Refusal
from brockman.collector.validation import InvalidTrigger, Row, make_row, parse_uuid

MAX_TRIGGERS = 10_000  # in one request
# A client reads 64 KiB of a response, which has room for this many errors.
MAX_ERRORS = 1200
_ERRORS_BYTES = 60 * 1024
_FRAME_BYTES = len('{"accepted":10000,"rejected":[]}')
_ENTRY_BYTES = len('{"index":9999,"error":""},')
MAX_TEXT_BYTES = 64 * 1024  # of what is no trigger
_MAX_DEPTH = 16  # of what is nested too deeply


@dataclass(frozen=True, slots=True)
class ParsedBody:
    """The triggers of a request body, validated."""

    is_array: bool
    rows: list[Row] = field(default_factory=list)
    errors: list[tuple[int, str]] = field(default_factory=list)  # index in the array, and the reason
    refused: list[Refusal] = field(default_factory=list)  # the same triggers


class RefusedBody(HTTPException):
    """Raised when nothing in a request is stored, with what is to be kept of it."""

    def __init__(self, text: str, refused: Sequence[Refusal]) -> None:
        super().__init__(400, text)
        self.refused = refused


def parse_body(body: bytes, received_at: int, *, is_gzip: bool, max_bytes: int) -> ParsedBody:
    """Decompress and parse a body, and validate each trigger in it.

    Raises:
        HTTPException: 413.
        RefusedBody: If it is nothing that has triggers, the only trigger is invalid, or too many are.
    """
    try:
        parsed = read_triggers(inflate(body, max_bytes) if is_gzip else body, received_at)
    except HTTPException as error:
        if error.status_code != 400 or isinstance(error, RefusedBody):
            raise
        refusal = Refusal(error.detail, received_at, text=_start_of(body))
        raise RefusedBody(error.detail, [refusal]) from None
    if parsed.errors and not parsed.is_array:
        raise RefusedBody(parsed.errors[0][1], parsed.refused)
    return parsed


def read_triggers(body: bytes, received_at: int) -> ParsedBody:
    """Parse a decompressed body and validate each trigger in it; HTTPException rejects the whole request."""
    try:
        value = strict_json.parse(body)
    except ValueError as error:
        raise HTTPException(400, f"the body is not JSON in UTF-8: {error}"[:200]) from None
    parsed = ParsedBody(is_array=type(value) is list)
    triggers = value if parsed.is_array else [value]
    if not triggers:
        raise HTTPException(400, "the array is empty; send at least one trigger")
    if len(triggers) > MAX_TRIGGERS:
        raise HTTPException(413, f"the array has {len(triggers)} triggers; send at most {MAX_TRIGGERS}")
    for index, trigger in enumerate(triggers):
        try:
            parsed.rows.append(make_row(trigger, received_at, lambda: str(uuid.uuid4())))
        except InvalidTrigger as error:
            parsed.errors.append((index, str(error)))
            parsed.refused.append(_refuse(trigger, str(error), received_at))
    if len(parsed.errors) > MAX_ERRORS:
        index, text = parsed.errors[0]
        raise RefusedBody(
            f"{len(parsed.errors)} of {len(triggers)} triggers are invalid, too many to list; none is stored; "
            f"send at most {MAX_ERRORS} at a time. The first is index {index}: {text}",
            parsed.refused,
        )
    return parsed


def _refuse(trigger: Any, reason: str, received_at: int) -> Refusal:
    """Return what is kept of an invalid trigger. One without an id gets one, to be sent again under it."""
    if type(trigger) is not dict:
        return Refusal(reason, received_at, text=_show(trigger))
    trigger_id = trigger.get("id")
    if trigger_id is None:
        trigger_id = trigger["id"] = str(uuid.uuid4())
    actor_id, action, obj = (
        value if isinstance(value := trigger.get(name), str) else None for name in ("actor_id", "action", "object")
    )
    try:
        body, text = strict_json.dump(trigger), None
    except ValueError:
        body, text = None, _show(trigger)
    canonical = parse_uuid(trigger_id) if isinstance(trigger_id, str) else None
    return Refusal(reason, received_at, body, text, canonical, actor_id, action, obj)


def _show(value: Any) -> str:
    """Return the start of a value's JSON, without what is nested too deeply."""
    return _start_of(strict_json.dump(_without_depths(value, _MAX_DEPTH)).encode())


def _without_depths(value: Any, depth: int) -> Any:
    if not isinstance(value, (list, dict)) or not value:
        return value
    if not depth:
        return "…"
    if isinstance(value, list):
        return [_without_depths(element, depth - 1) for element in value]
    return {name: _without_depths(element, depth - 1) for name, element in value.items()}


def _start_of(body: bytes) -> str:
    """Return the start of a body as text, whatever it is."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return decoder.decode(body[:MAX_TEXT_BYTES], final=len(body) <= MAX_TEXT_BYTES)


def rejected_entries(errors: Sequence[tuple[int, str]]) -> list[dict[str, int | str]]:
    """Return the `rejected` list of a 207, for 1 to `MAX_ERRORS` errors. Texts are cut to fit into 60 KiB."""
    share = (_ERRORS_BYTES - _FRAME_BYTES) // len(errors) - _ENTRY_BYTES  # bytes for each text
    return [{"index": index, "error": text.encode()[:share].decode(errors="ignore")} for index, text in errors]
