"""Ids for lines that have none: made from what a line says, so that importing it again makes the same."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

from brockman.cli.occurrences import Occurrences
from brockman.cli.source import Arguments

# Must never change: ids of a later import would differ from those that servers have.
NAMESPACE = UUID("6fd1c28b-5c0f-5c0c-9a41-3f1d0e8a7b52")

_PREFIX = NAMESPACE.bytes
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class ContentIds:
    """UUIDs of version 5 (RFC 9562, 5.5) of triggers. Their names are::

        ascii((actor_id, action, obj, identities, attributes, variables, time))

    in Python's notation, the mappings as sorted lists of pairs or None, the time in UTC as ISO 8601 or None. The
    name of the second equal trigger has a line "1" more, that of the third "2". What is parsed is named, not the
    text of the line: the order of columns and fields, line ends and compression make no difference.
    """

    def __init__(self) -> None:
        self._occurrences = Occurrences()
        self._last_time: tuple[datetime | None, str | None] = (None, None)

    def find(self, trigger: Arguments) -> str:
        """Return the id of the next trigger.

        Raises:
            OSError: If there are too many to count in memory, and no room on disk.
            RecursionError: For a value that is nested too deeply.
        """
        own = str(trigger.trigger_id).strip() if trigger.trigger_id not in (None, "") else None
        if own is not None:
            try:
                return str(UUID(own))
            except ValueError:  # a number of a database, say: unique only among triggers of its kind
                return _format(hashlib.sha1(_PREFIX + ascii((own, *self._content(trigger))).encode()).digest())
        name = _PREFIX + ascii(self._content(trigger)).encode()
        digest = hashlib.sha1(name, usedforsecurity=False).digest()
        repeats = self._occurrences.add(digest[:8])
        if repeats:
            digest = hashlib.sha1(b"%b\n%d" % (name, repeats), usedforsecurity=False).digest()
        return _format(digest)

    def _content(self, trigger: Arguments) -> tuple[Any, ...]:
        at = trigger.at
        if at is not self._last_time[0]:  # lines of one second share it
            self._last_time = at, None if at is None else at.astimezone(timezone.utc).isoformat()
        return (
            trigger.actor_id,
            trigger.action,
            trigger.obj,
            _sorted(trigger.identities),
            _sorted(trigger.attributes),
            _sorted(trigger.variables),
            self._last_time[1],
        )

    def close(self) -> None:
        self._occurrences.close()


def _sorted(mapping: Any) -> Any:
    return (sorted(mapping.items()) if isinstance(mapping, dict) else mapping) or None


def _format(digest: bytes) -> str:
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{_VARIANTS[text[16]]}{text[17:20]}-{text[20:32]}"
