"""What the tests of damage share: files of a process that is gone, and one who reads them to the end."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

from brockman.buffer.counters import Ledger
from brockman.buffer.spool.adoption import Adopted
from brockman.buffer.spool.directory import SpoolDir
from brockman.buffer.spool.notice import Notice
from brockman.buffer.spool.quarantine import Aside
from brockman.buffer.spool.quota import Quota
from brockman.buffer.spool.reader import Chain
from brockman.buffer.spool.writer import Journal
from brockman.callbacks import Callbacks
from brockman.process.clock import monotonic
from brockman.trigger.encode import encode_trigger
from brockman.trigger.ids import make_ids

_next_id = make_ids(os.urandom).__next__


def triggers(count: int, variables: object = None) -> list[bytes]:
    """Return so many different triggers, as `record_trigger` makes them."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return [
        encode_trigger(f"actor {number}", "viewed", "page", None, None, variables, _next_id(), now, 32768)
        for number in range(count)
    ]


class Wreck:
    """A spool read by its parts, with their own ledger: what `SpoolBuffer` does, without a thread."""

    def __init__(self, path: Path, *, segment_bytes: int = 4096) -> None:
        self.path = path
        self.told: list[tuple[str, bytes | None]] = []
        self.ledger = Ledger(Callbacks(lambda reason, body: self.told.append((reason, body)), None))
        self.spool = SpoolDir(str(path))
        self.spool.open()
        self.notice = Notice(str(path))
        keep = Aside(self.spool, self.ledger, self.notice).keep
        quota = Quota(self.spool, 1 << 30, monotonic)
        self.journal = Journal(self.ledger, keep, self.spool, quota, segment_bytes=segment_bytes, fsync="never")
        self.adopted = Adopted(self.spool, self.ledger, keep, self.notice, nullcontext)
        self.stored = 0
        self.delivered: list[bytes] = []

    def record(self, bodies: Iterable[bytes]) -> None:
        """Leave triggers in files of this process."""
        for body in bodies:
            while not self.journal.append(body):
                assert self.journal.make_room(body)
            self.stored += 1

    def begin_anew(self) -> None:
        """Forget what was counted, of a journal that is empty."""
        assert self.journal.is_empty
        self.stored = self.ledger.recovered = self.ledger.dropped["damaged"] = 0
        self.delivered, self.told[:] = [], []

    def seal(self) -> Path:
        """End the segment that is being written, and return its path."""
        name = self.journal.active.name
        self.journal.renew()
        return self.path / self.journal.folders[-1].name / name

    def drain(self, chain: Chain, max_count: int = 500) -> None:
        """Deliver all that is in a chain."""
        for _ in range(1000):
            batch = chain.take(max_count, 1 << 19)
            if not batch:
                break
            self.delivered += batch
            chain.settle(len(batch), delivered=True)
            chain.acknowledge()
        else:
            raise AssertionError("it never ends")
        chain.tell_lost()

    def adopt(self, max_count: int = 500) -> None:
        """Adopt what is left by others, and deliver it."""
        self.adopted.look(60.0)
        for chain in list(self.adopted.chains):
            self.drain(chain, max_count)
            assert chain.is_empty
            self.adopted.done(chain)

    @property
    def damaged(self) -> int:
        """How many are counted as damaged; the counts must be right, and everybody told."""
        count = self.ledger.dropped["damaged"]
        assert self.told == [("damaged", None)] * count
        assert self.stored + self.ledger.recovered == len(self.delivered) + sum(self.ledger.dropped.values())
        return count

    def aside(self) -> bytes:
        """Return all that was kept aside."""
        return b"".join(file.read_bytes() for file in sorted((self.path / "damaged").glob("*")))

    def close(self) -> None:
        """Close the files."""
        self.journal.close()
        self.spool.close()


def leave(path: Path, bodies: Iterable[bytes], *, segment_bytes: int = 1 << 20) -> Path:
    """Leave triggers as a process does that is gone, and return its folder."""
    gone = Wreck(path, segment_bytes=segment_bytes)
    gone.record(bodies)
    folder = path / gone.journal.folders[-1].name
    gone.close()
    return folder


def adopt_by_parts(path: Path) -> Wreck:
    """Adopt and deliver all there is."""
    wreck = Wreck(path)
    wreck.adopt()
    wreck.close()
    return wreck
