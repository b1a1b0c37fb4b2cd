"""Take over what processes have left that are gone: each folder by exactly one adopter, the oldest first."""

from __future__ import annotations

import math
import resource
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from brockman.buffer.counters import Ledger
from brockman.buffer.spool.directory import Refused, SpoolDir
from brockman.buffer.spool.notice import Notice
from brockman.buffer.spool.process_dir import Folder, adopt_folder, folder_names, open_folder, sweep
from brockman.buffer.spool.reader import Chain
from brockman.buffer.spool.segment import Foreign, Segment, is_segment
from brockman.callbacks import Callbacks
from brockman.process.clock import monotonic

_AT_ONCE = 64  # folders; each keeps two to four files open
_SHARE = 16  # of the files that the process may have open; the rest is the program's


class Adopted:
    """The chains of processes that are gone. Belongs to whoever holds the moves of the buffer."""

    def __init__(
        self,
        spool: SpoolDir,
        ledger: Ledger,
        keep_aside: Callable[[Segment, bytes], None],
        notice: Notice,
        under_way: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Adopt nothing yet.

        Args:
            spool: The spool's folder.
            ledger: As for a chain.
            keep_aside: As for a chain.
            notice: Told what is left alone, and why.
            under_way: Held while counts move.
        """
        self.chains: list[Chain] = []  # not a deque: readers copy it, in one step also without the global lock
        self.past = 0  # how many have left in chains that are done
        self._spool = spool
        self._ledger = ledger
        self._keep_aside = keep_aside
        self._notice = notice
        self._under_way = under_way
        self._looking = threading.RLock()
        self._is_closed = False
        # Settled, but the disk does not let go of them: they stay locked, or would be adopted again and again.
        self._stuck: list[Chain] = []
        self._untold: list[Chain] = []  # damage was found in them that `on_drop` is to be told of

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(chain.waiting for chain in list(self.chains))

    def look(self, patience: float, seconds: float = math.inf) -> None:
        """Adopt what has no owner. Blocks while it is counted; one folder, whatever the time.

        Args:
            patience: Seconds to wait for a look of another thread; then there is none. The flusher has none: a
                signal handler may have interrupted that look, and wait for the flusher.
            seconds: How long to look.
        """
        until = monotonic() + seconds
        if not self._looking.acquire(timeout=min(patience, threading.TIMEOUT_MAX)):
            return
        try:
            self._spool.open()
        except OSError:  # who records meets the same, and it is said then
            return
        else:
            self._look(until)
        finally:
            self._looking.release()
        with suppress(IndexError):  # all are told
            while True:
                self._untold.pop().tell_lost()  # calls `on_drop`: nothing may be held

    def finish(self) -> None:
        """Look no more, and wait a moment for a look under way: it may lock a folder that is left now."""
        self._is_closed = True
        if self._looking.acquire(timeout=1.0):
            self._looking.release()

    def _look(self, until: float) -> None:
        try:
            sweep(self._spool)
            names = folder_names(self._spool)
        except OSError as error:
            if not self._spool.is_closed:  # by another thread, meanwhile
                self._notice.note(f"cannot be searched for what others have left: {error.strerror}")
            return
        for name in names:
            if self._is_closed or len(self.chains) + len(self._stuck) >= _at_once():
                return
            try:
                folder = adopt_folder(self._spool, name)
            except Refused as error:
                self._notice.note(f"{name}: {error.strerror}; it is left alone")
                continue
            except OSError as error:
                self._notice.note(f"{name} cannot be adopted: {error.strerror}")
                continue
            if folder is not None:
                self._adopt(folder)
                if monotonic() > until:
                    return

    def _adopt(self, folder: Folder) -> None:
        chain = Chain(self._ledger, self._keep_aside)
        chain.folders.append(folder)
        try:
            link_segments(chain, folder, self._leave_alone)
        except OSError as error:  # too many open files, or a disk that fails: another time
            self._notice.note(f"{folder.name} cannot be read: {error.strerror}")
            chain.disown()
            return
        except BaseException:
            chain.disown()
            raise
        segments = list(chain.segments())
        count = sum(segment.count for segment in segments)
        size = sum(segment.end - segment.read_to for segment in segments)
        with self._under_way():
            if self._is_closed:  # meanwhile
                chain.disown()
                return
            self.chains.append(chain)
            with self._ledger.guard:
                chain.stored, chain.stored_bytes = count, size
                self._ledger.recovered += count
            if count == 0:  # nothing, or damage in which not even the start of a frame is left
                chain.take(1, 1)
                self.done(chain)
        if chain.lost:
            self._untold.append(chain)

    def _leave_alone(self, folder: Folder, error: Foreign) -> None:
        self._notice.note(f"{folder.name}/{error.filename}: {error.strerror}; it is left alone")

    def done(self, chain: Chain) -> None:
        """Let go of a chain that is empty."""
        with self._ledger.guard:
            self.past += chain.taken
            chain.taken = chain.stored = 0
        self.chains.remove(chain)
        if chain.is_stuck:
            self._stuck.append(chain)
        else:
            chain.close()

    def close(self) -> None:
        """Let go of all that is left, for others to adopt, and adopt nothing more."""
        self._is_closed = True
        for chain in (*self.chains, *self._stuck):
            chain.close()

    def disown(self) -> None:
        """Close the copies of what is the parent's."""
        self._is_closed = True
        for chain in (*self.chains, *self._stuck):
            chain.disown()


def _at_once() -> int:
    """Return how many folders may be adopted at a time."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _AT_ONCE if limit == resource.RLIM_INFINITY else max(1, min(_AT_ONCE, limit // _SHARE))


def link_segments(chain: Chain, folder: Folder, leave_alone: Callable[[Folder, Foreign], object]) -> None:
    """Add what lies in a folder to a chain; files of other kinds are passed over.

    Args:
        chain: The chain.
        folder: The folder.
        leave_alone: Told of what bears a segment's name and is not to be touched.

    Raises:
        OSError: When a segment cannot be read.
    """
    for name in folder.names():
        if is_segment(name):
            segment = Segment(folder, name)
            try:
                segment.find()
            except Foreign as error:
                leave_alone(folder, error)
                continue
            except FileNotFoundError:  # removed meanwhile
                continue
            segment.rest()
            chain.link(segment)


def give_left(path: str, names: list[str], put: Callable[[bytes], object]) -> None:
    """Give what lies in folders to `put`, and note that it is settled: their owner lives, but leaves it to us."""
    spool = SpoolDir(path)
    with suppress(OSError):
        spool.open()
        for name in names:
            chain = Chain(Ledger(Callbacks(None, None)), lambda segment, content: None)
            try:
                _give(chain, open_folder(spool, name), put)
            finally:
                chain.disown()
    spool.close()


def _give(chain: Chain, folder: Folder, put: Callable[[bytes], object]) -> None:
    chain.folders.append(folder)
    link_segments(chain, folder, lambda folder, error: None)
    for segment in chain.segments():
        spans = segment.read(segment.count, segment.end).spans
        for span in spans:
            if span.body is not None:
                put(span.body)
        if spans:
            segment.acknowledge(spans[-1].stop)  # not the end of the file: its owner may go on there
