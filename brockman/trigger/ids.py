"""The id of a trigger. Random bytes are passed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

_HEX = tuple(f"{number:03x}" for number in range(4096))


def make_ids(random_bytes: Callable[[int], bytes]) -> Iterator[str]:
    """Return an iterator over 2**48 UUIDs as text, one C call each (tests/benchmarks/record.py).

    The first 80 bits are drawn at random, once; the last 48 count up: a UUID of version 8, whose layout RFC 9562
    (5.8) leaves open. Two iterators repeat each other only if they draw the same 74 random bits. Two threads never
    get the same id, nor does a signal handler, since no Python code runs inside `next`.

    Args:
        random_bytes: Returns a number of random bytes, such as `os.urandom`.
    """
    drawn = bytearray(random_bytes(10))
    drawn[6] = drawn[6] & 0x0F | 0x80  # version 8
    drawn[8] = drawn[8] & 0x3F | 0x80  # the variant of RFC 9562
    text = drawn.hex()
    prefix = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:]}-"
    ids = map("".join, product((prefix,), _HEX, _HEX, _HEX, _HEX))
    next(ids)  # the first one allocates: before Python 3.12 a finalizer that runs then would get the same id
    return ids
