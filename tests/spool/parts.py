"""The parts of a spool without a client: files of a process that is gone, and a reader of them."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

from brockman.buffer.counters import Callbacks, Counters
from brockman.buffer.spool.adoption import Adopted
from brockman.buffer.spool.directory import SpoolDir
from brockman.buffer.spool.quarantine import Quarantine
from brockman.buffer.spool.quota import Quota
from brockman.buffer.spool.reader import Reader
from brockman.buffer.spool.writer import Writer
from brockman.process.clock import REAL_NS, monotonic
from brockman.process.log import SpoolLog
from brockman.trigger.encode import encode_trigger
from brockman.trigger.ids import make_ids

_next_id = make_ids(os.urandom, *REAL_NS).__next__


def triggers(count: int, variables: object = None) -> list[bytes]:
    """Return `count` different triggers, as `record_trigger` makes them."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return [
        encode_trigger(f"actor {number}", "viewed", "page", None, None, variables, _next_id(), now, 32768)
        for number in range(count)
    ]


class SpoolParts:
    """A spool read by its parts, with their own counters: what `SpoolBuffer` does, without a thread."""

    def __init__(self, path: Path, *, segment_bytes: int = 4096) -> None:
        self.path = path
        self.notified: list[tuple[str, bytes | None]] = []
        self.counters = Counters(Callbacks(lambda reason, body: self.notified.append((reason, body)), None))
        self.spool = SpoolDir(str(path))
        self.spool.open()
        self.log = SpoolLog(str(path), self.counters.log)
        keep = Quarantine(self.spool, self.counters, self.log).keep
        quota = Quota(self.spool, 1 << 30, monotonic)
        self.writer = Writer(self.counters, keep, self.spool, quota, segment_bytes=segment_bytes, fsync="never")
        self.adopted = Adopted(self.spool, self.counters, keep, self.log, nullcontext)
        self.stored = 0
        self.delivered: list[bytes] = []

    def record(self, bodies: Iterable[bytes]) -> None:
        """Leave triggers in files of this process."""
        for body in bodies:
            while not self.writer.append(body):
                assert self.writer.make_room(body)
            self.stored += 1

    def begin_anew(self) -> None:
        """Forget what was counted, of a writer that is empty."""
        assert self.writer.is_empty
        self.stored = self.counters.recovered = self.counters.dropped["damaged"] = 0
        self.delivered, self.notified[:] = [], []

    def seal(self) -> Path:
        """End the segment that is being written, and return its path."""
        name = self.writer.active.name
        self.writer.rotate()
        return self.path / self.writer.process_dirs[-1].name / name

    def drain(self, reader: Reader, max_count: int = 500) -> None:
        """Deliver all that is in a reader."""
        for _ in range(1000):
            batch = reader.take_more(max_count, 1 << 19)
            if not batch:
                break
            self.delivered += batch
            reader.settle(len(batch), delivered=True)
            reader.acknowledge()
        else:
            raise AssertionError("it never ends")
        reader.notify_damaged()

    def adopt(self, max_count: int = 500) -> None:
        """Adopt what is left by others, and deliver it."""
        self.adopted.look(60.0)
        for reader in list(self.adopted.readers):
            self.drain(reader, max_count)
            assert reader.is_empty
            self.adopted.close_reader(reader)

    @property
    def damaged(self) -> int:
        """How many are counted as damaged; the counts must be right, and `on_drop` called for each."""
        count = self.counters.dropped["damaged"]
        assert self.notified == [("damaged", None)] * count
        assert self.stored + self.counters.recovered == len(self.delivered) + sum(self.counters.dropped.values())
        return count

    def quarantined(self) -> bytes:
        """Return the content of the quarantine."""
        return b"".join(file.read_bytes() for file in sorted((self.path / "damaged").glob("*")))

    def close(self) -> None:
        """Close the files."""
        self.writer.close()
        self.spool.close()


def leave(path: Path, bodies: Iterable[bytes], *, segment_bytes: int = 1 << 20) -> Path:
    """Leave triggers as a process does that is gone, and return its folder."""
    gone = SpoolParts(path, segment_bytes=segment_bytes)
    gone.record(bodies)
    folder = path / gone.writer.process_dirs[-1].name
    gone.close()
    return folder


def adopt_by_parts(path: Path) -> SpoolParts:
    """Adopt and deliver all there is."""
    parts = SpoolParts(path)
    parts.adopt()
    parts.close()
    return parts
