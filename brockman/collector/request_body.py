"""Reads request bodies within limits of size and time, whatever their headers claim."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

# This much of a rejected body is read and thrown away: most clients send all of it before they read the response,
# and would find the connection closed instead.
DRAIN_BYTES = 16 * 1024 * 1024
_LENGTH = re.compile(r"[0-9]{1,15}")  # int() would accept +5, 1_0 and non-ASCII digits too


def check_headers(request: Request, max_bytes: int, *, is_page: bool = False) -> bool:
    """Return whether the body is compressed with gzip; reject with 415, 400 or 413 before it is read.

    A web page may send the JSON as plain text: then the browser does not ask for permission first.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (is_page and media_type == "text/plain"):
        raise HTTPException(415, f"Content-Type is {media_type[:40]!a}; send application/json")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise HTTPException(415, f"Content-Encoding is {encoding[:40]!a}; send gzip or none")
    length = declared_length(request)
    if length is not None and length > max_bytes:
        raise HTTPException(413, f"the body has {length} bytes; send at most {max_bytes}")
    return encoding == "gzip"


def declared_length(request: Request) -> int | None:
    """Return the Content-Length, or None if there is none; reject with 400 if it is not a number."""
    text = request.headers.get("content-length")
    if text is None:
        return None
    if _LENGTH.fullmatch(text) is None:
        raise HTTPException(400, "Content-Length is not a number")
    return int(text)


async def read_body(
    request: Request, max_bytes: int, timeout: float, hold: Callable[[int], None] = lambda size: None
) -> bytes:
    """Return the whole body as it was sent, received within `timeout` seconds.

    `hold` is called with the size of each part before it is kept, and may raise.

    Raises:
        HTTPException: 413, 408, or 400 if the client disconnects.
    """
    try:
        return await asyncio.wait_for(_collect(request, max_bytes, hold), timeout)
    except asyncio.TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {timeout:g} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the body is incomplete") from None  # nobody reads this


async def _collect(request: Request, max_bytes: int, hold: Callable[[int], None]) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= max_bytes:
            hold(len(chunk))
            chunks.append(chunk)
        elif size > max_bytes + DRAIN_BYTES:
            break
        else:
            chunks.clear()
    if size > max_bytes:
        raise HTTPException(413, f"the body has more than {max_bytes} bytes; send at most that")
    return b"".join(chunks)


def inflated_size(body: bytes, max_bytes: int) -> int:
    """Return the size that a gzip body claims to have, at most `max_bytes`. `inflate` rejects a wrong claim."""
    return min(int.from_bytes(body[-4:], "little"), max_bytes)


def inflate(body: bytes, max_bytes: int) -> bytes:
    """Return a gzip body decompressed. Allocates at most `max_bytes + 1` for it; rejects with 413 or 400."""
    decompressor = zlib.decompressobj(wbits=31)  # gzip alone, with its checksum
    try:
        inflated = decompressor.decompress(body, inflated_size(body, max_bytes) + 1)
    except zlib.error:
        raise HTTPException(400, "the body is not gzip, as Content-Encoding says") from None
    if len(inflated) > max_bytes:
        raise HTTPException(413, f"the body has more than {max_bytes} bytes when decompressed; send at most that")
    if not decompressor.eof or decompressor.unused_data:
        raise HTTPException(400, "the body is not one gzip stream from start to end")
    return inflated
