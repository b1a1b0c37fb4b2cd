"""Decompresses a stream; its first bytes name the method, not the file's name: gzip, bzip2, xz and Zstandard."""

from __future__ import annotations

import io
import zlib
from contextlib import ExitStack
from importlib import import_module
from typing import Any

# A frame to skip may come first: https://www.rfc-editor.org/rfc/rfc8878#section-3.1.2
_ZSTD_MAGICS = (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16)))
_MAGICS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "lzma", **dict.fromkeys(_ZSTD_MAGICS, "zstd")}
_ZSTD_MODULES = ("compression.zstd", "backports.zstd")  # the first since Python 3.14

MAX_MAGIC_BYTES = max(map(len, _MAGICS))


def may_be_magic(start: bytes) -> bool:
    """Return whether the next byte may tell a compression."""
    return any(magic.startswith(start) for magic in _MAGICS if len(magic) > len(start))


def decompressed(file: Any, start: bytes, stack: ExitStack) -> Any:
    """Return a buffered stream of what a file contains; `stack` closes it.

    Args:
        file: The file, nothing read of it.
        start: Its first bytes.
        stack: Closes the stream.

    Raises:
        OSError: If this Python cannot decompress it.
    """
    name = next((name for magic, name in _MAGICS.items() if start.startswith(magic)), None)
    if name is None:
        return file
    # These are buffered. A BufferedReader around one would lose what precedes the damage in a damaged file.
    module = _import(*(_ZSTD_MODULES if name == "zstd" else (name,)))
    if module is not None:
        return stack.enter_context(module.open(file))
    package = _import("zstandard") if name == "zstd" else None
    if package is not None:
        return io.BufferedReader(_Frames(file, package.ZstdDecompressor().decompressobj))
    remedy = "pip install backports.zstd" if name == "zstd" else "it was built without"
    raise OSError(f"it is compressed with {name}, which this Python lacks: {remedy}")


def is_damage(error: Exception) -> bool:
    """Return whether an error is one of a stream that is damaged or cannot be read."""
    return isinstance(error, (OSError, EOFError, zlib.error)) or type(error).__name__ in ("LZMAError", "ZstdError")


def _import(*names: str) -> Any:
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


class _Frames(io.RawIOBase):
    """The content of a file, by the package `zstandard`. Its own reader does not see where a file is cut off."""

    _PIECE_BYTES = 1024  # which hold at most 32 MiB

    def __init__(self, file: Any, new_frame: Any) -> None:
        self._file, self._new_frame = file, new_frame
        self._frame: Any = None
        self._input = self._output = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output:
            self._input = self._input or self._file.read1(self._PIECE_BYTES)
            if not self._input:
                if self._frame is not None:
                    raise EOFError("the file ends within a Zstandard frame")
                return 0
            self._frame = self._frame or self._new_frame()
            self._output, self._input = self._frame.decompress(self._input), b""
            if self._frame.eof:
                self._input, self._frame = self._frame.unused_data, None
        count = min(len(buffer), len(self._output))
        buffer[:count], self._output = self._output[:count], self._output[count:]
        return count
