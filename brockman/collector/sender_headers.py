"""The headers in which a client says who it is, and what it has counted. No I/O.

Headers that are not as brockman writes them are ignored: they are no reason to refuse triggers.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from starlette.datastructures import Headers

from brockman.collector.store.values import Sender, SenderCounts
from brockman.collector.timestamps import parse_timestamp

_MAX_CHARS = 4000  # of a header; brockman's have far fewer
_MAX_HOST_CHARS = 255
_ID = re.compile(r"[0-9a-f]{32}")
_PID = re.compile(r"[0-9]{1,10}")
_COUNT = re.compile(r"[0-9]{1,15}")
_DROPPED = re.compile(r"dropped\.([a-z_]{1,40})")
_MAX_REASONS = 30
_END_OF_TIME = 2**52  # microseconds: in the year 2112


def read_sender(headers: Headers, heard_at: int) -> Sender | None:
    """Return the sender of a request; None without, or with a malformed, `X-FL-Sender`."""
    fields = _parse(headers, "x-fl-sender")
    started = parse_timestamp(fields.get("started", "")) or 0
    pid, sender_id = fields.get("pid", ""), fields.get("id", "")
    if not _ID.fullmatch(sender_id) or not _PID.fullmatch(pid) or not 0 < started < _END_OF_TIME:
        return None
    host = "".join(c if c.isprintable() else "\ufffd" for c in unquote(fields.get("host", "")))
    counts = _read_counts(_parse(headers, "x-fl-counts"))
    return Sender(sender_id, host[:_MAX_HOST_CHARS], int(pid), started, heard_at, counts)


def _parse(headers: Headers, name: str) -> dict[str, str]:
    """Return the fields of a header; none if it is missing, there twice, or malformed."""
    values = headers.getlist(name)
    if len(values) != 1 or len(values[0]) > _MAX_CHARS or not values[0].isascii():
        return {}
    pairs = [part.strip().partition("=") for part in values[0].split(";")]
    fields = {key: value for key, _, value in pairs}
    return fields if len(fields) == len(pairs) else {}


def _read_counts(fields: dict[str, str]) -> SenderCounts | None:
    """Return counts that add up, or None."""
    numbers = {key: int(value) for key, value in fields.items() if _COUNT.fullmatch(value)}
    dropped = {match[1]: number for key, number in numbers.items() if (match := _DROPPED.fullmatch(key))}
    recorded, recovered, delivered, rejected, waiting = (
        numbers.get(name, 0) for name in ("recorded", "recovered", "delivered", "rejected", "waiting")
    )
    known = delivered + rejected + sum(dropped.values()) + waiting
    if len(dropped) > _MAX_REASONS or not known or recorded + recovered != known:
        return None
    return SenderCounts(recorded, recovered, delivered, rejected, waiting, dropped)
