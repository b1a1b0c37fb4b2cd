"""Reading a request body within bounds of bytes and time, whatever the sender claims about it."""

from __future__ import annotations

import asyncio
import re
import zlib

from starlette.requests import ClientDisconnect, Request

from brockman.collector.errors import Refusal

# So much of a refused body is read all the same and thrown away: most senders send to the end before they look for
# an answer, and would meet a closed connection instead. Beyond it they do.
DRAIN_BYTES = 16 * 1024 * 1024
_LENGTH = re.compile(r"[0-9]{1,15}")  # int() would take +5, 1_0 and the digits of other scripts as well


def check_headers(request: Request, max_bytes: int) -> bool:
    """Check what the headers say of the body, before any of it is read.

    Returns:
        Whether it is compressed with gzip.

    Raises:
        Refusal: 415, 400 or 413.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(415, f"Content-Type is {media_type[:40]!a}; send application/json")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise Refusal(415, f"Content-Encoding is {encoding[:40]!a}; send gzip or none")
    length = declared_length(request)
    if length is not None and length > max_bytes:
        raise Refusal(413, f"the body has {length} bytes; send at most {max_bytes}")
    return encoding == "gzip"


def declared_length(request: Request) -> int | None:
    """Return the Content-Length, or None when the body comes in chunks.

    Raises:
        Refusal: 400 when it is not a number.
    """
    text = request.headers.get("content-length")
    if text is None:
        return None
    if _LENGTH.fullmatch(text) is None:
        raise Refusal(400, "Content-Length is not a number")
    return int(text)


async def read_body(request: Request, max_bytes: int, timeout: float) -> bytes:
    """Return the whole body as it was sent.

    Args:
        request: The request, with headers checked.
        max_bytes: Counted as they come; what exceeds them is thrown away.
        timeout: Seconds for all of it.

    Raises:
        Refusal: 413, 408, 503 when the collector ends meanwhile, or 400 when the sender hung up.
    """
    try:
        return await asyncio.wait_for(_collect(request, max_bytes), timeout)
    except asyncio.TimeoutError:
        raise Refusal(408, f"the body did not arrive within {timeout:g} s") from None
    except asyncio.CancelledError:  # only the server's shutdown cancels a request
        raise Refusal(503, "the collector is shutting down", retry_after=1) from None
    except ClientDisconnect:
        raise Refusal(400, "the body was cut off") from None  # nobody is left to read this


async def _collect(request: Request, max_bytes: int) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= max_bytes:
            chunks.append(chunk)
        elif size > max_bytes + DRAIN_BYTES:
            break
        else:
            chunks.clear()
    if size > max_bytes:
        raise Refusal(413, f"the body has more than {max_bytes} bytes; send at most that")
    return b"".join(chunks)


def inflate(body: bytes, max_bytes: int) -> bytes:
    """Return a gzip body decompressed. Never makes more than `max_bytes` and one of it.

    Raises:
        Refusal: 413, or 400 when it is not gzip from start to end.
    """
    decompressor = zlib.decompressobj(wbits=31)  # gzip alone, with its checksum
    try:
        inflated = decompressor.decompress(body, max_bytes + 1)
    except zlib.error:
        raise Refusal(400, "the body is not gzip, as Content-Encoding says") from None
    if len(inflated) > max_bytes:
        raise Refusal(413, f"the body has more than {max_bytes} bytes when decompressed; send at most that")
    if not decompressor.eof or decompressor.unused_data:
        raise Refusal(400, "the body is not one gzip stream from start to end")
    return inflated
