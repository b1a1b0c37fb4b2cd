"""The thread that empties the buffer: when to take, start, wake, wait and stop.

It sleeps on a bell and tells the buffer at how many triggers it wants to hear it: at the first one while it is
idle, at a full batch while the interval runs, never while it is at work. So most calls of `record_trigger` ring
nothing.

Sleeping is measured by durations in C, which a test that froze the clock does not freeze.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Generator

from brockman.buffer.base import Buffer
from brockman.buffer.memory import NEVER
from brockman.buffer.waiting_room import WaitingRoom
from brockman.delivery.engine import Delivery, GivenUp
from brockman.delivery.report import LINE_EVERY, Report
from brockman.process.clock import monotonic
from brockman.process.sync import Bell
from brockman.waiters import Rings, Waiters

_FAULT = "the flusher met {} (a fault of the transport or of brockman) and goes on"
_AFTER_A_FAULT = 1.0  # seconds until the flusher goes on after an error of its own
_START_GRACE = 1.0  # seconds that a thread has to come up before another one is started
_LINGER = 1.0  # seconds that the thread of clients that are gone stays for the next one


class Flusher:
    """Runs a delivery over a buffer, in a daemon thread that starts with the first trigger.

    Invariant: whoever holds `_role` is the only one to take from the buffer and to settle. That is the thread,
    or, when none can be started any more, a caller of `flush`.
    """

    def __init__(
        self,
        buffer: Buffer,
        report: Report,
        *,
        interval: float,
        max_count: int,
        max_bytes: int,
        spawn: Callable[[Callable[[], None]], None],
        is_held: Callable[[], bool],
        retire: Callable[[], bool],
        ended: Callable[[], None],
    ) -> None:
        """Make a flusher that does not run yet; `delivery` must be set before the first `wake`.

        Args:
            buffer: What to empty.
            report: Told when it may speak.
            interval: Seconds that a trigger may wait before an attempt.
            max_count: A batch of so many triggers goes at once.
            max_bytes: A batch of so many bytes goes at once.
            spawn: Starts a thread; raises RuntimeError when none can be had.
            is_held: Whether any client can still record.
            retire: Called by the thread when nobody has held it for a while and nothing waits; returns whether
                that is still so and the thread is to end.
            ended: Called by the thread when it has been stopped or retired and goes.
        """
        self.delivery: Delivery | None = None
        self._buffer = buffer
        self._report = report
        self._interval = interval
        self._full = (max_count, max_bytes)
        self._spawn = spawn
        self._is_held = is_held
        self._retire = retire
        self._ended = ended
        self._bell = Bell()
        self._role = threading.Lock()
        self._holder = 0  # the thread that holds the role, by its ident; 0 for none
        self._asked = -math.inf  # when a thread was last asked for
        self._waiters = Waiters(buffer)
        self.settled = self._waiters.let_go  # to be called when anything was settled
        self._joining = WaitingRoom()
        self._home = os.getpid()
        self._since = monotonic()  # no trigger waits for longer than since then
        self._hurried = False  # a flush asked for an attempt now
        self._stopping = False
        self._retired = False
        self._give_up_at = math.inf

    # --- from any thread ---

    def wake(self) -> bool:
        """Ring the bell; start the thread if it does not run. Does not block; False when no thread can be had."""
        runs = self._is_running or self._start()
        self._bell.ring()
        return runs

    def _start(self) -> bool:
        if sys.is_finalizing():  # before Python 3.12 a thread could still be made, and would never run
            return False
        try:
            self._spawn(self._run)
        except RuntimeError:  # no more threads, or the interpreter is ending
            return False
        self._asked = monotonic()
        return True

    @property
    def is_me(self) -> bool:
        """Whether the caller holds the role, as a callback does, and must not wait for itself."""
        return self._holder == threading.get_ident()

    def hurry(self) -> None:
        """Ask for an attempt now. Does not block."""
        self._hurried = True
        self._bell.ring()

    def wait_for(self, removed: int, timeout: float) -> None:
        """Wait until so many triggers have left the buffer, or `timeout` seconds, which may be infinite."""
        bell = Bell()
        with contextlib.closing(self.waits(removed, timeout, bell)) as waits:
            for seconds in waits:
                bell.wait(seconds)

    def waits(self, removed: int, timeout: float, bell: Rings) -> Generator[float, None, None]:
        """Yield the seconds to wait for the bell, again and again until `wait_for` is over. To be closed then.

        Blocks only where no thread can be had: then it does the work.
        """
        if self._buffer.removed >= removed or self.is_me:
            return
        until = monotonic() + timeout
        with self._waiters.waiting(removed, bell) as waiter:
            self._hurried = True
            while not self._waiters.is_over(removed):
                if not (self._is_running or self._start()):
                    self._work_here(removed, until)
                    return
                self._bell.ring()
                left = until - monotonic()
                if left <= 0:
                    return
                yield min(left, _START_GRACE)  # now and then a look whether the thread is still there
                if waiter not in self._waiters:  # let go
                    return

    @property
    def is_at_work(self) -> bool:
        """Whether anybody has the role."""
        return self._role.locked()

    @property
    def _is_running(self) -> bool:
        """Whether there is a thread, or one was asked for and may be about to come up."""
        return self._role.locked() or monotonic() - self._asked <= _START_GRACE

    def stop(self, timeout: float) -> None:
        """Ask the thread to make one more attempt at what waits, and to end within `timeout` seconds."""
        self._give_up_at = min(self._give_up_at, monotonic() + timeout)
        self._stopping = True
        self.hurry()

    def unheld(self) -> bool:
        """Let the thread see that nobody holds it any more; return whether there is one."""
        self._bell.ring()
        return self._is_running

    def join(self, timeout: float) -> None:
        """Wait until the thread has given its role back, or `timeout` seconds."""
        if not self.is_me:
            self._joining.wait(lambda: not self._role.locked(), timeout, lambda: False)

    # --- holding the role ---

    def _run(self) -> None:
        if not self._role.acquire(blocking=False):
            return  # two threads rang at once, and the other one was first
        self._holder = threading.get_ident()
        try:
            self._bell = Bell()  # of gevent's kind, if it has patched since the client was made
            self._since = monotonic()
            while not (self._retired or (self._stopping and (self._buffer.is_idle or self._buffer.is_abandoned))):
                try:
                    self._round()
                except GivenUp:
                    break
                except BaseException as error:  # whatever a transport or an empty memory brings: go on
                    if self._home != os.getpid() or not self._survive(error):
                        break
        finally:
            self._waiters.let_go()
            self._give_back_role()
        self._ended()

    def _give_back_role(self) -> None:
        self._buffer.due_at(1, NEVER)  # the next trigger rings, and starts a thread
        self._holder = 0  # before the release: idents are used again, and the next holder sets its own
        self._role.release()
        self._joining.ring()

    def _work_here(self, removed: int, until: float) -> None:
        """Do the thread's work in the caller's, for there is no thread."""
        if not self._role.acquire(blocking=False):
            return
        self._holder = threading.get_ident()
        before = self._give_up_at
        self._give_up_at = min(before, until)
        try:
            while not self._waiters.is_over(removed) and monotonic() < self._give_up_at:
                self._round()
        except GivenUp:
            pass
        except Exception as error:  # what a transport brings is not the caller's fault; the triggers stay
            self._report.trouble(logging.ERROR, _FAULT.format(type(error).__name__))
        finally:
            self._give_up_at = before
            self._give_back_role()

    def _round(self) -> None:
        assert self.delivery is not None
        self._wait_until_due()
        self._hurried = False
        self._buffer.keep_up()
        batch = self._buffer.take(self.delivery.max_count(len(self._buffer)), self.delivery.max_bytes)
        if not self._buffer:
            self._since = monotonic()
        if batch:
            self.delivery.deliver(batch)
        self._waiters.let_go()
        self._report.speak()

    def _wait_until_due(self) -> None:
        assert self.delivery is not None
        while not (self._hurried or self._waiters or self._stopping or self._buffer.in_flight):
            if not self._buffer:
                self._buffer.due_at(1, NEVER)
                if not self._buffer:  # looked again: a trigger may have come before `due_at`
                    if self._listen(None if self._is_held() else _LINGER) or not self._retire():
                        self._since = monotonic()
                        continue
                    self._retired = True
                    return
                continue
            self._buffer.due_at(self._full[0], min(self._full[1], self.delivery.max_bytes))
            left = self._since + self._interval - monotonic()
            if left <= 0 or self._buffer.is_due:
                break
            self._listen(left)
        self._buffer.due_at(NEVER, NEVER)

    def _listen(self, seconds: float | None) -> bool:
        """Sleep until the bell rings or the time is over, or there is something to do or say; None is for ever.

        Returns False when the whole time has passed in silence.
        """
        if self._home != os.getpid():  # a callback forked, and this is the child, in a copy
            raise GivenUp
        waits = (seconds, self._report.due_in(), self._buffer.due_in())
        longest = min((wait for wait in waits if wait is not None), default=math.inf)
        rang = self._bell.wait(longest)
        self._buffer.keep_up()
        self._report.speak()
        self._waiters.let_go()
        return rang or seconds is None or longest < seconds

    def pause(self, seconds: float, *, asked_for: bool) -> None:
        """Wait before the next attempt.

        `flush` and `stop` cut it short for one attempt; if the server asked for it (`Retry-After`), only `stop`.

        Raises:
            GivenUp: When the time given to `stop` is over.
        """
        until = monotonic() + seconds
        while True:
            now = monotonic()
            if now >= self._give_up_at:
                raise GivenUp
            if now >= until:
                return
            if self._hurried and (self._stopping or not asked_for):
                self._hurried = False
                return
            # Not longer than a minute at once: triggers may be dropped meanwhile, and that is to be told.
            self._listen(min(until - now, self._give_up_at - now, LINE_EVERY))

    def time_left(self) -> float | None:
        """Return the seconds that an attempt may take, 0 for no more; None when nobody waits for the end."""
        return None if self._give_up_at == math.inf else max(0.0, self._give_up_at - monotonic())

    def _survive(self, error: BaseException) -> bool:
        """Wait a little after an error that should not be; return whether to go on."""
        self._report.trouble(logging.ERROR, _FAULT.format(type(error).__name__))
        try:
            self.pause(_AFTER_A_FAULT, asked_for=False)
        except GivenUp:
            return False
        return True
