"""The thread that empties the buffer: when to take, start, wake, wait and stop.

It sleeps on a wakeup and tells the buffer at how many triggers it wants to hear it: at the first one while it is
idle, at a full batch while the interval runs, never while it is at work. So most calls of `record_trigger` ring
nothing.

Sleeping is measured by durations in C, which a test that froze the clock does not freeze.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import threading
from collections.abc import Callable, Generator

from brockman.buffer.base import Buffer
from brockman.buffer.memory import NEVER
from brockman.delivery.engine import Delivery, DeliveryStopped
from brockman.delivery.report import Report
from brockman.process.clock import monotonic
from brockman.process.fork import Origin
from brockman.process.log import LINE_EVERY
from brockman.process.sync import Condition, SupportsSet, Waiters, Wakeup

_FAULT = "the flusher met {} (a fault of the transport or of brockman) and goes on"
_PAUSE_AFTER_ERROR = 1.0  # seconds until the flusher goes on after an error of its own
_START_GRACE = 1.0  # seconds that a thread has to come up before another one is started
_LINGER = 1.0  # seconds that the thread of clients that are gone stays for the next one


class Worker:
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
        self._wakeup = Wakeup()
        self._role = threading.Lock()
        self._holder = 0  # the thread that holds the role, by its ident; 0 for none
        self._asked = -math.inf  # when a thread was last asked for
        self._waiters = Waiters(lambda watermark: buffer.removed >= watermark or buffer.is_idle)
        self.settled = self._waiters.notify  # to be called when anything was settled
        self._joining = Condition()
        self._origin = Origin()
        self._since = monotonic()  # no trigger waits for longer than since then
        self._flush_requested = False  # a flush asked for an attempt now
        self._stopping = False
        self._retired = False
        self._give_up_at = math.inf

    # --- from any thread ---

    def wake(self) -> bool:
        """Wake the thread; start it if it does not run. Does not block; False when no thread can be started."""
        runs = self._is_running or self._start()
        self._wakeup.set()
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

    def request_flush(self) -> None:
        """Ask for an attempt now. Does not block."""
        self._flush_requested = True
        self._wakeup.set()

    def wait_for(self, removed: int, timeout: float) -> None:
        """Wait until so many triggers have left the buffer, or `timeout` seconds, which may be infinite."""
        wakeup = Wakeup()
        with contextlib.closing(self.waits(removed, timeout, wakeup)) as waits:
            for seconds in waits:
                wakeup.wait(seconds)

    def waits(self, removed: int, timeout: float, wakeup: SupportsSet) -> Generator[float, None, None]:
        """Yield the seconds to wait for the wakeup, again and again until `wait_for` is over. To be closed then.

        Blocks only where no thread can be had: then it does the work.
        """
        if self._buffer.removed >= removed or self.is_me:
            return
        until = monotonic() + timeout
        with self._waiters.waiting(removed, wakeup) as waiter:
            self._flush_requested = True
            while not self._waiters.is_reached(removed):
                if not (self._is_running or self._start()):
                    self._work_here(removed, until)
                    return
                self._wakeup.set()
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
        self.request_flush()

    def on_last_release(self) -> bool:
        """Let the thread see that nobody holds it any more; return whether there is one."""
        self._wakeup.set()
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
            self._wakeup = Wakeup()  # of gevent's kind, if it has patched since the client was made
            self._since = monotonic()
            while not (self._retired or (self._stopping and (self._buffer.is_idle or self._buffer.is_discarded))):
                try:
                    self._round()
                except DeliveryStopped:
                    break
                except BaseException as error:  # whatever a transport or an empty memory brings: go on
                    if self._origin.is_inherited or not self._survive(error):
                        break
        finally:
            self._waiters.notify()
            self._release_role()
        self._ended()

    def _release_role(self) -> None:
        self._buffer.set_wake_threshold(1, NEVER)  # the next trigger rings, and starts a thread
        self._holder = 0  # before the release: idents are used again, and the next holder sets its own
        self._role.release()
        self._joining.notify()

    def _work_here(self, removed: int, until: float) -> None:
        """Do the thread's work in the caller's, for there is no thread."""
        if not self._role.acquire(blocking=False):
            return
        self._holder = threading.get_ident()
        before = self._give_up_at
        self._give_up_at = min(before, until)
        try:
            while not self._waiters.is_reached(removed) and monotonic() < self._give_up_at:
                self._round()
        except DeliveryStopped:
            pass
        except Exception as error:  # what a transport brings is not the caller's fault; the triggers stay
            self._report.trouble(logging.ERROR, _FAULT.format(type(error).__name__))
        finally:
            self._give_up_at = before
            self._release_role()

    def _round(self) -> None:
        assert self.delivery is not None
        self._wait_until_due()
        self._flush_requested = False
        self._buffer.keep_up()
        batch = self._buffer.take(self.delivery.max_count(len(self._buffer)), self.delivery.max_bytes)
        if not self._buffer:
            self._since = monotonic()
        if batch:
            self.delivery.deliver(batch)
        self._waiters.notify()
        self._report.speak()

    def _wait_until_due(self) -> None:
        assert self.delivery is not None
        while not (self._flush_requested or self._waiters or self._stopping or self._buffer.in_flight):
            if not self._buffer:
                self._buffer.set_wake_threshold(1, NEVER)
                if not self._buffer:  # looked again: a trigger may have come before `set_wake_threshold`
                    if self._listen(None if self._is_held() else _LINGER) or not self._retire():
                        self._since = monotonic()
                        continue
                    self._retired = True
                    return
                continue
            self._buffer.set_wake_threshold(self._full[0], min(self._full[1], self.delivery.max_bytes))
            left = self._since + self._interval - monotonic()
            if left <= 0 or self._buffer.is_due:
                break
            self._listen(left)
        self._buffer.set_wake_threshold(NEVER, NEVER)

    def _listen(self, seconds: float | None) -> bool:
        """Sleep until the wakeup rings or the time is over, or there is something to do or say; None is for ever.

        Returns False when the whole time has passed in silence.
        """
        if self._origin.is_inherited:  # a callback forked, and this is the child, in a copy
            raise DeliveryStopped
        waits = (seconds, self._report.due_in(), self._buffer.due_in())
        longest = min((wait for wait in waits if wait is not None), default=math.inf)
        rang = self._wakeup.wait(longest)
        self._buffer.keep_up()
        self._report.speak()
        self._waiters.notify()
        return rang or seconds is None or longest < seconds

    def sleep(self, seconds: float, *, server_requested: bool) -> None:
        """Wait before the next attempt.

        `flush` and `stop` cut it short for one attempt; if the server asked for it (`Retry-After`), only `stop`.

        Raises:
            DeliveryStopped: When the time given to `stop` is over.
        """
        until = monotonic() + seconds
        while True:
            now = monotonic()
            if now >= self._give_up_at:
                raise DeliveryStopped
            if now >= until:
                return
            if self._flush_requested and (self._stopping or not server_requested):
                self._flush_requested = False
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
            self.sleep(_PAUSE_AFTER_ERROR, server_requested=False)
        except DeliveryStopped:
            return False
        return True
