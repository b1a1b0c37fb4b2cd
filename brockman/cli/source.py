"""Where `brockman import` reads: a file, standard input, or either compressed with gzip, line by line.

A line is read whole, up to a bound, so memory does not grow with the file.
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
from typing import Any, NamedTuple, cast


class Arguments(NamedTuple):
    """The arguments of one call, in its order."""

    actor_id: Any
    action: Any
    obj: Any
    identities: Any
    attributes: Any
    variables: Any


MAX_LINE_BYTES = 1024 * 1024
_GZIP = b"\x1f\x8b"
_BLOCK = 256 * 1024


class BadLine(NamedTuple):
    """A line that is no trigger, and why; if it could not be decoded, also what can be made of its text."""

    reason: str
    text: str = ""


Line = tuple[int, "str | BadLine"]  # its number, counted from 1, and its text without the line break
Reading = tuple[int, "Arguments | BadLine"]  # what a format makes of the lines


def shown(text: str, limit: int = 80) -> str:
    """Return text from elsewhere as it may be shown on a terminal: quoted, short, control characters escaped."""
    return repr(text if len(text) <= limit else text[:limit] + "…")


def printable(text: str) -> str:
    """Return text from elsewhere with its control characters escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class Source:
    """A file to read lines from. Use it with `with`.

    Attributes:
        size: Its size in bytes; None when nobody knows, as with a pipe.
        count: How many lines have been read.
    """

    def __init__(self, path: str) -> None:
        """Open a file.

        Args:
            path: Of the file; `-` is standard input.

        Raises:
            OSError: When it cannot be opened: not there, a folder, not allowed.
        """
        self._stack = ExitStack()
        self._read = 0
        self.count = 0
        if path == "-":
            self._raw = cast(io.BufferedReader, sys.stdin.buffer)
        else:
            self._raw = self._stack.enter_context(io.BufferedReader(io.FileIO(path), _BLOCK))
        status = os.fstat(self._raw.fileno())
        self.size = status.st_size if stat.S_ISREG(status.st_mode) else None

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def position(self) -> int:
        """How many bytes have been read, of `size`: compressed ones, if they are. Any thread may ask."""
        return self._raw.tell() if self.size is not None else self._read

    def __iter__(self) -> Iterator[Line]:
        """Yield every line. What cannot be read is a `BadLine`; after a read error that is the last one."""
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
            yield self.count + 1, BadLine(f"from here on the file cannot be read: {error}")

    def _choose_readline(self) -> Callable[[int], bytes]:
        if self._raw.peek(2)[:2] != _GZIP:
            return self._raw.readline
        # Its own readline: another buffer around it would lose what comes before the damage in a damaged file.
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
