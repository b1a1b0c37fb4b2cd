"""Triggers that wait on disk, in files that outlive the process; in memory while the disk takes none.

put -> journal (files of this process)   -.
  `--> refuge (memory), back to disk     ---> in flight -> settled (counted in the ledger, noted in the files)
       adopted (files of processes gone) -'
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from brockman.buffer.counters import Ledger
from brockman.buffer.memory import NEVER
from brockman.buffer.moves import Moves
from brockman.buffer.refuge import Refuge
from brockman.buffer.spool.adoption import Adopted, give_left
from brockman.buffer.spool.directory import SpoolDir
from brockman.buffer.spool.fallback import Disk
from brockman.buffer.spool.fsync import make_syncer
from brockman.buffer.spool.notice import Notice
from brockman.buffer.spool.quarantine import Aside
from brockman.buffer.spool.quota import Quota
from brockman.buffer.spool.reader import Chain
from brockman.buffer.spool.writer import Journal
from brockman.buffer.spool_places import SpoolPlaces
from brockman.buffer.waiting_room import WaitingRoom
from brockman.exceptions import BufferFull
from brockman.options import Options
from brockman.process.clock import monotonic

ADOPT_EVERY = 30.0  # seconds
SEGMENT_BYTES = 1024 * 1024
_SLICE = 100  # triggers that one call moves back to disk
_MAX_AGE = 600.0  # seconds that a segment is written to


class SpoolBuffer(SpoolPlaces):
    """A buffer on disk, bounded by the bytes of the whole spool; `brockman.buffer.base` tells its methods."""

    def __init__(
        self,
        options: Options,
        ledger: Ledger,
        refuge: Refuge,
        *,
        wake: Callable[[], None],
        may_wait: Callable[[], bool],
        spawn: Callable[[Callable[[], None]], None],
    ) -> None:
        """Open nothing yet; the arguments are those of `make_buffer`, and `spool_dir` is among the options."""
        path, fsync = str(options.spool_dir), options.spool_fsync
        self._ledger = ledger
        self._spool = SpoolDir(path)
        self._notice = Notice(path)
        aside = Aside(self._spool, ledger, self._notice)
        quota = Quota(self._spool, options.max_spool_bytes, monotonic)
        size = min(SEGMENT_BYTES, options.max_spool_bytes // 8)
        journal = Journal(ledger, aside.keep, self._spool, quota, segment_bytes=size, fsync=fsync)
        moves = Moves()  # take, settle, adopt, evict, leave_behind; `put` only when there is no room
        adopted = Adopted(self._spool, ledger, aside.keep, self._notice, moves.under_way)
        super().__init__(journal, adopted, refuge, moves, self._notice)
        self._disk = Disk(journal, refuge, self._notice, wake)
        self._own_turn = False
        self._overflow = options.overflow
        self._block_timeout = options.block_timeout
        self._wake = wake
        self._may_wait = may_wait
        self._blocked = WaitingRoom()
        self._syncer = make_syncer(fsync, self._journal, spawn, self._disk.fail_later)
        self._sync = None if self._syncer is None else self._syncer.wrote
        self._next_look = -math.inf

    # --- put ---

    def put(self, body: bytes) -> bool:
        """Leave a trigger on disk, or in memory while the disk fails; False when it was dropped for want of room.

        Blocks only under the policy "block", and for a sync where that was asked for.

        Raises:
            BufferFull: Under the policy "raise".
        """
        journal, stored = self._journal, False
        if self._disk.is_direct:
            try:
                stored = journal.append(body)
            except OSError as error:
                self._disk.fail(error)
        if not stored and not self._put_slowly(body):
            return False
        if self._sync is not None:
            self._sync()
        if (
            journal.stored - journal.taken >= self._due_count
            or journal.stored_bytes - journal.taken_bytes >= self._due_bytes
        ):
            self._wake()
        return True

    def _put_slowly(self, body: bytes) -> bool:
        """Do what `put` does where it cannot go straight to the journal."""
        if self._disk.is_resting:
            return self._refuge.put(body)
        try:
            if self._disk.bring_back(_SLICE):
                while self._journal.make_room(body):
                    if self._journal.append(body):
                        return True
                return self._make_way(body)
        except OSError as error:
            self._disk.fail(error)
        return self._refuge.put(body)

    def _make_way(self, body: bytes) -> bool:
        """Do with a trigger that the spool has no room for as the policy says."""
        self._pressed = True
        if self._due_count < NEVER:  # the flusher sleeps, and is to tell of it
            self._wake()
        journal, fits = self._journal, self._journal.may_hold(body)
        if fits and self._overflow == "drop_oldest":
            while self._evict():
                if journal.make_room(body) and journal.append(body):
                    return True
        elif fits and self._overflow == "block" and self._may_wait():
            until = monotonic() + self._block_timeout
            while self._blocked.wait(
                lambda: journal.make_room(body), until - monotonic(), lambda: self._abandoned
            ):
                if journal.append(body):
                    return True
        self._ledger.drop("overflow", body)
        if self._overflow == "raise":
            raise BufferFull(
                f"the spool {self._spool.path} is full; raise max_spool_bytes, or choose another overflow policy"
            )
        return False

    def _evict(self) -> bool:
        """Drop the oldest segment of this process that is not in use; False when there is none."""
        if self._moves.is_mine:  # a signal handler in the middle of a move
            return False
        with self._moves.under_way():
            bodies = self._journal.evict()
        self._ledger.tell_all("overflow", bodies or [], math.inf)
        self._journal.tell_lost()
        return bodies is not None

    # --- the flusher's role ---

    def take(self, max_count: int, max_bytes: int) -> Sequence[bytes]:
        """Move the oldest triggers in flight: of this process and of those that are gone in turn.

        What is still in flight is returned again instead.

        Raises:
            OSError: When files cannot be read at present, and there is nothing else.
        """
        self._pressed = False
        batch: Sequence[bytes] = []
        failed: OSError | None = None
        with self._moves.under_way():
            sources = [] if self._abandoned else [self._source] if self._source.in_flight else self._sources()
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
            if isinstance(source, Chain):
                source.tell_lost()
        if failed is not None:
            self._notice.note(f"files cannot be read at present: {failed.strerror}")
            if not batch:
                raise failed
        return [] if self._abandoned else batch  # closed meanwhile: what was taken is left to others

    def _sources(self) -> list[Chain | Refuge]:
        own: list[Chain | Refuge] = [self._journal] if self._journal.waiting else []
        if len(self._refuge):
            own.append(self._refuge)
        left = list(self._adopted.chains)
        self._own_turn = not self._own_turn
        return [*own, *left] if self._own_turn else [*left, *own]

    def settle(self, count: int, *, delivered: bool) -> bool:
        """Count the oldest of those in flight, and note it in the files; after `abandon` only return False."""
        source = self._source
        with self._moves.under_way():
            if self._abandoned:
                return False
            source.settle(count, delivered=delivered)
        if isinstance(source, Chain):
            with self._moves.held():
                if self._abandoned:  # by now
                    return True
                try:
                    source.acknowledge()
                except OSError as error:
                    self._notice.note(f"what is settled cannot be noted, and may be sent again: {error.strerror}")
                self._let_go(source)
            source.tell_lost()
            self._blocked.ring()
        return True

    def _let_go(self, source: Chain | Refuge) -> None:
        """Close a chain that was adopted, if nothing is left in it."""
        if isinstance(source, Chain) and source is not self._journal and source.is_empty:
            with self._moves.under_way():
                if not source.take(1, 1):  # what is left are zeros, or damage
                    self._source = self._refuge
                    self._adopted.done(source)

    def adopt(self, seconds: float) -> None:
        """Take over what processes that are gone have left. Blocks while it is counted."""
        if not self._abandoned:
            self._adopted.look(seconds, seconds)

    def due_in(self) -> float | None:
        """Return in how many seconds `keep_up` is wanted."""
        if self._abandoned:
            return None
        times = (self._next_look - monotonic(), self._disk.due_in(), self._notice.due_in())
        return max(0.0, min(time for time in times if time is not None))

    def keep_up(self) -> None:
        """Adopt, go back to disk, begin a new segment, and say what is to be said, each when it is time."""
        if self._abandoned:
            return
        if monotonic() >= self._next_look:
            self._next_look = monotonic() + ADOPT_EVERY
            self._adopted.look(0.0)
        # Not waited for: who holds it may be interrupted by a signal handler that flushes, and waits for us.
        if self._journal.changing.acquire(blocking=False):
            try:
                self._keep_up_disk()
            finally:
                self._journal.changing.release()
        else:
            self._disk.postpone()
        self._notice.speak()

    def _keep_up_disk(self) -> None:
        try:
            if self._journal.wants_renewal(_MAX_AGE):
                self._journal.renew()
            self._disk.keep_up()
        except OSError as error:
            self._disk.fail(error)

    # --- the end, and forks ---

    def abandon(self, reason: str) -> list[bytes]:
        """Take no more in, drop what waits in memory only, and return that: the caller tells `on_drop`."""
        self._abandoned = True
        self._disk.end()
        dropped = self._refuge.abandon(reason)
        self._blocked.ring()
        return dropped

    def leave_behind(self) -> int:
        """Close the files, unlock the folders, and return how many triggers are left there for others to adopt."""
        left = 0
        self._adopted.finish()
        with self._moves.under_way():
            if self._syncer is not None:
                self._syncer.finish()
            self._journal.close()
            self._adopted.close()
            for chain in (self._journal, *self._adopted.chains):
                waiting = chain.waiting
                with self._ledger.guard:
                    chain.taken += waiting
                    self._ledger.left += waiting
                left += waiting
            self._spool.close()
        self._notice.speak()
        return left

    def disown(self) -> None:
        """Close the copies of what is the parent's: this is a forked child. Takes no lock."""
        self._abandoned = True
        self._disk.close()
        self._journal.disown()
        self._adopted.disown()
        self._spool.close()

    def give_away(self, put: Callable[[bytes], object]) -> None:
        """Give all that is here to `put`: for the child of a fork that takes over from a parent that lives on."""
        self._refuge.give_away(put)
        give_left(self._spool.path, [folder.name for folder in self._journal.folders], put)

    def clear(self) -> None:
        """Forget what is in memory; the files are the parent's."""
        self._refuge.clear()
