"""The buffer on disk, in files that outlive the process; in memory while the disk fails.

put -> writer (files of this process)     -.
  `--> fallback (memory), back to disk      ---> in flight -> settled (counted, and acknowledged in the files)
       adopted (files of processes gone)  -'
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from brockman.buffer.base import Buffer
from brockman.buffer.counters import Counters
from brockman.buffer.memory import NEVER
from brockman.buffer.moves import SeqLock
from brockman.buffer.spool.adoption import Adopted, transfer_from
from brockman.buffer.spool.directory import SpoolDir
from brockman.buffer.spool.fallback import DiskState, FallbackBuffer
from brockman.buffer.spool.fsync import IntervalSync
from brockman.buffer.spool.quarantine import Quarantine
from brockman.buffer.spool.quota import Quota
from brockman.buffer.spool.reader import Reader
from brockman.buffer.spool.writer import Writer
from brockman.exceptions import BufferFull
from brockman.options import Options
from brockman.process.clock import monotonic
from brockman.process.log import SpoolLog
from brockman.process.sync import Condition

_PAUSE = 0.01  # seconds that a caller leaves to the worker, which moves about 1000 triggers meanwhile
Source = Reader | FallbackBuffer


class SpoolBuffer(Buffer):
    """A buffer on disk, bounded by the bytes of the whole spool.

    Attributes:
        segment_bytes: Size of a segment, where `max_spool_bytes` has room for eight.
        segment_max_age: Seconds after which a new segment is begun.
        adopt_every: Seconds between two looks for processes that are gone.
    """

    segment_bytes = 1024 * 1024
    segment_max_age = 600.0
    adopt_every = 30.0

    def __init__(
        self,
        options: Options,
        counters: Counters,
        fallback: FallbackBuffer,
        *,
        wake: Callable[[], None],
        may_wait: Callable[[], bool],
        spawn: Callable[[Callable[[], None]], None],
    ) -> None:
        """Open nothing yet. `spawn` starts a thread, or raises RuntimeError; the rest is as for `MemoryBuffer`."""
        super().__init__()
        path, fsync = str(options.spool_dir), options.spool_fsync
        self._counters = counters
        self._fallback = fallback
        self._log = SpoolLog(path, counters.log)
        self._spool = SpoolDir(path, self._log.note)
        self._seqlock = SeqLock()  # held by take, settle, adopt, evict, release_files; by put only to evict
        keep = Quarantine(self._spool, counters, self._log).keep
        quota = Quota(self._spool, options.max_spool_bytes, monotonic)
        size = min(self.segment_bytes, options.max_spool_bytes // 8)
        self._writer = Writer(counters, keep, self._spool, quota, segment_bytes=size, fsync=fsync)
        self._adopted = Adopted(self._spool, counters, keep, self._log, self._seqlock.write)
        self._disk = DiskState(self._writer, fallback, self._log, wake)
        self._in_flight: deque[tuple[Source, int]] = deque()  # how many of each source, in the order of `take`
        self._own_first = False
        self._overflow = options.overflow
        self._block_timeout = options.block_timeout
        self._wake = wake
        self._may_wait = may_wait
        self._blocked = Condition()
        self._is_inherited = False
        self._next_adoption = -math.inf
        self._interval: IntervalSync | None = None
        self._sync: Callable[[], None] | None = None
        if fsync == "interval":
            self._interval = IntervalSync(self._writer, spawn, self._disk.fail_sync)
            self._sync = self._interval.wrote
        elif fsync == "always":
            self._sync = self._sync_now

    # --- counts ---

    def __len__(self) -> int:
        return self._writer.waiting + self._adopted.waiting + len(self._fallback)

    @property
    def version(self) -> int:
        mine, other = self._seqlock.version, self._fallback.version
        return 2 * (mine + other) + (mine | other) % 2

    @property
    def removed(self) -> int:
        total = self._adopted.removed  # first: a reader that is closed meanwhile must not count twice
        for reader in (self._writer, *self._adopted.readers):
            total += reader.taken - reader.in_flight
        return total + self._fallback.removed

    @property
    def in_flight(self) -> int:
        return sum(source.in_flight for source in self._all_sources())

    @property
    def evicted(self) -> int:
        return self._fallback.evicted

    @property
    def waiting_bytes(self) -> int:
        readers = [self._writer, *self._adopted.readers]
        return sum(reader.waiting_bytes for reader in readers) + self._fallback.waiting_bytes

    @property
    def oldest(self) -> bytes | None:
        for reader in (*self._adopted.readers, self._writer):
            body = reader.oldest
            if body is not None:
                return body
        return self._fallback.oldest

    @property
    def trouble(self) -> str | None:
        return self._log.problem

    @property
    def is_due(self) -> bool:
        return self._fallback.is_due or super().is_due

    def set_wake_threshold(self, count: int, size: int) -> None:
        super().set_wake_threshold(count, size)
        self._fallback.set_wake_threshold(count, size)

    # --- put ---

    def put(self, body: bytes) -> bool:
        """Do as `Buffer.put`: on disk, or in memory while the disk fails.

        Blocks only under the policy "block", and for a sync with `spool_fsync="always"`.
        """
        writer, stored = self._writer, False
        if self._disk.is_direct:
            try:
                stored = writer.append(body)
            except OSError as error:
                self._disk.fail(error)
        if not stored and not self._put_slowly(body):
            return False
        if self._sync is not None:
            self._sync()
        if (
            writer.stored - writer.taken >= self._wake_count
            or writer.stored_bytes - writer.taken_bytes >= self._wake_bytes
        ):
            self._wake()
        return True

    def _put_slowly(self, body: bytes) -> bool:
        """Do as `put` where the active segment does not take the trigger."""
        if self._discarded and not self._is_inherited:  # closed since the caller looked
            self._counters.drop("closed", body)
            return False
        if self._disk.is_overtaken and self._may_wait():
            self._blocked.wait(lambda: not self._disk.is_overtaken, _PAUSE, lambda: self._discarded)
        if self._disk.takes_triggers:
            try:
                while (has_room := self._writer.make_room(body)) and self._disk.work():
                    if self._writer.append(body):
                        return True
                if not has_room and self._disk.work():  # full is not failing
                    return self._put_in_full_spool(body)
            except OSError as error:
                self._disk.fail(error)
        return self._fallback.put(body) and not (self._discarded and self._is_lost(body))

    def _is_lost(self, body: bytes) -> bool:
        """Return whether a trigger in the fallback was dropped, not moved to disk, because the client closes."""
        if self._is_inherited:
            return False
        self._counters.notify_drops("closed", self._fallback.discard("closed"), math.inf)
        return id(body) in self._fallback.lost

    def _put_in_full_spool(self, body: bytes) -> bool:
        """Make room for a trigger as the overflow policy says, or drop it."""
        self._overflowed = True
        if self._wake_count < NEVER:  # the worker sleeps, and has to report it
            self._wake()
        writer, fits = self._writer, self._writer.may_hold(body)
        if fits and self._overflow == "drop_oldest":
            while self._evict():
                if writer.make_room(body) and writer.append(body):
                    return True
        elif fits and self._overflow == "block" and self._may_wait():
            until = monotonic() + self._block_timeout
            while self._blocked.wait(lambda: writer.make_room(body), until - monotonic(), lambda: self._discarded):
                if writer.append(body):
                    return True
        self._counters.drop("overflow", body)
        if self._overflow == "raise":
            raise BufferFull(
                f"the spool {self._spool.path} is full; raise max_spool_bytes, or choose another overflow policy"
            )
        return False

    def _evict(self) -> bool:
        """Drop the oldest segment of this process that is not in use; return False when there is none."""
        if self._seqlock.is_mine:  # a signal handler within a move
            return False
        with self._seqlock.write():
            bodies = self._writer.evict()
        self._counters.notify_drops("overflow", bodies or [], math.inf)
        self._writer.notify_damaged()
        return bodies is not None

    def _sync_now(self) -> None:
        try:
            self._writer.sync()
        except OSError as error:
            self._disk.fail_sync(error)

    # --- the worker ---

    def take(self, max_count: int, max_bytes: int) -> Sequence[bytes]:
        """Do as `Buffer.take`: from this process and from those that are gone in turn."""
        self._overflowed = False
        with self._seqlock.write():
            unsettled = [(source, source.unsettled) for source in self._all_sources()]
            self._in_flight = deque((source, len(bodies)) for source, bodies in unsettled if bodies)
        batch: Sequence[bytes] = [body for _, bodies in unsettled for body in bodies]
        if not batch:
            batch, failed = self._take(max_count, max_bytes)
            if failed is not None and not batch:
                raise failed
        return [] if self._discarded else batch  # discarded meanwhile: what was taken stays for other processes

    def take_more(self, max_count: int, max_bytes: int) -> Sequence[bytes]:
        """Do as `Buffer.take_more`: from whatever process has left some, since others may have none."""
        return self._take(max_count, max_bytes)[0]

    def _take(self, max_count: int, max_bytes: int) -> tuple[Sequence[bytes], OSError | None]:
        """Return the next triggers of the first source that has some, and why another one could not be read."""
        batch: Sequence[bytes] = []
        failed: OSError | None = None
        with self._seqlock.write():
            sources = [] if self._discarded else self._sources()
            for source in sources:
                try:
                    batch = source.take_more(max_count, max_bytes)
                except OSError as error:
                    failed = error
                    continue
                self._close_if_empty(source)
                if batch:
                    self._in_flight.append((source, len(batch)))
                    break
        for source in sources:
            if isinstance(source, Reader):
                source.notify_damaged()
        if failed is not None:
            self._log.note(f"files cannot be read at present: {failed.strerror}")
        return batch, failed

    def _all_sources(self) -> list[Source]:
        return [self._writer, *self._adopted.readers, self._fallback]

    def _sources(self) -> list[Source]:
        own: list[Source] = [self._writer] if self._writer.waiting else []
        if len(self._fallback):
            own.append(self._fallback)
        self._own_first = not self._own_first
        return [*own, *self._adopted.readers] if self._own_first else [*self._adopted.readers, *own]

    def settle(self, count: int, *, delivered: bool) -> bool:
        while count:
            source, held = self._in_flight[0]
            part = min(count, held)
            if not self._settle(source, part, delivered=delivered):
                return False
            count -= part
        self._blocked.notify()
        return True

    def _settle(self, source: Source, count: int, *, delivered: bool) -> bool:
        """Settle triggers of the source that is the first in flight."""
        with self._seqlock.write():
            if self._discarded:
                return False
            held = self._in_flight[0][1] - count
            self._in_flight.popleft()
            if held:
                self._in_flight.appendleft((source, held))
            if not isinstance(source, Reader):
                return source.settle(count, delivered=delivered)
            source.settle(count, delivered=delivered)
        with self._seqlock.held():
            if self._discarded:  # meanwhile
                return True
            try:
                source.acknowledge()
            except OSError as error:
                self._log.note(f"settled triggers may be sent again, acknowledging failed: {error.strerror}")
            self._close_if_empty(source)
        source.notify_damaged()
        return True

    def _close_if_empty(self, source: Source) -> None:
        """Close an adopted reader that is empty."""
        if isinstance(source, Reader) and source is not self._writer and source.is_empty:
            with self._seqlock.write():
                if not source.take_more(1, 1):  # the rest is zeros, or damage
                    self._adopted.close_reader(source)

    def adopt(self, seconds: float) -> None:
        """Do as `Buffer.adopt`. Blocks while triggers are counted."""
        if not self._discarded:
            self._adopted.look(seconds, seconds)

    def due_in(self) -> float | None:
        if self._discarded:
            return None
        times = (self._next_adoption - monotonic(), self._disk.due_in(), self._log.due_in())
        return max(0.0, min(time for time in times if time is not None))

    def keep_up(self) -> None:
        """Adopt, move the fallback to disk, begin a new segment, and log, each when it is due."""
        if self._discarded:
            return
        if monotonic() >= self._next_adoption:
            self._next_adoption = monotonic() + self.adopt_every
            self._adopted.look(0.0)
        # No waiting: the holder may be interrupted by a signal handler that flushes, and waits for the worker.
        if self._writer.changing.acquire(blocking=False):
            try:
                self._keep_up_disk()
            finally:
                self._writer.changing.release()
        else:
            self._disk.postpone()
        self._log.write()

    def _keep_up_disk(self) -> None:
        try:
            if self._writer.wants_rotation(self.segment_max_age):
                self._writer.rotate()
            if self._disk.keep_up() and self._sync is not None:
                self._sync()
        except OSError as error:
            self._disk.fail(error)

    # --- the end, and forks ---

    def discard(self, reason: str) -> list[bytes]:
        self._discarded = True
        self._disk.end()
        dropped = self._fallback.discard(reason)
        self._blocked.notify()
        return dropped

    def release_files(self) -> int:
        released = 0
        self._adopted.finish()
        with self._seqlock.write():
            if self._interval is not None:
                self._interval.finish()
            self._writer.close()
            self._adopted.close()
            for reader in (self._writer, *self._adopted.readers):
                waiting = reader.waiting
                with self._counters.guard:
                    reader.taken += waiting
                    self._counters.left_on_disk += waiting
                released += waiting
            self._spool.close()
        self._log.write()
        return released

    def after_fork_in_child(self) -> None:
        """Do as `Buffer.after_fork_in_child`. Takes no lock."""
        self._discarded = self._is_inherited = True
        self._disk.close()
        self._writer.after_fork_in_child()
        self._adopted.after_fork_in_child()
        self._spool.close()

    def transfer_to_child(self, put: Callable[[bytes], object]) -> None:
        self._fallback.transfer_to_child(put)
        transfer_from(self._spool.path, [process_dir.name for process_dir in self._writer.process_dirs], put)

    def clear(self) -> None:
        self._fallback.clear()
