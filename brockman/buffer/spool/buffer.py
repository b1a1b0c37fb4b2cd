"""Triggers that wait on disk, in files that outlive the process; in memory while the disk takes none.

put -> writer (files of this process)   -.
  `--> fallback (memory), back to disk     ---> in flight -> settled (counted in the counters, noted in the files)
       adopted (files of processes gone) -'
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from brockman.buffer.counters import Counters
from brockman.buffer.memory import NEVER
from brockman.buffer.moves import READ_TRIES, SeqLock
from brockman.buffer.spool.adoption import Adopted, give_left
from brockman.buffer.spool.directory import SpoolDir
from brockman.buffer.spool.fallback import DiskState, FallbackBuffer
from brockman.buffer.spool.fsync import make_syncer
from brockman.buffer.spool.quarantine import Quarantine
from brockman.buffer.spool.quota import Quota
from brockman.buffer.spool.reader import Reader
from brockman.buffer.spool.writer import Writer
from brockman.exceptions import BufferFull
from brockman.options import Options
from brockman.process.clock import monotonic
from brockman.process.log import Notice
from brockman.process.sync import Condition


class SpoolPlaces:
    """Counts what is in them; see `brockman.buffer.base` for what each count is. `_source` is where the
    triggers in flight come from.
    """

    def __init__(
        self, writer: Writer, adopted: Adopted, fallback: FallbackBuffer, moves: SeqLock, notice: Notice
    ) -> None:
        self._writer = writer
        self._adopted = adopted
        self._fallback = fallback
        self._source: Reader | FallbackBuffer = fallback
        self._seqlock = moves
        self._notice = notice
        self._wake_count, self._wake_bytes = 1, NEVER
        self._overflowed = False  # there was no room for a trigger since the last take
        self._discarded = False

    def __len__(self) -> int:
        """Return how many wait, those in flight not counted."""
        return self._writer.waiting + self._adopted.waiting + len(self._fallback)

    @property
    def version(self) -> int:
        """What was read is one moment's when this was even before, and is the same after."""
        mine, other = self._seqlock.version, self._fallback.version
        return 2 * (mine + other) + (mine | other) % 2

    @property
    def removed(self) -> int:
        """How many that once waited are settled or dropped; the flush watermark."""
        total = self._adopted.past  # first: a reader that is done meanwhile is not to be counted twice
        for reader in (self._writer, *self._adopted.readers):
            total += reader.taken - reader.in_flight
        return total + self._fallback.removed

    @property
    def admitted(self) -> int:
        """How many were ever put in or adopted."""
        for _ in range(READ_TRIES):
            version, removed = self.version, self.removed
            total = removed + self.in_flight + len(self)
            if version == self.version and version % 2 == 0 and removed == self.removed and not self.evicted:
                break
        return total

    @property
    def in_flight(self) -> int:
        """How many are taken and not settled."""
        return self._source.in_flight

    @property
    def evicted(self) -> int:
        """How many have left and are not counted as dropped yet."""
        return self._fallback.evicted

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not len(self) and not self.in_flight

    @property
    def is_discarded(self) -> bool:
        """Whether `discard` was called."""
        return self._discarded

    @property
    def waiting_bytes(self) -> int:
        """Size of what waits, in bytes; on disk with its frames."""
        readers = [self._writer, *self._adopted.readers]
        return sum(reader.waiting_bytes for reader in readers) + self._fallback.waiting_bytes

    @property
    def oldest(self) -> bytes | None:
        """The oldest trigger that is not settled, those of processes that are gone first."""
        for reader in (*self._adopted.readers, self._writer):
            body = reader.oldest
            if body is not None:
                return body
        return self._fallback.oldest

    @property
    def trouble(self) -> str | None:
        """Why the disk takes no triggers at present; None while it does."""
        return self._notice.trouble

    @property
    def is_due(self) -> bool:
        """Whether as much waits as `set_wake_threshold` was told, or there was no room for a trigger."""
        return self._overflowed or self._fallback.is_due or self.holds(self._wake_count, self._wake_bytes)

    def set_wake_threshold(self, count: int, size: int) -> None:
        """Set how many triggers, or bytes, make `put` wake the flusher."""
        self._wake_count, self._wake_bytes = count, size
        self._fallback.set_wake_threshold(count, size)

    def holds(self, count: int, size: int) -> bool:
        """Return whether at least so many triggers, or bytes, wait."""
        return len(self) >= count or self.waiting_bytes >= size


ADOPT_EVERY = 30.0  # seconds
SEGMENT_BYTES = 1024 * 1024
_SLICE = 100  # triggers that one call moves back to disk
_MAX_AGE = 600.0  # seconds that a segment is written to


class SpoolBuffer(SpoolPlaces):
    """A buffer on disk, bounded by the bytes of the whole spool; `brockman.buffer.base` tells its methods."""

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
        """Open nothing yet; the arguments are those of `make_buffer`, and `spool_dir` is among the options."""
        path, fsync = str(options.spool_dir), options.spool_fsync
        self._counters = counters
        self._spool = SpoolDir(path)
        self._notice = Notice(path)
        aside = Quarantine(self._spool, counters, self._notice)
        quota = Quota(self._spool, options.max_spool_bytes, monotonic)
        size = min(SEGMENT_BYTES, options.max_spool_bytes // 8)
        writer = Writer(counters, aside.keep, self._spool, quota, segment_bytes=size, fsync=fsync)
        moves = SeqLock()  # take, settle, adopt, evict, release_files; `put` only when there is no room
        adopted = Adopted(self._spool, counters, aside.keep, self._notice, moves.write)
        super().__init__(writer, adopted, fallback, moves, self._notice)
        self._disk = DiskState(writer, fallback, self._notice, wake)
        self._own_turn = False
        self._overflow = options.overflow
        self._block_timeout = options.block_timeout
        self._wake = wake
        self._may_wait = may_wait
        self._blocked = Condition()
        self._syncer = make_syncer(fsync, self._writer, spawn, self._disk.fail_later)
        self._sync = None if self._syncer is None else self._syncer.wrote
        self._next_look = -math.inf

    # --- put ---

    def put(self, body: bytes) -> bool:
        """Leave a trigger on disk, or in memory while the disk fails; False when it was dropped for want of room.

        Blocks only under the policy "block", and for a sync where that was asked for.

        Raises:
            BufferFull: Under the policy "raise".
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
        """Do what `put` does where it cannot go straight to the writer."""
        if self._disk.cooling_down:
            return self._fallback.put(body)
        try:
            if self._disk.bring_back(_SLICE):
                while self._writer.make_room(body):
                    if self._writer.append(body):
                        return True
                return self._make_way(body)
        except OSError as error:
            self._disk.fail(error)
        return self._fallback.put(body)

    def _make_way(self, body: bytes) -> bool:
        """Do with a trigger that the spool has no room for as the policy says."""
        self._overflowed = True
        if self._wake_count < NEVER:  # the flusher sleeps, and is to tell of it
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
        """Drop the oldest segment of this process that is not in use; False when there is none."""
        if self._seqlock.is_mine:  # a signal handler in the middle of a move
            return False
        with self._seqlock.write():
            bodies = self._writer.evict()
        self._counters.notify_drops("overflow", bodies or [], math.inf)
        self._writer.notify_lost()
        return bodies is not None

    # --- the flusher's role ---

    def take(self, max_count: int, max_bytes: int) -> Sequence[bytes]:
        """Move the oldest triggers in flight: of this process and of those that are gone in turn.

        What is still in flight is returned again instead.

        Raises:
            OSError: When files cannot be read at present, and there is nothing else.
        """
        self._overflowed = False
        batch: Sequence[bytes] = []
        failed: OSError | None = None
        with self._seqlock.write():
            sources = [] if self._discarded else [self._source] if self._source.in_flight else self._sources()
            for source in sources:
                self._source = source
                try:
                    batch = source.take(max_count, max_bytes)
                except OSError as error:
                    failed = error
                    continue
                self._let_go(source)
                if batch:
                    break
        for source in sources:
            if isinstance(source, Reader):
                source.notify_lost()
        if failed is not None:
            self._notice.note(f"files cannot be read at present: {failed.strerror}")
            if not batch:
                raise failed
        return [] if self._discarded else batch  # closed meanwhile: what was taken is left to others

    def _sources(self) -> list[Reader | FallbackBuffer]:
        own: list[Reader | FallbackBuffer] = [self._writer] if self._writer.waiting else []
        if len(self._fallback):
            own.append(self._fallback)
        left = list(self._adopted.readers)
        self._own_turn = not self._own_turn
        return [*own, *left] if self._own_turn else [*left, *own]

    def settle(self, count: int, *, delivered: bool) -> bool:
        """Count the oldest of those in flight, and note it in the files; after `discard` only return False."""
        source = self._source
        with self._seqlock.write():
            if self._discarded:
                return False
            source.settle(count, delivered=delivered)
        if isinstance(source, Reader):
            with self._seqlock.held():
                if self._discarded:  # by now
                    return True
                try:
                    source.acknowledge()
                except OSError as error:
                    self._notice.note(f"what is settled cannot be noted, and may be sent again: {error.strerror}")
                self._let_go(source)
            source.notify_lost()
            self._blocked.notify()
        return True

    def _let_go(self, source: Reader | FallbackBuffer) -> None:
        """Close a reader that was adopted, if nothing is left in it."""
        if isinstance(source, Reader) and source is not self._writer and source.is_empty:
            with self._seqlock.write():
                if not source.take(1, 1):  # what is left are zeros, or damage
                    self._source = self._fallback
                    self._adopted.done(source)

    def adopt(self, seconds: float) -> None:
        """Take over what processes that are gone have left. Blocks while it is counted."""
        if not self._discarded:
            self._adopted.look(seconds, seconds)

    def due_in(self) -> float | None:
        """Return in how many seconds `keep_up` is wanted."""
        if self._discarded:
            return None
        times = (self._next_look - monotonic(), self._disk.due_in(), self._notice.due_in())
        return max(0.0, min(time for time in times if time is not None))

    def keep_up(self) -> None:
        """Adopt, go back to disk, begin a new segment, and say what is to be said, each when it is time."""
        if self._discarded:
            return
        if monotonic() >= self._next_look:
            self._next_look = monotonic() + ADOPT_EVERY
            self._adopted.look(0.0)
        # Not waited for: who holds it may be interrupted by a signal handler that flushes, and waits for us.
        if self._writer.changing.acquire(blocking=False):
            try:
                self._keep_up_disk()
            finally:
                self._writer.changing.release()
        else:
            self._disk.postpone()
        self._notice.speak()

    def _keep_up_disk(self) -> None:
        try:
            if self._writer.wants_rotation(_MAX_AGE):
                self._writer.rotate()
            self._disk.keep_up()
        except OSError as error:
            self._disk.fail(error)

    # --- the end, and forks ---

    def discard(self, reason: str) -> list[bytes]:
        """Take no more in, drop what waits in memory only, and return that: the caller tells `on_drop`."""
        self._discarded = True
        self._disk.end()
        dropped = self._fallback.discard(reason)
        self._blocked.notify()
        return dropped

    def release_files(self) -> int:
        """Close the files, unlock the folders, and return how many triggers are left there for others to adopt."""
        left = 0
        self._adopted.finish()
        with self._seqlock.write():
            if self._syncer is not None:
                self._syncer.finish()
            self._writer.close()
            self._adopted.close()
            for reader in (self._writer, *self._adopted.readers):
                waiting = reader.waiting
                with self._counters.guard:
                    reader.taken += waiting
                    self._counters.left_on_disk += waiting
                left += waiting
            self._spool.close()
        self._notice.speak()
        return left

    def after_fork_in_child(self) -> None:
        """Close the copies of what is the parent's: this is a forked child. Takes no lock."""
        self._discarded = True
        self._disk.close()
        self._writer.after_fork_in_child()
        self._adopted.after_fork_in_child()
        self._spool.close()

    def transfer_to_child(self, put: Callable[[bytes], object]) -> None:
        """Give all that is here to `put`: for the child of a fork that takes over from a parent that lives on."""
        self._fallback.transfer_to_child(put)
        give_left(self._spool.path, [folder.name for folder in self._writer.folders], put)

    def clear(self) -> None:
        """Forget what is in memory; the files are the parent's."""
        self._fallback.clear()
