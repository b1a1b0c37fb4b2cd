"""Each byte of a segment cut off and flipped in turn: at most the trigger it belongs to is lost, and counted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from brockman.buffer.spool.frame import HEADER, make_frame, read_frames
from tests.spool.parts import SpoolParts, adopt_by_parts, leave, triggers

RS = 0x1E
BODIES = triggers(3)
ENDS = [len(HEADER) + sum(len(make_frame(body)) for body in BODIES[: count + 1]) for count in range(3)]
SIZE = ENDS[-1]


def changes(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield each byte's place with some bits flipped, and with an RS, a newline and a zero there."""
    for place, value in enumerate(content):
        for other in sorted({value ^ 1 << bit for bit in range(8)} | {RS, 0x0A, 0}):
            if other != value:
                yield place, other


def without_the_one_at(place: int) -> list[bytes]:
    """Return the triggers without the one that a byte belongs to; all for a byte of the header."""
    index = sum(place >= end for end in ENDS)
    return BODIES if place < len(HEADER) else BODIES[:index] + BODIES[index + 1 :]


def test_each_bit_of_a_segment_flipped() -> None:
    """Whichever it is, the frames beside it are read, and what it is in is not."""
    content = HEADER + b"".join(map(make_frame, BODIES))
    for place in range(len(HEADER), SIZE):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            spans = read_frames(bytes(changed[len(HEADER) :]), is_all=True)
            assert [span.body for span in spans if span.body] == without_the_one_at(place), (place, bit)


@pytest.fixture
def orphan(quick_path: Path) -> Callable[[bytes], Path]:
    """Make a spool in which a process that is gone has left one segment of this content; return its path."""
    folder = leave(quick_path / "template", BODIES)
    name = (folder / "00000001").name
    spool = quick_path / "spool"

    def make(content: bytes) -> Path:
        shutil.rmtree(spool, ignore_errors=True)
        home = spool / folder.name
        home.mkdir(parents=True, mode=0o700)
        (home / "lock").touch(0o600)
        (home / name).write_bytes(content)
        return spool

    return make


@pytest.fixture
def content(quick_path: Path) -> bytes:
    """The content of a segment of `BODIES`."""
    found = (leave(quick_path / "content", BODIES) / "00000001").read_bytes()
    assert found == HEADER + b"".join(map(make_frame, BODIES))
    return found


def test_each_byte_of_an_adopted_segment_changed(orphan: Callable[[bytes], Path], content: bytes) -> None:
    """The trigger that the byte belongs to is lost and counted, no other one; its bytes are kept.

    An RS begins a frame, and nobody can know of one in the middle of a damaged one that it never did: two are
    counted then. One in the header's line counts as one, though no trigger is lost.
    """
    for place, value in changes(content):
        changed = content[:place] + bytes([value]) + content[place + 1 :]
        spool = orphan(changed)
        parts = adopt_by_parts(spool)
        context = (place, value)
        assert parts.delivered == without_the_one_at(place), context
        in_header = place < len(HEADER)
        assert parts.damaged == (value == RS) + (not in_header), context
        if in_header:
            continue
        index = sum(place >= end for end in ENDS)
        start = ENDS[index - 1] if index else len(HEADER)
        assert parts.quarantined() == changed[start : ENDS[index]].rstrip(b"\0"), context
        assert sorted(path.name for path in spool.iterdir()) == ["damaged"], context


def test_an_adopted_segment_cut_at_each_byte(orphan: Callable[[bytes], Path], content: bytes) -> None:
    """Triggers before the cut are delivered, the one that it tears is counted."""
    for size in range(SIZE):
        parts = adopt_by_parts(orphan(content[:size]))
        whole = sum(size >= end for end in ENDS)
        is_torn = size > len(HEADER) and size not in ENDS
        assert parts.delivered == BODIES[:whole], size
        assert parts.damaged == is_torn, size


@pytest.fixture
def own(quick_path: Path) -> Iterator[SpoolParts]:
    """A live process."""
    parts = SpoolParts(quick_path / "own")
    yield parts
    parts.close()


def _deliver_changed(own: SpoolParts, change: Callable[[bytes], bytes]) -> int:
    """Record, change what is in the file, deliver; return how many are counted as damaged."""
    own.begin_anew()
    own.record(BODIES)
    path = own.seal()
    path.write_bytes(change(path.read_bytes()))
    own.drain(own.writer)
    assert own.writer.is_empty
    assert not path.exists()
    return own.damaged


def test_each_byte_of_a_sealed_segment_of_ones_own_changed(own: SpoolParts, content: bytes) -> None:
    """As where it is adopted; its header is not read, and so harms nothing."""
    for place, value in changes(content):
        damaged = _deliver_changed(own, lambda was: was[:place] + bytes([value]) + was[place + 1 :])  # noqa: B023
        assert own.delivered == without_the_one_at(place), (place, value)
        assert damaged == (0 if place < len(HEADER) else 1 + (value == RS)), (place, value)


def test_a_sealed_segment_of_ones_own_cut_at_each_byte(own: SpoolParts) -> None:
    """How many there were is known: each that is cut off is counted."""
    for size in range(SIZE):
        damaged = _deliver_changed(own, lambda was: was[:size])  # noqa: B023
        whole = sum(size >= end for end in ENDS)
        assert own.delivered == BODIES[:whole], size
        assert damaged == len(BODIES) - whole, size


def test_damage_in_the_segment_that_is_being_written_is_counted_at_once(own: SpoolParts) -> None:
    """Not only when the segment is full: until then the worker would look again and again, and `flush` wait."""
    for place in range(len(HEADER), SIZE):
        own.begin_anew()
        own.writer.rotate()
        own.record(BODIES)
        path = own.path / own.writer.process_dirs[-1].name / own.writer.active.name
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"X")
        own.drain(own.writer)
        assert own.writer.is_empty, place
        assert own.delivered == without_the_one_at(place), place
        assert own.damaged == 1, place


def test_zeros_in_the_segment_that_is_being_written_are_counted_at_once(own: SpoolParts) -> None:
    """All its triggers are wiped out, and later ones go on in the same segment."""
    own.record(BODIES)
    path = own.path / own.writer.process_dirs[-1].name / own.writer.active.name
    with path.open("r+b") as file:
        file.write(bytes(SIZE))
    own.drain(own.writer)
    assert own.writer.is_empty
    assert own.damaged == len(BODIES)
    more = triggers(2)
    own.record(more)
    own.drain(own.writer)
    assert own.delivered == more
    assert own.damaged == len(BODIES)
