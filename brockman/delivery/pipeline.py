"""Everything between `record_trigger` and the server, wired: buffer, flusher, delivery, transport."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Generator, Hashable
from random import SystemRandom
from typing import TYPE_CHECKING

from brockman.buffer.choice import make_buffer
from brockman.buffer.counters import Ledger
from brockman.callbacks import Callbacks
from brockman.delivery.engine import Delivery, GivenUp
from brockman.delivery.inline import StandIn
from brockman.delivery.report import Report, say
from brockman.delivery.worker import Flusher
from brockman.interpreter import one_by_one
from brockman.options import Options
from brockman.part import Hold
from brockman.process import registry
from brockman.process.clock import monotonic
from brockman.process.fork import make_mark
from brockman.process.uwsgi import HOST, Spawn, in_event_loop
from brockman.snapshot import read_stats
from brockman.stats import FlushResult, Stats, result_between
from brockman.transport import Transport
from brockman.transport.choice import make_transport
from brockman.trigger.coerce import class_name
from brockman.trigger.ids import make_ids
from brockman.waiters import Rings

if TYPE_CHECKING:
    import requests

_TELLING = 0.25  # seconds beyond its deadline that close spends on telling `on_drop`


class Pipeline:
    """One buffer, one thread, one transport, for one process. Nothing starts before the first trigger.

    A part as `lifecycle` knows it: the clients of a process that have the same settings share one.
    """

    def __init__(
        self,
        options: Options,
        transport: Transport | None = None,
        session: requests.Session | None = None,
        *,
        key: Hashable = None,
        ledger: Ledger | None = None,
        spawn: Spawn | None = None,
    ) -> None:
        """Wire the parts; open nothing, start nothing.

        Args:
            options: The settings.
            transport: What sends; None means HTTP.
            session: For HTTP, what to send with; None means a session of our own.
            key: What the clients have in common that share this.
            ledger: Where to count; None for counts that begin at nothing.
            spawn: Starts the flusher's thread, or raises RuntimeError when none can be had; None: as it goes here.
        """
        self.options = options
        self.key = key
        self.mark = make_mark()
        self.is_late = False
        self._made_in = os.getpid()
        self.holders: set[Hold] = set()
        self.next_id = one_by_one(make_ids(os.urandom).__next__)
        self.callbacks = Callbacks(options.on_drop, options.on_error)
        self.ledger = ledger or Ledger(self.callbacks)
        self._spawn = spawn or HOST.choose_spawn()
        self.buffer = make_buffer(
            options,
            self.ledger,
            wake=self._wake,
            may_wait=lambda: not (self._flusher.is_me or in_event_loop()),
            spawn=self._spawn,
        )
        self._report = Report(self.ledger, self.callbacks, monotonic)
        self.transport = make_transport(options, session) if transport is None else transport
        self._flusher = Flusher(
            self.buffer,
            self._report,
            interval=options.flush_interval,
            max_count=options.max_batch_size,
            max_bytes=options.max_batch_bytes,
            spawn=self._spawn,
            is_held=lambda: bool(self.holders),
            retire=self._retire,
            ended=self._thread_ended,
        )
        self._flusher.delivery = Delivery(
            options,
            self.transport,
            self._settle,
            self.ledger,
            self.callbacks,
            self._report,
            self._flusher.pause,
            self._time_left,
            rand=SystemRandom().random,  # unlike `random`, never in the same state as the parent's
        )
        self._stand_in = StandIn(
            self.buffer,
            interval=options.flush_interval,
            full=(options.max_batch_size, options.max_batch_bytes),
            deliver=lambda seconds: bool(self.flush(seconds)),
        )
        self._is_disowned = False
        self._ends_by_itself = False  # nobody waits for the thread: it cleans up

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that closing at exit may take."""
        return self.options.shutdown_timeout

    @property
    def is_used(self) -> bool:
        """Whether any came."""
        return self.buffer.admitted > 0 or any(self.ledger.dropped.values())

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return self.buffer.is_idle

    @property
    def is_at_work(self) -> bool:
        """Whether a thread delivers, or may."""
        return self._flusher.is_at_work

    @property
    def is_foreign(self) -> bool:
        """Whether this is a copy in a forked child of what is the parent's."""
        return self._made_in != os.getpid()

    def disown(self) -> None:
        """Leave everything to the parent, and its connections: this is a forked child."""
        self._is_disowned = True
        self.mark[0] = 0
        self.buffer.disown()
        after_fork = getattr(self.transport, "after_fork", None)
        if after_fork is not None:
            after_fork()

    def succeed(self) -> Pipeline:
        """Return a pipeline for what comes when this one has ended: in a forked child, or late in a process."""
        if self.is_foreign and not self._is_disowned:
            self.disown()  # forked without Python's hooks
        if self.is_foreign and not HOST.has_heirs:
            self.buffer.clear()  # the frame of a thread that is gone may hold it for ever
        ledger = None if self.is_foreign else self.ledger
        return Pipeline(self.options, self.transport, key=self.key, ledger=ledger)

    def hand_over(self) -> None:
        """In a child of the process that this worked in: have what waits here delivered by the child."""
        if not self.is_idle:
            hold = Hold()
            self.buffer.give_away(registry.join(self.key, hold, self.succeed).buffer.put)
            registry.release(hold)

    def _wake(self) -> None:
        if not self.mark[0] and self.is_foreign:  # forked in the middle of a put: the parent delivers that
            return
        if not self.mark[0] and self.buffer.is_abandoned:  # another thread closed after the caller's look
            self.ledger.tell_all("closed", self.buffer.abandon("closed"), math.inf)
        elif self.is_late and not self._flusher.is_me:
            self._leave_at_once()
        elif not self._flusher.wake() and not self._flusher.is_me:
            self._stand_in.recorded(may_wait=HOST.calls_after_requests)

    def _leave_at_once(self) -> None:
        """Deliver while the caller waits: the process ends, and no hook may come after.

        The next one has a part of its own: a thread that was started here may die with the interpreter.
        """
        registry.spend(self.shutdown_timeout, self.flush)
        self.close(0.0)

    def _time_left(self) -> float | None:
        return 0.0 if self.is_foreign else self._flusher.time_left()  # a callback may have forked

    def _settle(self, count: int, delivered: bool) -> None:
        if self.is_foreign or not self.buffer.settle(count, delivered=delivered):
            raise GivenUp
        self._flusher.settled()

    def drop(self, reason: str, body: bytes | None = None, detail: str = "") -> None:
        """Count a trigger that is lost before it was buffered, and have it told, with what was wrong with it."""
        if detail:
            self.ledger.details[reason] = detail
        self.ledger.drop(reason, body)
        if self._report.note() and not self.buffer.is_abandoned:
            self._wake()

    def refuse(self, reason: str) -> bool:
        """Count a trigger that comes to a client which takes none; return False."""
        self.ledger.drop(reason)
        if reason == "closed":
            self._report.refused()
        return False

    def flush(self, timeout: float) -> FlushResult:
        """Wait until all that was recorded before is settled, or so many seconds, which may be infinite."""
        before, watermark = self.stats(), self.buffer.admitted
        self._flusher.wait_for(watermark, timeout)
        return self.result_since(before, watermark)

    def flush_waits(self, timeout: float, bell: Rings) -> Generator[float, None, None]:
        """Yield the seconds to wait for the bell until a flush is over; see `Flusher.waits`."""
        return self._flusher.waits(self.buffer.admitted, timeout, bell)

    def result_since(self, before: Stats, watermark: int) -> FlushResult:
        """Return what a flush brought that began with these counts."""
        return result_between(before, self.stats(), pending=max(0, watermark - self.buffer.removed))

    def hurry(self) -> None:
        """Make an attempt at what waits now. Does not block."""
        self._flusher.hurry()

    def after_request(self, *, now: bool) -> None:
        """Deliver what is due, or all there is, between two requests of a host that may give no other time."""
        if not self.is_idle:
            self._stand_in.request_ended(now=now)

    def begin_close(self, timeout: float) -> None:
        """Work for no client any more, and ask for a last attempt without waiting for it."""
        registry.forget(self)
        self._flusher.stop(timeout)

    def close(self, timeout: float) -> FlushResult:
        """See `FocusLabClient.close`."""
        deadline, before = monotonic() + timeout, self.stats()
        if self._flusher.is_me:  # a callback closes: the thread goes on after it, and cleans up when it ends
            self._ends_by_itself = True
            self.begin_close(timeout)
            return self.flush(0.0)
        self.begin_close(timeout)
        try:
            self.flush(timeout)
            self._flusher.join(deadline - monotonic())
        finally:  # also when a Ctrl-C cuts it short
            lost, kept = self._finish(deadline)
        return result_between(before, self.stats(), pending=lost + kept, counted=lost)

    def _finish(self, deadline: float) -> tuple[int, int]:
        """Give up what is left; return how many are lost, and how many wait on disk. Twice does no harm."""
        registry.forget(self)
        self._flusher.stop(0.0)
        dropped = self.buffer.abandon("shutdown")
        kept = self.buffer.leave_behind()
        try:
            untold = self.ledger.tell_all("shutdown", dropped, deadline + _TELLING)
            if not dropped or registry.may_say_farewell():
                self._report.farewell(len(dropped), untold, kept=kept, more=self.is_late)
        finally:  # also when `on_drop` ends the process
            self._release()
            registry.finished(self)
        return len(dropped), kept

    def _release(self) -> None:
        try:
            self.transport.close()
        except Exception as error:
            say(logging.WARNING, f"closing the transport raised {class_name(error)}")

    def _thread_ended(self) -> None:
        """Called by the flusher's thread when it goes for good."""
        if self.is_foreign:
            # A copy, in a child. If a callback forked, it is all that runs there; else it is a greenlet.
            if threading.current_thread() is threading.main_thread():
                registry.close_last()
            return
        if self._ends_by_itself:
            self._finish(monotonic())
        elif self.buffer.is_abandoned:  # close did not wait for it
            self.ledger.tell_all("closed", self.buffer.abandon("closed"), math.inf)  # came in while it was at work
            self._release()  # its last attempt opened a connection

    def unheld(self) -> None:
        """The last client is gone: end when nothing is left and no other one comes for a while."""
        if not self._flusher.unheld() and self._retire():
            self._finish(monotonic())
        elif not self.holders:
            self._flusher.wake()  # no thread could be had before

    def _retire(self) -> bool:
        self._ends_by_itself = registry.retire(self)
        return self._ends_by_itself

    def stats(self) -> Stats:
        """Return a snapshot of the counts. Does not block."""
        return read_stats(self.buffer, self.ledger)
