"""Spools corrupted at random: every intact trigger is delivered, nothing else, and nothing crashes or spins."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from brockman.buffer.spool.frame import make_frame
from brockman.client import FocusLabClient
from brockman.exceptions import ConnectionFailed
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport
from tests.spool.corruption import ALL, IN_PLACE, Change, Corruption, readable
from tests.spool.disks import is_settled
from tests.spool.parts import SpoolParts, triggers
from tests.support.client import KEY
from tests.support.waiting import eventually

ROUNDS = 120
LIVE_ROUNDS = 30
BODIES = triggers(200)
FAT = triggers(120, variables={"text": "x" * 4000})  # some segments of a small spool
SETTLED = [*BODIES[:5], *BODIES[120:150]]


def leave_some(path: Path) -> None:
    """Leave two folders with segments of about 20 triggers, of which some are settled."""
    for bodies, settled in ((BODIES[:120], 5), (BODIES[120:], 30)):
        gone = SpoolParts(path, segment_bytes=4096)
        gone.record(bodies)
        while settled:
            batch = gone.writer.take_more(settled, 1 << 20)
            gone.writer.settle(len(batch), delivered=True)
            gone.writer.acknowledge()
            settled -= len(batch)
        gone.close()


class Counting(FocusLabClient):
    """Counts how often its worker takes."""

    def count_takes(self) -> None:
        self.takes = 0
        buffer = self._pipeline.buffer
        take = buffer.take

        def counted(max_count: int, max_bytes: int) -> Sequence[bytes]:
            self.takes += 1
            return take(max_count, max_bytes)

        buffer.take = counted  # type: ignore[method-assign]


def make(spool: Path, transport: MemoryTransport, **options: object) -> Counting:
    client = Counting(
        KEY,
        transport=transport,
        spool_dir=str(spool),
        flush_interval=0.01,
        backoff_base=0.001,
        backoff_cap=0.002,
        **options,
    )
    client.count_takes()
    return client


def sent(transport: MemoryTransport, known: Sequence[bytes]) -> Counter[bytes]:
    """Return how often each was sent; each must be, byte for byte, one that was recorded."""
    by_id = {json.loads(body)["id"]: body for body in known}
    found: Counter[bytes] = Counter()
    for body in transport.bodies:
        content = json.loads(body)
        bodies = [by_id[trigger["id"]] for trigger in (content if isinstance(content, list) else [content])]
        assert body == (b"[%b]" % b",".join(bodies) if isinstance(content, list) else bodies[0])
        found.update(bodies)
    return found


def test_corrupted_files_that_are_adopted(quick_path: Path) -> None:
    """Each sound trigger is sent as often as it lies there; one that was settled at most so often."""
    chance = random.Random(7)
    template = quick_path / "template"
    leave_some(template)
    damaged = 0
    for number in range(ROUNDS):
        spool = quick_path / f"{number}"
        shutil.copytree(template, spool)
        corruption = Corruption(spool, chance)
        corruption.corrupt(chance.randrange(1, 8), ALL)
        contents = readable(spool)
        sound = Counter({body: sum(one.count(make_frame(body)) for one in contents) for body in BODIES})
        transport = MemoryTransport()
        client = make(spool, transport, max_batch_size=chance.choice([1, 7, 500]))
        context = (number, corruption.done)
        assert client.flush(20), context
        assert eventually(lambda: is_settled(client)), context  # noqa: B023
        found = sent(transport, BODIES)
        for body in BODIES:
            if body in SETTLED:
                assert found[body] <= sound[body], context
            else:
                assert found[body] == sound[body], context
        assert client.takes <= 3 * len(transport.bodies) + 30, context
        damaged += client.stats().dropped.get("damaged", 0)
        client.close(5)
        again = MemoryTransport()
        client = make(spool, again)
        assert client.flush(20), context
        assert again.bodies == [], context
        assert client.stats().dropped == {}, context
        assert is_settled(client), context
        client.close(5)
        shutil.rmtree(spool)
    assert damaged > ROUNDS


class CorruptingTransport(MemoryTransport):
    """Is away until it is opened, and corrupts files while it sends."""

    def __init__(self, corruption: Corruption, changes: Sequence[Change], *, at: int) -> None:
        super().__init__(self._answer)
        self.is_open = False
        self.accepted: list[bytes] = []
        self._havoc = corruption
        self._changes = changes
        self._at = at

    def _answer(self, body: bytes) -> Answer | ConnectionFailed:
        if not self.is_open:
            return ConnectionFailed("away")
        self.accepted.append(body)
        if len(self.accepted) == self._at:
            self._havoc.corrupt(2, self._changes)
        return Answer(201)


@pytest.mark.parametrize("changes", [IN_PLACE, ALL], ids=["in place", "all"])
def test_corrupted_files_of_a_living_process(quick_path: Path, changes: Sequence[Change]) -> None:
    """Its own files are corrupted while it writes and delivers: it continues, and later triggers are delivered.

    Damage in place takes only what it touches. Where whole files go, or replace others, what was in
    them is lost and counted.
    """
    chance = random.Random(7)
    for number in range(LIVE_ROUNDS):
        spool = quick_path / f"{number}"
        spool.mkdir(mode=0o700)
        corruption = Corruption(spool, chance)
        at = chance.choice([0, 1, 3])
        transport = CorruptingTransport(corruption, changes, at=at)
        client = make(spool, transport, max_spool_bytes=1 << 20, max_batch_size=chance.choice([5, 500]))
        for body in FAT:
            assert client.record_encoded(body)
        assert eventually(lambda: bool(transport.bodies))  # noqa: B023
        corruption.corrupt(chance.randrange(1, 5), changes)
        context = (number, at, corruption.done)
        contents = readable(spool)
        for body in BODIES[:10]:
            assert client.record_encoded(body), context
        client.count_takes()
        transport.is_open = True
        assert client.flush(20), context
        for body in BODIES[10:20]:
            assert client.record_encoded(body), context
        assert client.flush(20), context
        assert eventually(lambda: is_settled(client, len(FAT) + 20)), context  # noqa: B023
        assert client.takes <= 3 * len(transport.accepted) + 60, context
        client.close(5)
        other = make(spool, transport)
        assert other.flush(20), context
        assert eventually(lambda: is_settled(other)), context  # noqa: B023
        other.close(5)
        transport.bodies = transport.accepted
        found = sent(transport, [*FAT, *BODIES[:20]])
        assert set(BODIES[10:20]) <= set(found), context
        if changes is IN_PLACE and not at:
            sound = [body for body in FAT if any(make_frame(body) in content for content in contents)]
            assert set(sound) | set(BODIES[:20]) <= set(found), context
            assert max(found.values()) == 1, context
        shutil.rmtree(spool)
