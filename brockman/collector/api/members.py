"""The members of a group as CSV. No I/O."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from brockman.collector import strict_json

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # full width too


class MemberTable:
    """CSV (RFC 4180), with a column for each name of an identity, and of an attribute."""

    def __init__(self, identities: Sequence[str], attributes: Sequence[str]) -> None:
        self._identities, self._attributes = identities, attributes

    def header(self) -> str:
        names = [
            *(f"identities.{name}" for name in self._identities),
            *(f"attributes.{name}" for name in self._attributes),
        ]
        return _write([["actor_ids", *map(_cell, names), "first_seen", "last_seen", "total"]])

    def rows(self, members: Iterable[dict[str, Any]]) -> str:
        return _write(
            [
                _cell(member["actor_ids"]),
                *(_cell(member["identities"].get(name, [])) for name in self._identities),
                *(_cell(member["attributes"].get(name, [])) for name in self._attributes),
                member["first_seen"],
                member["last_seen"],
                member["total"],
            ]
            for member in members
        )


def _write(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    """Return a value as text: of a list with one element that element, of a longer one its JSON.

    A text that a spreadsheet would take for a formula gets an apostrophe before it, and NUL is replaced: programs
    that read CSV stop at it.
    """
    if type(value) is list:
        if len(value) != 1:
            return _plain(strict_json.dump(value)) if value else ""
        (value,) = value
    if type(value) is not str:
        return strict_json.dump(value)
    return _plain(f"'{value}" if value.lstrip(" ").startswith(_FORMULA) else value)


def _plain(text: str) -> str:
    return text.replace("\0", "\ufffd")
