"""The format of a segment: each trigger in a frame with a checksum. No I/O.

A frame is `RS crc SP JSON LF`: a JSON text sequence (RFC 7464) with the decimal CRC-32 of the JSON before it. JSON
never holds a raw RS or LF, so a reader continues after damage at the next RS. A segment begins with a header that
names the format, with a checksum too, which distinguishes a later format from a damaged header. It may end in
zeros: room that is not written yet. The acknowledged offset is in a file of its own, which fits no other segment.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

RS, LF, ZERO = b"\x1e", b"\n", b"\0"
VERSION = 1
ACK_COVERS = 64  # bytes: the end of a trigger, with its time, which differs in other segments
_ACK = struct.Struct("<QI")  # an offset, and a checksum of it and of the bytes before it
_NAME = b"brockman-spool "
_LONGEST_HEADER = 40
_LONGEST_CHECKSUM = 10  # digits of the largest CRC-32
FRAME_BYTES = 3 + _LONGEST_CHECKSUM  # of a frame beside its trigger, at most: RS, checksum, SP, LF


class Span(NamedTuple):
    """A part of a segment: a trigger, or damage when `body` is None. Offsets count from the start of the data."""

    start: int
    stop: int
    body: bytes | None


def _make_header(version: int) -> bytes:
    text = _NAME + b"%d" % version
    return b"%b %d\n" % (text, zlib.crc32(text))


HEADER = _make_header(VERSION)


def read_version(data: bytes) -> int | None:
    """Return the format version in the header of a segment; None when it cannot be read."""
    line, newline, _ = data[:_LONGEST_HEADER].partition(LF)
    text, _, checksum = line.rpartition(b" ")
    number = text[len(_NAME) :]
    if not newline or not text.startswith(_NAME) or not number.isdigit() or not checksum.isdigit():
        return None
    return int(number) if int(checksum) == zlib.crc32(text) else None


def make_frame(body: bytes) -> bytes:
    return b"\x1e%d %b\n" % (zlib.crc32(body), body)


def read_frames(data: bytes, *, is_all: bool) -> Iterator[Span]:
    """Yield the frames and the damaged places of a segment, or of a piece that begins at the start of a frame.

    An incomplete frame at the end is damaged if this `is_all`, and otherwise omitted.
    """
    start, end = 0, len(data)
    while start < end:
        stop = data.find(LF, start) + 1
        following = data.find(RS, start + 1)
        if stop and (following < 0 or stop <= following):
            body = _body(data[start:stop])
            if body is not None:
                yield Span(start, stop, body)
                start = stop
                continue
        if following < 0:
            if is_all and data[start:].strip(ZERO):
                yield Span(start, end, None)
            return
        if data[start:following].strip(ZERO):  # otherwise it is room that was never written
            yield Span(start, following, None)
        start = following


def _body(frame: bytes) -> bytes | None:
    """Return the trigger in a frame; None when the frame is damaged."""
    checksum, space, body = frame[1:-1].partition(b" ")
    if frame[:1] != RS or not space or not checksum.isdigit() or len(checksum) > _LONGEST_CHECKSUM:
        return None
    return body if int(checksum) == zlib.crc32(body) else None


def fitting(spans: Iterable[Span], max_count: int, max_bytes: int) -> Iterator[Span]:
    """Yield the spans of one batch, at least one trigger."""
    count, size = 0, 1
    for span in spans:
        if span.body is not None:
            count += 1
            size += len(span.body) + 1
            if count > 1 and (count > max_count or size > max_bytes):
                return
        yield span


def shifted(span: Span, by: int) -> Span:
    """Return a span with `by` added to its offsets."""
    return Span(span.start + by, span.stop + by, span.body)


def make_ack(offset: int, before: bytes) -> bytes:
    """Return the content of an acknowledgement up to an offset, with the `ACK_COVERS` bytes before it."""
    return _ACK.pack(offset, zlib.crc32(before, offset & 0xFFFFFFFF))


def read_ack(content: bytes, data: bytes) -> int:
    """Return the offset in an acknowledgement; 0 when it is damaged, or belongs to other data than this segment's.

    In doubt triggers are sent again, never lost.
    """
    if len(content) != _ACK.size:
        return 0
    offset = int(_ACK.unpack(content)[0])
    before = data[max(0, offset - ACK_COVERS) : offset]
    return offset if offset <= len(data) and content == make_ack(offset, before) else 0
