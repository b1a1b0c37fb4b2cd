"""Reads the body of an answer, within a limit."""

from __future__ import annotations

import http.client
from typing import Any

import urllib3.exceptions

# What requests, urllib3 and http.client raise when no answer comes. Nothing wider: any other exception, such as a
# task's time limit, must reach the caller.
FAILURES = (OSError, ValueError, http.client.HTTPException, urllib3.exceptions.HTTPError)


def read_body(raw: Any, max_bytes: int) -> tuple[bytes, bool]:
    """Return the body of an answer, or a byte more than `max_bytes` of it, and whether that is all.

    A read returns what has arrived; only the next one tells the end from a broken connection. A body that breaks
    off is returned as far as it came, and as not complete: the status may say what became of the triggers.
    """
    chunks, size = list[bytes](), 0
    # `read` loses what came before an error; `read1` believes every size of a chunk.
    read = raw.read if getattr(raw, "chunked", False) else getattr(raw, "read1", raw.read)
    try:
        while size <= max_bytes:
            chunk: bytes = read(max_bytes + 1 - size, decode_content=False)
            if not chunk:  # before 2.0 urllib3 does not raise
                return b"".join(chunks), not getattr(raw, "length_remaining", None)
            chunks.append(chunk)
            size += len(chunk)
    except FAILURES:
        return b"".join(chunks), False
    return b"".join(chunks), True
