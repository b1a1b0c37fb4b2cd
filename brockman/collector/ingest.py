"""From the bytes of a request body to rows for the store and verdicts for the sender. Pure.

A body is one trigger (an object) or several (an array of objects).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from brockman.collector import strict_json
from brockman.collector.errors import Refusal
from brockman.collector.validation import InvalidTrigger, Row, make_row

MAX_TRIGGERS = 10_000  # in one request
# A client reads 64 KiB of an answer. Verdicts on more triggers than this would not fit into one.
MAX_VERDICTS = 1200
_VERDICTS_BYTES = 60 * 1024
_FRAME_BYTES = len('{"accepted":10000,"rejected":[]}')
_ENTRY_BYTES = len('{"index":9999,"error":""},')


@dataclass(frozen=True, slots=True)
class Intake:
    """What a request body came to."""

    is_array: bool
    rows: list[Row]
    errors: list[tuple[int, str]]  # position in the array, counted from 0, and what is wrong there


def new_uuid() -> str:
    """Return a random UUID."""
    return str(uuid.uuid4())


def read_triggers(body: bytes, received_at: int, new_id: Callable[[], str] = new_uuid) -> Intake:
    """Judge every trigger in a request body.

    Args:
        body: The body, decompressed.
        received_at: Microseconds since 1970.
        new_id: Makes a UUID for a trigger without one.

    Raises:
        Refusal: When the request is refused as a whole.
    """
    try:
        parsed = strict_json.parse(body)
    except ValueError as error:
        raise Refusal(400, f"the body is not JSON in UTF-8: {error}"[:200]) from None
    if type(parsed) is not list:
        return _judge([parsed], received_at, new_id, is_array=False)
    if not parsed:
        raise Refusal(400, "the array is empty; give at least one trigger")
    if len(parsed) > MAX_TRIGGERS:
        raise Refusal(413, f"the array has {len(parsed)} triggers; give at most {MAX_TRIGGERS}")
    intake = _judge(parsed, received_at, new_id, is_array=True)
    if len(intake.errors) > MAX_VERDICTS:
        index, text = intake.errors[0]
        raise Refusal(
            400,
            f"{len(intake.errors)} of {len(parsed)} triggers are refused, too many to name each; none is stored; "
            f"give at most {MAX_VERDICTS} at a time. The first is index {index}: {text}",
        )
    return intake


def _judge(triggers: list[Any], received_at: int, new_id: Callable[[], str], *, is_array: bool) -> Intake:
    intake = Intake(is_array, [], [])
    for index, trigger in enumerate(triggers):
        try:
            intake.rows.append(make_row(trigger, received_at, new_id))
        except InvalidTrigger as error:
            intake.errors.append((index, str(error)))
    return intake


def verdicts(errors: Sequence[tuple[int, str]]) -> list[dict[str, int | str]]:
    """Return the `rejected` list of a 207. Texts are shortened until all of them fit into 60 KiB.

    Args:
        errors: At most `MAX_VERDICTS`, and not empty.
    """
    share = (_VERDICTS_BYTES - _FRAME_BYTES) // len(errors) - _ENTRY_BYTES  # bytes for each text
    return [{"index": index, "error": text.encode()[:share].decode(errors="ignore")} for index, text in errors]
