"""Counts how often each key has occurred: exactly, in bounded memory, and beyond that in a temporary file."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from itertools import groupby

MAX_IN_MEMORY = 400_000  # keys, in about 50 MB
_KEY_BYTES = 8
_ENTRY_BYTES = _KEY_BYTES + 4  # with the count
_PAGE_BYTES = 1024
_PER_PAGE = _PAGE_BYTES // _ENTRY_BYTES
_MAX_FILLED = 0.6  # of all entries, so that hardly a page overflows
_NO_ENTRY = bytes(_ENTRY_BYTES)


class Occurrences:
    """The counts of keys of 8 bytes, which should be as good as random: the start of a digest. For one thread."""

    def __init__(self, max_in_memory: int = MAX_IN_MEMORY) -> None:
        self._max_in_memory = max_in_memory
        self._counts: dict[bytes, int] = {}
        self._table: _Table | None = None

    def add(self, key: bytes, mark: int | None = None) -> int:
        """Count a key; return how often it occurred before. With a mark, keep that of the first instead.

        Raises:
            OSError: If the temporary file cannot be written.
        """
        before = self._counts.get(key)
        if before is None:
            before = 0 if self._table is None else self._table.get(key)
        self._counts[key] = before + 1 if mark is None else before or mark
        if len(self._counts) > self._max_in_memory:
            self._table = self._table or _Table()
            self._table.update(self._counts)
            self._counts = {}
        return before

    def close(self) -> None:
        if self._table is not None:
            self._table.close()


class _Table:
    """A hash table in a file. The first bits of a key choose a page; when pages get full, their number doubles.

    Not mapped into memory: what the system keeps of the file in memory it can take back, and a full disk is an
    OSError.
    """

    def __init__(self) -> None:
        self._bits, self._filled = 10, 0
        self._file = _new_file()
        self._file.truncate(_PAGE_BYTES << self._bits)

    def get(self, key: bytes) -> int:
        page = self._read(self._page_of(key))
        place = page.find(key)
        while place % _ENTRY_BYTES and place != -1:
            place = page.find(key, place + 1)
        return 0 if place == -1 else int.from_bytes(page[place + _KEY_BYTES : place + _ENTRY_BYTES], "big")

    def update(self, counts: Mapping[bytes, int]) -> None:
        """Set the counts of some keys."""
        while self._filled + len(counts) > _MAX_FILLED * (_PER_PAGE << self._bits):
            self._double()
        for number, keys in groupby(sorted(counts), self._page_of):
            entries = dict(_split(self._read(number)))
            before = len(entries)
            entries |= {key: min(counts[key], 2**32 - 1).to_bytes(4, "big") for key in keys}
            if len(entries) > _PER_PAGE:
                self._double()
                return self.update(counts)
            self._filled += len(entries) - before
            self._file.seek(number * _PAGE_BYTES)
            self._file.write(_join(entries))
        return None

    def _double(self) -> None:
        pages = 1 << self._bits
        self._bits += 1
        with self._file as old:
            self._file = _new_file()
            old.seek(0)
            for _ in range(pages):
                halves: tuple[dict[bytes, bytes], ...] = ({}, {})
                for key, count in _split(old.read(_PAGE_BYTES)):
                    halves[self._page_of(key) & 1][key] = count
                self._file.write(_join(halves[0]) + _join(halves[1]))

    def _page_of(self, key: bytes) -> int:
        return int.from_bytes(key, "big") >> (8 * _KEY_BYTES - self._bits)

    def _read(self, number: int) -> bytes:
        self._file.seek(number * _PAGE_BYTES)
        return self._file.read(_PAGE_BYTES)

    def close(self) -> None:
        self._file.close()


def _new_file() -> io.FileIO:
    return tempfile.TemporaryFile(prefix="brockman-", buffering=0)


def _split(page: bytes) -> list[tuple[bytes, bytes]]:
    entries = (page[place : place + _ENTRY_BYTES] for place in range(0, _PER_PAGE * _ENTRY_BYTES, _ENTRY_BYTES))
    return [(entry[:_KEY_BYTES], entry[_KEY_BYTES:]) for entry in entries if entry != _NO_ENTRY]


def _join(entries: Mapping[bytes, bytes]) -> bytes:
    return b"".join(key + count for key, count in entries.items()).ljust(_PAGE_BYTES, b"\0")
