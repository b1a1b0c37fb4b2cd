"""Reads the lines of a file or of standard input, compressed with gzip or not.

Memory does not grow with the file: lines have a maximum length.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import Any, NamedTuple, cast

MAX_LINE_BYTES = 1024 * 1024
_GZIP = b"\x1f\x8b"
_BUFFER_BYTES = 256 * 1024


class Arguments(NamedTuple):
    """The arguments of `record_trigger`; `at` is aware, and `trigger_id` is whatever the file has as an id."""

    actor_id: Any
    action: Any
    obj: Any
    identities: Any
    attributes: Any
    variables: Any
    at: datetime | None = None
    trigger_id: str | None = None


class BadLine(NamedTuple):
    """A line that is not a trigger, the reason, and its text as far as it could be decoded."""

    reason: str
    text: str = ""


Line = tuple[int, "str | BadLine"]  # the number, counted from 1, and the text without line break
Reading = tuple[int, "Arguments | BadLine"]  # a parsed line


def excerpt(text: str, limit: int = 80) -> str:
    """Return untrusted text for a terminal: quoted, shortened, control characters escaped."""
    return repr(text if len(text) <= limit else text[:limit] + "…")


class Source:
    """An open file, or standard input for `-`. A context manager."""

    def __init__(self, path: str) -> None:
        self._stack = ExitStack()
        self._read = 0
        self.count = 0  # lines read
        if path == "-":
            self._raw = cast(io.BufferedReader, sys.stdin.buffer)
        else:
            self._raw = self._stack.enter_context(io.BufferedReader(io.FileIO(path), _BUFFER_BYTES))
        status = os.fstat(self._raw.fileno())
        self.size = status.st_size if stat.S_ISREG(status.st_mode) else None  # unknown, as for a pipe

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def position(self) -> int:
        """How many bytes of `size` have been read, before decompression. Thread-safe."""
        return self._raw.tell() if self.size is not None else self._read

    def __iter__(self) -> Iterator[Line]:
        """Yield every line. One that cannot be read is a `BadLine`; after a read error it is the last."""
        try:
            readline = self._choose_readline()
            while raw := readline(MAX_LINE_BYTES + 1):
                self.count = number = self.count + 1
                self._read += len(raw)
                if len(raw) > MAX_LINE_BYTES and not raw.endswith(b"\n"):
                    self._skip_line(readline)
                    yield number, BadLine(f"longer than {MAX_LINE_BYTES} bytes")
                else:
                    yield number, _decode(raw if number > 1 else raw.removeprefix(b"\xef\xbb\xbf"))
        except (OSError, EOFError, zlib.error) as error:
            yield self.count + 1, BadLine(f"the rest of the file cannot be read: {error}")

    def _choose_readline(self) -> Callable[[int], bytes]:
        if self._raw.peek(2)[:2] != _GZIP:
            return self._raw.readline
        # Not in a BufferedReader: that would lose what precedes the damage in a damaged file.
        return self._stack.enter_context(gzip.GzipFile(fileobj=self._raw)).readline

    def _skip_line(self, readline: Callable[[int], bytes]) -> None:
        while rest := readline(MAX_LINE_BYTES):
            self._read += len(rest)
            if rest.endswith(b"\n"):
                return


def _decode(raw: bytes) -> str | BadLine:
    try:
        return raw.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start + 1}"
        return BadLine(reason, raw.decode("utf-8", "replace").rstrip("\r\n"))
