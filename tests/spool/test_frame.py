"""A frame: what goes in comes out, and damage costs what it touches."""

from __future__ import annotations

import json
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st

from brockman.buffer.spool.frame import HEADER, LF, RS, VERSION, Span, make_frame, read_frames, read_version

JSON = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=20), max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
)
FRAMES = st.lists(JSON, min_size=1, max_size=6)
JUNK = st.binary(max_size=40) | st.sampled_from([RS, LF, b"\0", RS + LF, RS * 3, b"\x1e1 {}\n"])


def bodies_of(data: bytes) -> list[bytes]:
    return [span.body for span in read_frames(data, is_all=True) if span.body is not None]


@settings(max_examples=60, deadline=None)
@given(FRAMES)
def test_what_was_written_is_read_in_its_order(bodies: list[bytes]) -> None:
    assert bodies_of(b"".join(map(make_frame, bodies))) == bodies


@settings(max_examples=60, deadline=None)
@given(FRAMES, st.integers(0, 50))
def test_room_that_was_never_written_is_no_damage(bodies: list[bytes], zeros: int) -> None:
    spans = list(read_frames(b"".join(map(make_frame, bodies)) + bytes(zeros), is_all=True))
    assert [span.body for span in spans] == bodies


def _is_among(some: list[bytes], all_of_them: list[bytes]) -> bool:
    """Return whether these are among those, in their order."""
    rest = iter(all_of_them)
    return all(one in rest for one in some)


@settings(max_examples=200, deadline=None)
@given(FRAMES, st.integers(0, 2**16), st.integers(0, 2**6), JUNK)
def test_damage_costs_only_the_frames_that_it_touches(
    bodies: list[bytes], start: int, size: int, junk: bytes
) -> None:
    """Whatever replaces some bytes: each frame beside them is read, and nothing else."""
    frames = [make_frame(body) for body in bodies]
    data = b"".join(frames)
    start %= len(data) + 1
    stop = min(len(data), start + size)
    untouched, offset = [], 0
    for frame, body in zip(frames, bodies, strict=True):
        if offset + len(frame) <= start or offset >= stop:
            untouched.append(body)
        offset += len(frame)
    found = bodies_of(data[:start] + junk + data[stop:])
    assert _is_among(untouched, found)
    assert _is_among(found, bodies)


@settings(max_examples=60, deadline=None)
@given(FRAMES, st.lists(st.tuples(st.integers(0, 2**16), st.sampled_from([0, 10, 30, 255])), max_size=6))
def test_spans_cover_all_but_zeros_in_order(bodies: list[bytes], changes: list[tuple[int, int]]) -> None:
    """Nothing is passed over in silence: each byte is of a trigger, of damage, or zero."""
    data = bytearray(b"".join(map(make_frame, bodies)))
    for place, value in changes:
        data[place % len(data)] = value
    end = 0
    for span in read_frames(bytes(data), is_all=True):
        assert end <= span.start < span.stop
        assert not data[end : span.start].strip(b"\0")
        end = span.stop
    assert not data[end:].strip(b"\0")


@settings(max_examples=60, deadline=None)
@given(FRAMES, st.binary(max_size=20), st.integers(1, 60))
def test_read_piece_by_piece_it_is_the_same(bodies: list[bytes], junk: bytes, step: int) -> None:
    """A window that ends anywhere leaves what is unfinished for the next, wider one."""
    data = junk + b"".join(map(make_frame, bodies)) + junk
    found: list[Span] = []
    start, size = 0, step
    while start < len(data):
        piece = data[start : start + size]
        is_all = start + size >= len(data)
        spans = list(read_frames(piece, is_all=is_all))
        found += [Span(span.start + start, span.stop + start, span.body) for span in spans]
        if is_all:
            break
        start, size = (start + spans[-1].stop, step) if spans else (start, size + step)
    assert found == list(read_frames(data, is_all=True))


def test_a_damaged_header_is_never_taken_for_a_later_format() -> None:
    """Else a flipped bit would have a whole segment left alone for ever."""
    assert read_version(HEADER) == VERSION
    for place in range(len(HEADER)):
        for value in range(256):
            changed = HEADER[:place] + bytes([value]) + HEADER[place + 1 :]
            assert read_version(changed) == (VERSION if changed == HEADER else None)
        assert read_version(HEADER[:place]) is None


def test_a_later_format_is_known_by_its_header() -> None:
    text = b"brockman-spool 12"
    assert read_version(b"%b %d\n" % (text, zlib.crc32(text)) + b"whatever comes\x1e then") == 12
