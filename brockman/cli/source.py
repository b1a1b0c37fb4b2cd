"""Reads the lines of a file or of standard input, compressed or not.

Memory does not grow with the file: lines have a maximum length.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import Any, NamedTuple, cast

from brockman.cli.compression import MAX_MAGIC_BYTES, decompressed, is_damage, may_be_magic

MAX_LINE_BYTES = 1024 * 1024
_BUFFER_BYTES = 256 * 1024
_BOM = b"\xef\xbb\xbf"
_LINE_FEED = 10


class Arguments(NamedTuple):
    """The arguments of `record_trigger`; `at` is aware, and `trigger_id` is whatever the file has as an id.

    `text` is what the id of a line of a log is made of; None: what was parsed.
    """

    actor_id: Any
    action: Any
    obj: Any
    identities: Any
    attributes: Any
    variables: Any
    at: datetime | None = None
    trigger_id: str | None = None
    text: str | None = None


class BadLine(NamedTuple):
    """A line that is not a trigger, the reason, and its text as far as it could be decoded."""

    reason: str
    text: str = ""


class Unterminated(str):
    """The last line of a file, without a line break: it may not be complete, as while a log is being written."""

    __slots__ = ()


Line = tuple[int, "str | BadLine"]  # the number, counted from 1, and the text without line break
Reading = tuple[int, "Arguments | BadLine"]  # a parsed line


def excerpt(text: str, limit: int = 80) -> str:
    """Return untrusted text for a terminal: quoted, shortened, control characters escaped."""
    return repr(text if len(text) <= limit else text[:limit] + "…")


class Source:
    """An open file, or standard input for `-`. A context manager.

    Raises:
        OSError: If it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._stack = ExitStack()
        self._read = 0
        self.count = 0  # lines read
        raw = _Raw(_stdin() if path == "-" else path, closefd=path != "-")
        self._raw = self._stack.enter_context(io.BufferedReader(raw, _BUFFER_BYTES))
        self._start = raw
        self.size = size_of(raw.fileno())

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
                if raw[0] in b"\0\xef":
                    raw = _skip_nuls(raw, readline).removeprefix(_BOM)
                    if not raw:
                        continue
                if raw[-1] != _LINE_FEED:
                    raw = _complete(raw, readline)
                self.count = number = self.count + 1
                self._read += len(raw)
                if len(raw) > MAX_LINE_BYTES and not raw.endswith(b"\n"):
                    self._skip_line(readline)
                    yield number, BadLine(f"longer than {MAX_LINE_BYTES} bytes")
                else:
                    yield number, _decode(raw)
        except Exception as error:
            if not is_damage(error):
                raise
            yield self.count + 1, BadLine(f"the rest of the file cannot be read: {reason_of(error)}")

    def _choose_readline(self) -> Callable[[int], bytes]:
        stream = decompressed(self._raw, self._start.peek_start(), self._stack)
        start = stream.peek(io.DEFAULT_BUFFER_SIZE)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # "Unicode text" of Excel and PowerShell
            stream = io.BufferedReader(_Utf16(stream))
            start = stream.peek(io.DEFAULT_BUFFER_SIZE)
        if b"\r" in start[:-1] and b"\n" not in start:  # as spreadsheets on a Mac export
            stream = io.BufferedReader(_CarriageReturns(stream))
        return cast("Callable[[int], bytes]", stream.readline)

    def _skip_line(self, readline: Callable[[int], bytes]) -> None:
        while rest := readline(MAX_LINE_BYTES):
            self._read += len(rest)
            if rest.endswith(b"\n"):
                return


def reason_of(error: Exception) -> str:
    """Return what went wrong, without the number of an error of the system and the name of the file."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def size_of(file: int | str) -> int | None:
    """Return the size of a regular file; None if it is another one, such as a pipe."""
    status = os.stat(file)
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _stdin() -> int:
    if sys.stdin is None or sys.stdin.closed:
        raise OSError("standard input is closed")
    return sys.stdin.fileno()


class _Raw(io.FileIO):
    """A file whose start can be looked at, and which waits for data where the descriptor does not block."""

    _start = b""

    def peek_start(self) -> bytes:
        """Return the first bytes, as many as tell a compression. Only before anything else is read."""
        buffer = bytearray(1)
        while may_be_magic(self._start) and len(self._start) < MAX_MAGIC_BYTES and self._wait_for(buffer):
            self._start += buffer
        return self._start

    def readinto(self, buffer: Any) -> int:
        if self._start:
            view = memoryview(buffer).cast("B")
            count = min(len(view), len(self._start))
            view[:count], self._start = self._start[:count], self._start[count:]
            return count + (self._wait_for(view[count:]) if self._is_ready() else 0)
        return self._wait_for(buffer)

    def _is_ready(self) -> bool:
        """Return whether reading on will not wait, as it does for a pipe whose writer pauses."""
        return size_of(self.fileno()) is not None or (
            os.name == "posix" and bool(select.select([self], [], [], 0)[0])
        )

    def _wait_for(self, buffer: Any) -> int:
        while (count := super().readinto(buffer)) is None:
            select.select([self], [], [])
        return count


class _CarriageReturns(io.RawIOBase):
    """The lines of a stream in which they end with CR."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data: bytes = self._stream.read1(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(data)] = data
        return len(data)


class _Utf16(io.RawIOBase):
    """A stream of UTF-16, as UTF-8."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-16")("replace")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data, is_end = b"", False
        while not data and not is_end:
            piece = self._stream.read1(len(buffer) // 3)  # two bytes become three at most
            is_end = not piece
            data = self._decoder.decode(piece, is_end).encode("utf-8", "replace")
        buffer[: len(data)] = data
        return len(data)


def _complete(raw: bytes, readline: Callable[[int], bytes]) -> bytes:
    """Return a line that ended with the file, together with what was written behind it since."""
    while len(raw) <= MAX_LINE_BYTES and not raw.endswith(b"\n"):
        rest = readline(MAX_LINE_BYTES + 1 - len(raw))
        if not rest:
            break
        raw += rest
    return raw


def _skip_nuls(raw: bytes, readline: Callable[[int], bytes]) -> bytes:
    """Return a line without the NULs before it, which a log is filled with when it is truncated in place."""
    while raw.startswith(b"\0"):
        raw = raw.lstrip(b"\0")
        if not raw.endswith(b"\n"):
            raw += readline(MAX_LINE_BYTES + 1 - len(raw))
    return raw


def _decode(raw: bytes) -> str | BadLine:
    try:
        text = raw.decode().rstrip("\r\n")
        return text if raw[-1] == _LINE_FEED else Unterminated(text)
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start + 1}"
        return BadLine(reason, raw.decode("utf-8", "replace").rstrip("\r\n"))
