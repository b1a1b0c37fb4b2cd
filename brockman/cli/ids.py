"""Ids for lines that have none: made from what a line says, so that importing it again makes the same."""

from __future__ import annotations

import hashlib
import re
import zlib
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

from brockman.cli.occurrences import Occurrences
from brockman.cli.source import Arguments
from brockman.exceptions import InvalidTrigger

# The id of version 5 of this URL. Must never change: a later import would not be recognised.
# https://focuslab.io/brockman/import
NAMESPACE = UUID("fa707e9a-d687-5b50-987e-8bc316b4cab9")

_START = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)
_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # as nearly all are spelled
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class ContentIds:
    """UUIDs of version 5 (RFC 9562, 5.5) of triggers. The name of an access log's line is its text. Others are::

        ascii((actor_id, action, obj, identities, attributes, variables, time))

    in Python's notation, the mappings as sorted lists of pairs or None, the time in UTC as ISO 8601 or None: the
    order of columns and fields makes no difference. The name of the second equal trigger has a line "1" more, that
    of the third "2".
    """

    def __init__(self) -> None:
        self._occurrences, self._own = Occurrences(), Occurrences()
        self._time: datetime | None = None
        self._utc: tuple[datetime | None, str | None] = (None, None)

    def stamp(self, trigger: Arguments) -> tuple[str, datetime | None]:
        """Return the id of the next trigger, and its time in UTC, if it has one.

        Raises:
            InvalidTrigger: If its own id was that of another one.
            OSError: If there are too many to count in memory, and no room on disk.
            RecursionError: For a value that is nested too deeply.
        """
        *_, at, own, text = trigger
        if at is not self._time:  # lines of one second share it
            utc = None if at is None else at.astimezone(timezone.utc)
            self._time, self._utc = at, (utc, None if utc is None else utc.isoformat())
        at, time = self._utc
        if own is not None and own != "":
            return self._own_id(str(own).strip(), (*_content(trigger), time)), at
        name = _START.copy()
        said = ascii((*_content(trigger), time)) if text is None else text
        name.update(said.encode("utf-8", "surrogatepass"))
        digest = name.digest()
        repeats = self._occurrences.add(digest[:8])
        if repeats:
            name.update(b"\n%d" % repeats)
            digest = name.digest()
        return _format(digest), at

    def _own_id(self, own: str, content: tuple[Any, ...]) -> str:
        """Return a line's own id. One that is no UUID, such as a number, is part of the content."""
        try:
            own_id = own if _UUID.fullmatch(own) else str(UUID(own))
        except ValueError:
            name = _START.copy()
            name.update(ascii((own, *content)).encode())
            return _format(name.digest())
        key = hashlib.sha1(own_id.encode(), usedforsecurity=False).digest()[:8]
        mark = zlib.crc32(ascii(content).encode()) or 1
        if self._own.add(key, mark) not in (0, mark):  # the server would keep the first in silence
            raise InvalidTrigger(f"id: {own_id} is also that of a line before, which says something else")
        return own_id

    def close(self) -> None:
        self._occurrences.close()
        self._own.close()


def _content(trigger: Arguments) -> tuple[Any, ...]:
    return (*trigger[:3], *map(_sorted, trigger[3:6]))


def _sorted(mapping: Any) -> Any:
    return sorted(mapping.items()) if mapping and type(mapping) is dict else mapping or None


def _format(digest: bytes) -> str:
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{_VARIANTS[text[16]]}{text[17:20]}-{text[20:32]}"
