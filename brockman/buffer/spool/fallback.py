"""Whether triggers go to disk or wait in memory, and the way there and back."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from brockman.buffer.refuge import Refuge
from brockman.buffer.spool.notice import Notice
from brockman.buffer.spool.writer import Journal
from brockman.process.clock import monotonic

_RETRY = 1.0  # seconds until the disk is tried again
_IDLE = 4.0  # seconds more where nothing waits for it; long enough for a thread that nobody needs to end
_BUSY = 0.1  # seconds until it is looked again whether another thread is done with it


class Disk:
    """The disk under a journal, and the refuge while it fails.

    Invariant: while `is_direct` is set, the disk works, and triggers go straight to the journal.
    """

    def __init__(self, journal: Journal, refuge: Refuge, notice: Notice, wake: Callable[[], None]) -> None:
        """Touch nothing yet.

        Args:
            journal: What is on disk.
            refuge: What waits in memory.
            notice: Told when the disk fails, and when it works again.
            wake: Called when there is something to say.
        """
        self.is_direct = False
        self.is_closed = False
        self._journal = journal
        self._refuge = refuge
        self._notice = notice
        self._wake = wake
        self._retry_at = -math.inf

    @property
    def is_resting(self) -> bool:
        """Whether it is not to be touched: it has failed a moment ago, or is closed."""
        return self.is_closed or (self._notice.trouble is not None and monotonic() < self._retry_at)

    def close(self) -> None:
        """Take nothing more."""
        self.is_closed, self.is_direct = True, False

    def end(self) -> None:
        """Move what waits in memory to disk if that can be, and take nothing more."""
        try:
            if not self.is_closed and not self._refuge.is_idle and self._journal.make_room(b""):
                self._refuge.rescue(self._append_from)
                self._notice.work()
        except OSError as error:
            self._notice.fail(error)
        self.close()

    def fail(self, error: OSError) -> None:
        """Have triggers wait in memory from now on; it is said with the flusher's next round.

        Wakes nobody: the trigger that met it is nowhere yet, and late in a process waking delivers, and ends all.
        """
        self.is_direct = False
        self._retry_at = monotonic() + _RETRY
        self._notice.fail(error)
        self._journal.give_up()

    def fail_later(self, error: OSError) -> None:
        """Do as `fail` for a sync, of what was recorded before: no trigger comes to wake the flusher."""
        self.fail(error)
        self._wake()

    def bring_back(self, count: int) -> bool:
        """Move up to `count` triggers from memory to disk; return whether the next one may go there too.

        Raises:
            OSError: When the disk still fails.
        """
        if self.is_direct and not len(self._refuge):
            return True
        has_room = self._journal.make_room(b"")
        if not has_room and len(self._refuge):
            return False  # they still wait in memory
        self._notice.work()
        if not has_room:
            return True  # then the policy is asked
        if not self._refuge.bring_back(self._append_from, count):
            return False
        self.is_direct = not self.is_closed
        return True

    def _append_from(self, body: bytes, source: deque[bytes]) -> bool:
        journal = self._journal
        return journal.append(body, source) or (journal.make_room(body) and journal.append(body, source))

    def due_in(self) -> float | None:
        """Return in how many seconds `keep_up` is wanted; None when it is not."""
        if len(self._refuge):
            return self._retry_at - monotonic()
        if self._notice.trouble is not None:
            return self._retry_at + _IDLE - monotonic()
        return None

    def postpone(self) -> None:
        """Have `keep_up` wanted a little later: another thread is at it, and may wait for the disk for long."""
        self._retry_at = max(self._retry_at, monotonic() + _BUSY)

    def keep_up(self) -> None:
        """Bring everything back if it is time for that.

        Raises:
            OSError: When the disk still fails.
        """
        due = self.due_in()
        if due is not None and due <= 0:
            self._retry_at = monotonic() + _RETRY
            self.bring_back(len(self._refuge))
