"""The thread that empties the buffer: when to start, sleep, take, deliver and stop.

It sleeps on a wakeup, and sets the buffer's wake threshold: one trigger while it is idle, a full batch while the
interval runs, never while it works. So most calls of `record_trigger` wake nobody.

Sleeping is measured by durations in C, which a test that froze the clock does not freeze.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import math
import sys
from collections.abc import Callable, Collection, Generator, Sequence

from brockman.buffer.base import Buffer
from brockman.buffer.counters import Callbacks, Counters
from brockman.buffer.memory import NEVER
from brockman.delivery import policy
from brockman.delivery.engine import Engine, Held, Settled
from brockman.delivery.policy import Outcome
from brockman.delivery.report import DELIVERY, Report
from brockman.options import Options
from brockman.process import pulse
from brockman.process.clock import monotonic
from brockman.process.fork import Origin
from brockman.process.interruption import is_interruption
from brockman.process.log import LINE_EVERY
from brockman.process.sync import Role, SupportsSet, Waiters, Wakeup

_START_GRACE = 1.0  # seconds that a thread has to begin before another one is started
_PAUSE_AFTER_ERROR = 1.0  # seconds until the worker continues after an unexpected error
_LINGER = 1.0  # seconds that the thread waits for another client when the last one is gone


class DeliveryStopped(Exception):
    """The client is closed and its time is over. What is in flight stays in flight."""


class Ending(enum.Enum):
    """Why `Worker.run` returned."""

    NOT_BEGUN = "another thread delivers"
    UNUSED = "no client is left, and nothing waits"
    STOPPED = "stopped"


class Worker:
    """Delivers what is in a buffer, in a daemon thread that starts with the first trigger."""

    def __init__(
        self,
        buffer: Buffer,
        engine: Engine,
        role: Role,
        counters: Counters,
        callbacks: Callbacks,
        report: Report,
        options: Options,
        *,
        leases: Collection[object],
        start: Callable[[], None],
    ) -> None:
        """Make a worker that does not run yet.

        Args:
            leases: Those of the clients; when there are none, the worker ends after a while.
            start: Starts a thread that calls `run`; raises RuntimeError when none can be started.
        """
        self._role = role
        self._buffer = buffer
        self._engine = engine
        self._counters = counters
        self._callbacks = callbacks
        self._report = report
        self._options = options
        self._leases = leases
        self._start_thread = start
        self._wakeup = Wakeup()
        self._asked_at = -math.inf  # when a thread was last started
        self._waiters = Waiters(lambda watermark: buffer.removed >= watermark or buffer.is_idle)
        self._origin = Origin()
        self._since = monotonic()  # no trigger has waited for longer
        self._flush_requested = False
        self._stopping = False
        self._stop_at = math.inf  # on the clock: no attempt goes beyond it

    # --- from any thread ---

    def wake(self) -> bool:
        """Wake the thread; start it if it does not run. Does not block; False when none can be started."""
        runs = self._is_running or self._start()
        self._wakeup.set()
        return runs

    def _start(self) -> bool:
        if sys.is_finalizing():  # before Python 3.12 a thread could still be made, and would never run
            return False
        try:
            self._start_thread()
        except RuntimeError:  # too many threads, or the interpreter is ending
            return False
        self._asked_at = monotonic()
        return True

    def request_flush(self) -> None:
        """Ask for an attempt now. Does not block."""
        self._flush_requested = True
        self._wakeup.set()

    def wait_for(self, watermark: int, timeout: float) -> None:
        """Wait until this many triggers have left the buffer, or `timeout` seconds (may be infinite)."""
        wakeup = Wakeup()
        with contextlib.closing(self.waits(watermark, timeout, wakeup)) as waits:
            for seconds in waits:
                wakeup.wait(seconds)

    def waits(self, watermark: int, timeout: float, wakeup: SupportsSet) -> Generator[float, None, None]:
        """Yield the seconds to wait for the wakeup, until `wait_for` is over. To be closed then.

        Blocks only where no thread can be started: then it does the work.
        """
        if self._buffer.removed >= watermark or self._role.is_mine:
            return
        until = monotonic() + timeout
        with self._waiters.waiting(watermark, wakeup) as waiter:
            self._flush_requested = True
            while not self._waiters.is_reached(watermark):
                if not (self._is_running or self._start()):
                    self._work_here(watermark, until)
                    return
                self._wakeup.set()
                left = until - monotonic()
                if left <= 0:
                    return
                yield min(left, _START_GRACE)  # then check that the thread still runs
                if waiter not in self._waiters:  # notified
                    return

    @property
    def _is_running(self) -> bool:
        """True while a thread works, or was started a moment ago."""
        return self._role.is_taken or monotonic() - self._asked_at <= _START_GRACE

    def stop(self, timeout: float) -> None:
        """Ask the thread to make one more attempt at what waits, and to end within `timeout` seconds."""
        self._stop_at = min(self._stop_at, monotonic() + timeout)
        self._stopping = True
        self.request_flush()

    def on_last_release(self) -> bool:
        """Have the thread see that no client is left; return whether there is one."""
        self._wakeup.set()
        return self._is_running

    # --- holding the role ---

    def run(self) -> Ending:
        """Work until stopped, or until no client is left and nothing waits. Blocks."""
        if not self._role.take():
            return Ending.NOT_BEGUN
        try:
            self._wakeup = Wakeup()  # of gevent's kind, if it has patched since the client was made
            self._since = monotonic()
            while not (self._stopping and (self._buffer.is_idle or self._buffer.is_discarded)):
                try:
                    if not self._wait_until_due():
                        return Ending.UNUSED
                    self._deliver_next()
                except DeliveryStopped:
                    break
                except BaseException as error:  # of a transport, or of memory that is full: continue
                    if self._origin.is_inherited or not self._recover(error):
                        break
            return Ending.STOPPED
        finally:
            self._release_role()

    def _work_here(self, watermark: int, until: float) -> None:
        if not self._role.take():
            return
        before = self._stop_at
        self._stop_at = min(before, until)
        try:
            while not self._waiters.is_reached(watermark) and monotonic() < self._stop_at:
                self._wait_until_due()
                self._deliver_next()
        except DeliveryStopped:
            pass
        except Exception as error:  # of a transport, and not the caller's fault; the triggers stay
            if is_interruption(error):
                raise
            self._log_unexpected(error)
        finally:
            self._stop_at = before
            self._release_role()

    def _release_role(self) -> None:
        self._waiters.notify()
        self._buffer.set_wake_threshold(1, NEVER)  # the next trigger starts a thread
        self._role.release()

    def _wait_until_due(self) -> bool:
        """Sleep until there is something to deliver; False when no client is left."""
        buffer, options = self._buffer, self._options
        while not (self._flush_requested or self._waiters or self._stopping or buffer.in_flight):
            if not buffer:
                buffer.set_wake_threshold(1, NEVER)
                if not buffer:  # checked again: a trigger may have come before the threshold
                    if not self._listen(None if self._leases else _LINGER):
                        return False
                    self._since = monotonic()
                continue
            buffer.set_wake_threshold(
                options.max_batch_size, min(options.max_batch_bytes, self._engine.limits.max_bytes)
            )
            left = self._since + options.flush_interval - monotonic()
            if left <= 0 or buffer.is_due:
                break
            self._listen(left)
        buffer.set_wake_threshold(NEVER, NEVER)
        return True

    def _listen(self, seconds: float | None) -> bool:
        """Sleep until woken, for `seconds` (None: for ever), or until there is something to do or to log.

        Returns False when the whole time has passed and nothing happened.
        """
        if self._origin.is_inherited:  # a callback forked, and this is the child
            raise DeliveryStopped
        pulse.beat()
        waits = [seconds, self._report.due_in(), self._buffer.due_in()]
        if seconds is None or seconds > _LINGER:  # or a thread that lingers would not end while others work
            waits.append(pulse.due_in())
        longest = min((wait for wait in waits if wait is not None), default=math.inf)
        woken = self._wakeup.wait(longest)
        self._buffer.keep_up()
        self._report.write()
        self._waiters.notify()
        return woken or seconds is None or longest < seconds

    def _deliver_next(self) -> None:
        self._flush_requested = False
        self._buffer.keep_up()
        batch = self._buffer.take(self._engine.max_count(len(self._buffer)), self._engine.limits.max_bytes)
        if not self._buffer:
            self._since = monotonic()
        if batch:
            self.deliver(batch)
        self._waiters.notify()
        self._report.write()
        pulse.beat()

    def deliver(self, batch: Sequence[bytes]) -> None:
        """Bring a batch to its end, however long it takes. Raises DeliveryStopped when the client closes."""
        for event in self._engine.deliver(batch, self._time_left, self._take_more):
            self._counters.retries += event.resent
            if self._origin.is_inherited:  # a callback forked, or a greenlet was copied
                raise DeliveryStopped
            if isinstance(event, Settled):
                self._settle(event)
            else:
                self._hold(event)

    def _time_left(self) -> float | None:
        if self._origin.is_inherited:  # a callback forked
            return 0.0
        return None if self._stop_at == math.inf else max(0.0, self._stop_at - monotonic())

    def _take_more(self) -> Sequence[bytes]:
        return self._buffer.take_more(self._options.max_batch_size, self._options.max_batch_bytes)

    def _settle(self, event: Settled) -> None:
        counters, error = self._counters, event.result.error
        has_answered = event.result.outcome is not Outcome.SERVER_ERROR
        if has_answered and self._report.log.over(DELIVERY, f"{self._engine.target} answers again"):
            self._report.write()
        if error is not None:
            counters.last_error = counters.details["rejected"] = str(error)
        if not self._buffer.settle(len(event.bodies), delivered=event.is_accepted):
            raise DeliveryStopped
        counters.batches += event.ends_request
        counters.add_repeated(event.repeated)
        self._waiters.notify()
        if error is not None:
            self._callbacks.refused(error, tuple(event.bodies))

    def _hold(self, event: Held) -> None:
        result = event.result
        if result is None:
            raise DeliveryStopped
        self._counters.last_error = str(result.error)
        level = logging.ERROR if result.outcome is Outcome.MISCONFIGURED else logging.WARNING
        text = policy.describe(result, self._engine.target, "triggers are held")
        self._report.log.trouble(DELIVERY, level, text)
        self._report.write()
        self.sleep(event.seconds, server_requested=result.retry_after is not None)
        self._counters.retries += 1

    def sleep(self, seconds: float, *, server_requested: bool) -> None:
        """Wait before the next attempt.

        `flush` and `stop` cut it short for one attempt; if the server asked for it (`Retry-After`), only `stop`.

        Raises:
            DeliveryStopped: When the time given to `stop` is over.
        """
        until = monotonic() + seconds
        while True:
            now = monotonic()
            if now >= self._stop_at:
                raise DeliveryStopped
            if now >= until:
                return
            if self._flush_requested and (self._stopping or not server_requested):
                self._flush_requested = False
                return
            # Not longer than a minute at once: triggers may be dropped meanwhile, and that is to be logged.
            self._listen(min(until - now, self._stop_at - now, LINE_EVERY))

    def _recover(self, error: BaseException) -> bool:
        """Wait a little after an unexpected error; return whether to continue."""
        self._log_unexpected(error)
        try:
            self.sleep(_PAUSE_AFTER_ERROR, server_requested=False)
        except DeliveryStopped:
            return False
        return True

    def _log_unexpected(self, error: BaseException) -> None:
        name = type(error).__name__
        self._report.log.event("worker", logging.ERROR, f"unexpected {name} in the worker; continuing")
