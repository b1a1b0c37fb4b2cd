"""Everything between `record_trigger` and the server, wired: buffer, worker, engine, transport."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import suppress
from random import SystemRandom
from typing import TYPE_CHECKING

from brockman.buffer.counters import Callbacks, Counters, read_stats
from brockman.delivery.engine import Engine, Held
from brockman.delivery.factory import check_transport, make_buffer, make_transport
from brockman.delivery.foreign import ForeignTransport
from brockman.delivery.inline import InlineDelivery
from brockman.delivery.policy import SendResult
from brockman.delivery.report import Report
from brockman.delivery.sender import Sender
from brockman.delivery.worker import Ending, Worker
from brockman.exceptions import FocusLabError
from brockman.options import Options
from brockman.process import exit, log_thread, registry
from brockman.process.clock import REAL_NS, monotonic
from brockman.process.fork import CLEARED, HERE, Origin, fork_flag
from brockman.process.log import say
from brockman.process.registry import Lease
from brockman.process.signals import inherited_signals, unmasked
from brockman.process.sync import Role, SupportsSet, Wakeup
from brockman.process.threads import serialize_calls
from brockman.process.uwsgi import UWSGI, Spawn, thread_starter
from brockman.stats import FlushResult, Stats, result_between
from brockman.transport import Transport
from brockman.trigger.coerce import class_name
from brockman.trigger.ids import make_ids

if TYPE_CHECKING:
    import requests

_NOTIFY_SECONDS = 0.25  # beyond its deadline, that close spends on calls of `on_drop`


class Pipeline:
    """One buffer, one thread, one transport, for one process. Nothing starts before the first trigger.

    The clients of a process that have the same settings share one; see `brockman.process.registry`.
    """

    def __init__(
        self,
        options: Options,
        transport: Transport | None = None,
        session: requests.Session | None = None,
        *,
        key: Hashable = None,
        counters: Counters | None = None,
        is_own_transport: bool | None = None,
        spawn: Spawn | None = None,
    ) -> None:
        """Wire the parts; open nothing, start nothing.

        Args:
            options: The settings.
            transport: Sends instead of HTTP.
            session: Sends, for HTTP.
            key: Equal for the clients that share this.
            counters: Where to count on; None for counts that begin at 0.
            is_own_transport: Whether the transport is the user's code; None means that it is if it is given.
            spawn: Starts a thread, or raises RuntimeError; None for the way of this process.
        """
        self.options, self.key = options, key
        self.fork_flag = fork_flag()
        self.exiting = False  # whether no exit hook follows, so that nothing may wait
        self.leases: set[Lease] = set()
        self.next_id = serialize_calls(make_ids(os.urandom, *REAL_NS).__next__)
        self.callbacks = Callbacks(unmasked(options.on_drop), unmasked(options.on_error))
        self.counters = counters or Counters(self.callbacks)
        self._origin, self._role = Origin(), Role()
        self._spawn = spawn or thread_starter()
        may_wait = self._role.may_block
        self.buffer = make_buffer(options, self.counters, wake=self._wake, may_wait=may_wait, spawn=self._spawn)
        self._report = Report(self.counters, self.callbacks, self.counters.log, is_on_disk=bool(options.spool_dir))
        self.transport = make_transport(options, session) if transport is None else check_transport(transport)
        is_given = transport is not None or session is not None
        self._is_own_transport = is_given if is_own_transport is None else is_own_transport
        self._sender = Sender(options, self.buffer, self.counters)
        self._worker = Worker(
            self.buffer,
            self.make_engine(),
            self._role,
            self.counters,
            self.callbacks,
            self._report,
            options,
            leases=self.leases,
            start=lambda: self._spawn(self._run_worker),
        )
        self.inline = InlineDelivery(self.buffer, self._worker, options)
        self._is_detached = self._ends_by_itself = False  # no caller waits for the thread: it cleans up

    @property
    def shutdown_timeout(self) -> float:
        return self.options.shutdown_timeout

    @property
    def is_used(self) -> bool:
        """True once any trigger was recorded or dropped."""
        return self.buffer.admitted > 0 or any(self.counters.dropped.values())

    @property
    def is_idle(self) -> bool:
        return self.buffer.is_idle

    @property
    def is_at_work(self) -> bool:
        return self._role.is_taken

    @property
    def calls_at_close(self) -> bool:
        """True when closing calls the user's code, which may block."""
        return self._is_own_transport or self.options.on_drop is not None

    @property
    def is_inherited(self) -> bool:
        return self._origin.is_inherited

    @property
    def is_registered(self) -> bool:
        """True until it is unregistered; False in a forked child."""
        return bool(self.fork_flag[HERE])

    # --- recording ---

    def drop(self, reason: str, body: bytes | None = None, detail: str = "") -> None:
        """Count a trigger that is lost before it was buffered, and have it logged with what was wrong with it."""
        is_new = bool(detail) and self._report.mistake(detail)
        if detail:
            self.counters.details[reason] = detail
        self.counters.drop(reason, body)
        if (self._report.note() or is_new) and not self.buffer.is_discarded:
            self._wake()

    def refuse(self, reason: str) -> bool:
        """Count a trigger of a client that is closed or disabled, or of a handler of our log; return False."""
        self.counters.drop(reason)
        if reason == "closed":
            self._report.refused()
        return False

    def _wake(self) -> None:
        if not self.is_registered and self.is_inherited:  # forked in the middle of a put: the parent delivers that
            return
        if not self.is_registered and self.buffer.is_discarded:  # closed since the caller looked
            self.counters.notify_drops("closed", self.buffer.discard("closed"), math.inf)
        elif self.exiting and not self._role.is_mine:
            self._deliver_inline()
        elif not self._worker.wake() and not self._role.is_mine:
            self.inline.after_record(wait_for_request_end=UWSGI.calls_after_requests)

    def _deliver_inline(self) -> None:
        """Deliver while the caller waits: the process exits, and no hook follows.

        The next trigger gets a pipeline of its own: a thread that was started here may die with the interpreter.
        """
        limit = self.shutdown_timeout
        exit.complete(
            lambda: exit.wait_within_exit_budget(limit, self.flush),
            lambda: exit.wait_within_exit_budget(0.0, self.close),
            lambda: log_thread.finish(0.0),  # what the worker has logged
        )

    # --- sending around the buffer ---

    def make_engine(self, *, is_counted: bool = True) -> Engine:
        """Return an engine for this endpoint, for one thread at a time. What it sends is counted, or not."""
        identified = self._sender.identify(self.transport, is_counted=is_counted)
        transport = ForeignTransport(identified) if self._is_own_transport else identified
        # SystemRandom: unlike `random`, a forked child never has the state of its parent.
        return Engine(self.options, transport, monotonic, SystemRandom().random)

    def send_now(self, body: bytes) -> None:
        """Send one trigger in a single attempt. Blocks. Any thread may call.

        Raises:
            ConnectionFailed: When no answer came back.
            AnswerError: When the answer is not a success.
        """
        for event in self.make_engine(is_counted=False).deliver([body], once=True):
            if event.result is not None and event.result.error is not None:
                raise event.result.error

    def send_each(self, engine: Engine, bodies: Sequence[bytes]) -> list[SendResult]:
        """Send triggers in one attempt for each, and return what became of each. Blocks.

        Those accepted are counted as delivered; the others the caller sends again, or counts with `reject`.
        """
        results: list[SendResult] = []
        for event in self._sender.deliver_unbuffered(engine, bodies):
            assert event.result is not None  # no limit of time is given
            if isinstance(event, Held):
                results += [event.result] * (len(bodies) - len(results))
            else:
                results += [event.result] * len(event.bodies)
                with self.counters.guard:
                    self.counters.delivered += len(event.bodies) if event.is_accepted else 0
                    self.counters.batches += event.ends_request
                    self.counters.add_repeated(event.repeated)
            if event.result.error is not None:
                self.counters.last_error = str(event.result.error)
        return results

    def reject(self, body: bytes, error: FocusLabError) -> None:
        """Count a trigger of `send_each` as rejected, and call `on_error`."""
        self.counters.last_error = self.counters.details["rejected"] = str(error)
        with self.counters.guard:
            self.counters.rejected += 1
        self.callbacks.refused(error, (body,))

    # --- flushing and closing ---

    def flush(self, timeout: float) -> FlushResult:
        """Wait until everything recorded before is settled, or `timeout` seconds (may be infinite)."""
        before, watermark = self.stats(), self.buffer.admitted
        self._worker.wait_for(watermark, timeout)
        return self.result_since(before, watermark)

    def flush_waits(self, timeout: float, wakeup: SupportsSet) -> Generator[float, None, None]:
        """Yield the seconds to wait for the wakeup until a flush is over; see `Worker.waits`."""
        return self._worker.waits(self.buffer.admitted, timeout, wakeup)

    def result_since(self, before: Stats, watermark: int) -> FlushResult:
        """Return the result of a flush that began with these counts."""
        return result_between(before, self.stats(), pending=max(0, watermark - self.buffer.removed))

    def request_flush(self) -> None:
        """Make an attempt at what waits now. Does not block."""
        self._worker.request_flush()

    def after_request(self, *, now: bool) -> None:
        """Deliver what is due, or everything, between two requests of a uWSGI worker."""
        if not self.is_idle:
            self.inline.after_request(now=now)

    def begin_close(self, timeout: float) -> None:
        """Unregister, and ask for a last attempt. Does not block."""
        registry.unregister(self)
        self._worker.stop(timeout)

    def close(self, timeout: float) -> FlushResult:
        """See `FocusLabClient.close`."""
        deadline, before = monotonic() + timeout, self.stats()
        self.begin_close(timeout)
        try:
            self.wait_for_end(deadline)
        finally:  # also when a Ctrl-C cuts it short
            lost, left = self.finish(deadline)
        return result_between(before, self.stats(), pending=lost + left, counted=lost)

    def wait_for_end(self, deadline: float) -> None:
        """Wait until everything is settled and the thread has ended. Returns at once in a callback."""
        self.flush(deadline - monotonic())
        self._role.wait_until_free(deadline - monotonic())

    def finish(self, deadline: float) -> tuple[int, int]:
        """Discard what is left; return how many triggers are lost, and how many are left. Idempotent.

        Waits until shortly after the deadline for calls of the user's code: `on_drop`, and a transport's `close`.
        """
        if self._role.is_mine:  # a callback closes: the thread goes on after it, and cleans up when it ends
            self._ends_by_itself = True
            return 0, len(self.buffer) + self.buffer.in_flight
        registry.unregister(self)
        self._worker.stop(0.0)
        dropped = deque(self.buffer.discard("shutdown"))
        lost = len(dropped)
        kept = self.buffer.release_files()
        grace = _NOTIFY_SECONDS if exit.has_time_left(self.shutdown_timeout + _NOTIFY_SECONDS) else 0.0
        try:
            not_notified = self._notify_lost(dropped, deadline + grace)
            if not lost or exit.claim_final_line():
                self._report.final_summary(lost, not_notified, kept=kept, is_exiting=self.exiting)
        finally:
            if self._is_own_transport:
                self._call_until(deadline + grace, self._close_transport)
            else:
                self._close_transport()
            registry.finished(self)
        return lost, kept

    def _notify_lost(self, lost: deque[bytes], until: float) -> int:
        """Call `on_drop` for each; return for how many it was not called by then."""

        def notify() -> None:
            with suppress(IndexError):  # cleared: nobody waits any more
                while monotonic() <= until:
                    self.counters.notify_drop("shutdown", lost.popleft())

        if lost and self.options.on_drop is not None:
            self._call_until(until, notify)
            skipped = len(lost)
            lost.clear()
            return skipped
        return 0

    def _call_until(self, until: float, call: Callable[[], None]) -> None:
        """Call the user's code in a thread of its own, and wait for it until then.

        Where no thread can be started it is called here, and nothing bounds it.
        """
        ended = Wakeup()

        def run() -> None:
            try:
                call()
            except BaseException as error:  # SystemExit, say, which ends nothing but a thread
                self.callbacks.failed("on_drop", error)
            finally:
                ended.set()

        try:
            if sys.is_finalizing():  # before Python 3.12 a thread could still be made, and would never run
                raise RuntimeError
            self._spawn(run)
        except RuntimeError:
            call()
        else:
            ended.wait(until - monotonic())

    def _close_transport(self) -> None:
        try:
            with inherited_signals():
                self.transport.close()
        except Exception as error:
            say(logging.WARNING, f"closing the transport raised {class_name(error)}")

    # --- the worker's thread ---

    def _run_worker(self) -> None:
        ending = self._worker.run()
        while ending is Ending.UNUSED and not self._close_if_unused():
            ending = self._worker.run()  # a client has come meanwhile
        if ending is Ending.NOT_BEGUN:
            return
        if self.is_inherited:
            # A copy, in a child. If a callback forked, nothing else runs there; else it is a greenlet.
            if threading.current_thread() is threading.main_thread():
                exit.close_last()
        elif self._ends_by_itself:
            self.finish(monotonic())
        elif self.buffer.is_discarded:  # close did not wait for this thread
            # Recorded while it was at work.
            self.counters.notify_drops("closed", self.buffer.discard("closed"), math.inf)
            self._close_transport()  # its last attempt opened a connection

    def on_last_release(self) -> None:
        """The last client is gone: close when nothing is left and no other one comes for a while."""
        if not self._worker.on_last_release() and self._close_if_unused():
            self.finish(monotonic())
        elif not self.leases:
            self._worker.wake()  # no thread could be started before

    def _close_if_unused(self) -> bool:
        self._ends_by_itself = registry.close_if_idle(self)
        return self._ends_by_itself

    # --- forks ---

    def after_fork_in_child(self) -> None:
        """Leave everything to the parent, and its connections. Takes no lock, logs nothing."""
        self._is_detached = True
        self.fork_flag = CLEARED
        self.buffer.after_fork_in_child()
        after_fork = getattr(self.transport, "after_fork", None)
        if after_fork is not None:
            after_fork()

    def replacement(self) -> Pipeline:
        """Return a pipeline for what comes when this one has ended: in a forked child, or late in a process."""
        if self.is_inherited and not self._is_detached:
            self.after_fork_in_child()  # forked without Python's hooks
        if self.is_inherited and not UWSGI.is_present:
            self.buffer.clear()  # the frame of a thread that is gone may keep it for ever
        counters = None if self.is_inherited else self.counters
        is_own = self._is_own_transport
        return Pipeline(self.options, self.transport, key=self.key, counters=counters, is_own_transport=is_own)

    def transfer_to_child(self) -> None:
        """In the first worker of uWSGI: have it deliver what waits here."""
        if not self.is_idle:
            lease = Lease()
            self.buffer.transfer_to_child(registry.acquire(self.key, lease, self.replacement).buffer.put)
            registry.release_collected(lease)

    def stats(self) -> Stats:
        """Return a snapshot of the counts. Does not block."""
        return read_stats(self.buffer, self.counters)
