"""From a request body to rows for the store and errors for the client. No I/O.

A body is one trigger (an object) or several (an array of objects).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException

from brockman.collector import strict_json
from brockman.collector.validation import InvalidTrigger, Row, make_row

MAX_TRIGGERS = 10_000  # in one request
# A client reads 64 KiB of a response, which has room for this many errors.
MAX_ERRORS = 1200
_ERRORS_BYTES = 60 * 1024
_FRAME_BYTES = len('{"accepted":10000,"rejected":[]}')
_ENTRY_BYTES = len('{"index":9999,"error":""},')


@dataclass(frozen=True, slots=True)
class ParsedBody:
    """The triggers of a request body, validated."""

    is_array: bool
    rows: list[Row] = field(default_factory=list)
    errors: list[tuple[int, str]] = field(default_factory=list)  # index in the array, and the reason


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
    if len(parsed.errors) > MAX_ERRORS:
        index, text = parsed.errors[0]
        raise HTTPException(
            400,
            f"{len(parsed.errors)} of {len(triggers)} triggers are invalid, too many to list; none is stored; "
            f"send at most {MAX_ERRORS} at a time. The first is index {index}: {text}",
        )
    return parsed


def rejected_entries(errors: Sequence[tuple[int, str]]) -> list[dict[str, int | str]]:
    """Return the `rejected` list of a 207, for 1 to `MAX_ERRORS` errors. Texts are cut to fit into 60 KiB."""
    share = (_ERRORS_BYTES - _FRAME_BYTES) // len(errors) - _ENTRY_BYTES  # bytes for each text
    return [{"index": index, "error": text.encode()[:share].decode(errors="ignore")} for index, text in errors]
