"""Everything between `record_trigger` and the server, wired: buffer, flusher, delivery, transport."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Generator, Hashable
from functools import cache
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from brockman.buffer.base import Buffer
from brockman.buffer.counters import Callbacks, Counters, read_stats
from brockman.buffer.memory import MemoryBuffer
from brockman.delivery.engine import Delivery, DeliveryStopped
from brockman.delivery.inline import InlineDelivery
from brockman.delivery.report import Report
from brockman.delivery.worker import Worker
from brockman.exceptions import ConfigurationError
from brockman.options import Options
from brockman.process import exit, registry
from brockman.process.clock import monotonic
from brockman.process.fork import Origin, make_fork_flag
from brockman.process.log import say
from brockman.process.registry import Lease
from brockman.process.sync import SupportsSet
from brockman.process.threads import one_by_one
from brockman.process.uwsgi import UWSGI, Spawn, in_event_loop
from brockman.stats import FlushResult, Stats, result_between
from brockman.transport import Transport
from brockman.transport.memory import MemoryTransport
from brockman.trigger.coerce import class_name
from brockman.trigger.ids import make_ids

if TYPE_CHECKING:
    import requests

    from brockman.buffer.spool.buffer import SpoolBuffer
    from brockman.buffer.spool.fallback import FallbackBuffer


def make_transport(options: Options, session: requests.Session | None) -> Transport:
    """Return a transport that has opened no connection."""
    if not options.enabled:
        return MemoryTransport()  # takes no room, and is never asked to send
    # Imported here: it takes longer than all the rest. And not later: an import in the flusher's thread would
    # stall the requests that are served meanwhile.
    from brockman.transport.http import HttpTransport

    assert options.api_key is not None
    return HttpTransport(
        options.endpoint,
        options.api_key,
        connect_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        compress=options.gzip,
        session=session,
    )


@cache
def _on_disk() -> tuple[type[SpoolBuffer], type[FallbackBuffer]]:
    """Import what few need, and what is for POSIX. Once: at the very end of a process no import works any more."""
    from brockman.buffer.spool.buffer import SpoolBuffer
    from brockman.buffer.spool.fallback import FallbackBuffer

    return SpoolBuffer, FallbackBuffer


def make_buffer(
    options: Options,
    counters: Counters,
    *,
    wake: Callable[[], None],
    may_wait: Callable[[], bool],
    spawn: Callable[[Callable[[], None]], None],
) -> Buffer:
    """Return a buffer that holds nothing yet, and has opened nothing; the arguments are those of the buffers.

    Raises:
        ConfigurationError: When there is to be a spool, on a system that has not what it needs.
    """
    bounds: dict[str, Any] = {
        "max_count": options.max_queue_size,
        "max_bytes": options.max_queue_bytes,
        "overflow": options.overflow,
        "block_timeout": options.block_timeout,
        "wake": wake,
        "may_wait": may_wait,
    }
    if options.spool_dir is None:
        return MemoryBuffer(counters, **bounds)
    try:
        spool_buffer, fallback = _on_disk()
    except ImportError:
        problem = f"spool_dir is {options.spool_dir!r}, but this system has no flock (fcntl); leave it out"
        raise ConfigurationError(problem) from None
    return spool_buffer(options, counters, fallback(counters, **bounds), wake=wake, may_wait=may_wait, spawn=spawn)


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
        counters: Counters | None = None,
        spawn: Spawn | None = None,
    ) -> None:
        """Wire the parts; open nothing, start nothing.

        Args:
            options: The settings.
            transport: What sends; None means HTTP.
            session: For HTTP, what to send with; None means a session of our own.
            key: What the clients have in common that share this.
            counters: Where to count; None for counts that begin at nothing.
            spawn: Starts the flusher's thread, or raises RuntimeError when none can be had; None: as it goes here.
        """
        self.options = options
        self.key = key
        self.fork_flag = make_fork_flag()
        self.exiting = False
        self._origin = Origin()
        self.leases: set[Lease] = set()
        self.next_id = one_by_one(make_ids(os.urandom).__next__)
        self.callbacks = Callbacks(options.on_drop, options.on_error)
        self.counters = counters or Counters(self.callbacks)
        self._spawn = spawn or UWSGI.choose_spawn()
        self.buffer = make_buffer(
            options,
            self.counters,
            wake=self._wake,
            may_wait=lambda: not (self._worker.is_me or in_event_loop()),
            spawn=self._spawn,
        )
        self._report = Report(self.counters, self.callbacks, monotonic)
        self.transport = make_transport(options, session) if transport is None else transport
        self._worker = Worker(
            self.buffer,
            self._report,
            interval=options.flush_interval,
            max_count=options.max_batch_size,
            max_bytes=options.max_batch_bytes,
            spawn=self._spawn,
            is_held=lambda: bool(self.leases),
            retire=self._retire,
            ended=self._thread_ended,
        )
        self._worker.delivery = Delivery(
            options,
            self.transport,
            self._settle,
            self.counters,
            self.callbacks,
            self._report,
            self._worker.sleep,
            self._time_left,
            rand=SystemRandom().random,  # unlike `random`, never in the same state as the parent's
        )
        self._inline = InlineDelivery(
            self.buffer,
            interval=options.flush_interval,
            full=(options.max_batch_size, options.max_batch_bytes),
            deliver=lambda seconds: bool(self.flush(seconds)),
        )
        self._is_detached = False
        self._ends_by_itself = False  # nobody waits for the thread: it cleans up

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that closing at exit may take."""
        return self.options.shutdown_timeout

    @property
    def is_used(self) -> bool:
        """Whether any came."""
        return self.buffer.admitted > 0 or any(self.counters.dropped.values())

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return self.buffer.is_idle

    @property
    def is_at_work(self) -> bool:
        """Whether a thread delivers, or may."""
        return self._worker.is_at_work

    @property
    def is_inherited(self) -> bool:
        """Whether this is a copy in a forked child of what is the parent's."""
        return self._origin.is_inherited

    def after_fork_in_child(self) -> None:
        """Leave everything to the parent, and its connections: this is a forked child."""
        self._is_detached = True
        self.fork_flag[0] = 0
        self.buffer.after_fork_in_child()
        after_fork = getattr(self.transport, "after_fork", None)
        if after_fork is not None:
            after_fork()

    def replacement(self) -> Pipeline:
        """Return a pipeline for what comes when this one has ended: in a forked child, or late in a process."""
        if self.is_inherited and not self._is_detached:
            self.after_fork_in_child()  # forked without Python's hooks
        if self.is_inherited and not UWSGI.is_present:
            self.buffer.clear()  # the frame of a thread that is gone may lease it for ever
        counters = None if self.is_inherited else self.counters
        return Pipeline(self.options, self.transport, key=self.key, counters=counters)

    def transfer_to_child(self) -> None:
        """In a child of the process that this worked in: have what waits here delivered by the child."""
        if not self.is_idle:
            lease = Lease()
            self.buffer.transfer_to_child(registry.acquire(self.key, lease, self.replacement).buffer.put)
            registry.release_collected(lease)

    def _wake(self) -> None:
        if not self.fork_flag[0] and self.is_inherited:  # forked in the middle of a put: the parent delivers that
            return
        if not self.fork_flag[0] and self.buffer.is_discarded:  # another thread closed after the caller's look
            self.counters.notify_drops("closed", self.buffer.discard("closed"), math.inf)
        elif self.exiting and not self._worker.is_me:
            self._deliver_inline()
        elif not self._worker.wake() and not self._worker.is_me:
            self._inline.recorded(may_wait=UWSGI.calls_after_requests)

    def _deliver_inline(self) -> None:
        """Deliver while the caller waits: the process ends, and no hook may come after.

        The next one has a part of its own: a thread that was started here may die with the interpreter.
        """
        exit.wait_within_exit_budget(self.shutdown_timeout, self.flush)
        self.close(0.0)

    def _time_left(self) -> float | None:
        return 0.0 if self.is_inherited else self._worker.time_left()  # a callback may have forked

    def _settle(self, count: int, delivered: bool) -> None:
        if self.is_inherited or not self.buffer.settle(count, delivered=delivered):
            raise DeliveryStopped
        self._worker.settled()

    def drop(self, reason: str, body: bytes | None = None, detail: str = "") -> None:
        """Count a trigger that is lost before it was buffered, and have it told, with what was wrong with it."""
        if detail:
            self.counters.details[reason] = detail
        self.counters.drop(reason, body)
        if self._report.note() and not self.buffer.is_discarded:
            self._wake()

    def refuse(self, reason: str) -> bool:
        """Count a trigger that comes to a client which takes none; return False."""
        self.counters.drop(reason)
        if reason == "closed":
            self._report.refused()
        return False

    def flush(self, timeout: float) -> FlushResult:
        """Wait until all that was recorded before is settled, or so many seconds, which may be infinite."""
        before, watermark = self.stats(), self.buffer.admitted
        self._worker.wait_for(watermark, timeout)
        return self.result_since(before, watermark)

    def flush_waits(self, timeout: float, wakeup: SupportsSet) -> Generator[float, None, None]:
        """Yield the seconds to wait for the wakeup until a flush is over; see `Worker.waits`."""
        return self._worker.waits(self.buffer.admitted, timeout, wakeup)

    def result_since(self, before: Stats, watermark: int) -> FlushResult:
        """Return what a flush brought that began with these counts."""
        return result_between(before, self.stats(), pending=max(0, watermark - self.buffer.removed))

    def request_flush(self) -> None:
        """Make an attempt at what waits now. Does not block."""
        self._worker.request_flush()

    def after_request(self, *, now: bool) -> None:
        """Deliver what is due, or all there is, between two requests of a host that may give no other time."""
        if not self.is_idle:
            self._inline.request_ended(now=now)

    def begin_close(self, timeout: float) -> None:
        """Work for no client any more, and ask for a last attempt without waiting for it."""
        registry.unregister(self)
        self._worker.stop(timeout)

    def close(self, timeout: float) -> FlushResult:
        """See `FocusLabClient.close`."""
        deadline, before = monotonic() + timeout, self.stats()
        if self._worker.is_me:  # a callback closes: the thread goes on after it, and cleans up when it ends
            self._ends_by_itself = True
            self.begin_close(timeout)
            return self.flush(0.0)
        self.begin_close(timeout)
        try:
            self.flush(timeout)
            self._worker.join(deadline - monotonic())
        finally:  # also when a Ctrl-C cuts it short
            lost, kept = self._finish(deadline)
        return result_between(before, self.stats(), pending=lost + kept, counted=lost)

    def _finish(self, deadline: float) -> tuple[int, int]:
        """Give up what is left; return how many are lost, and how many wait on disk. Twice does no harm."""
        registry.unregister(self)
        self._worker.stop(0.0)
        dropped = self.buffer.discard("shutdown")
        kept = self.buffer.release_files()
        try:
            untold = self.counters.notify_drops("shutdown", dropped, deadline + _TELLING)
            if not dropped or exit.claim_final_line():
                self._report.final_summary(len(dropped), untold, kept=kept, more=self.exiting)
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
        if self.is_inherited:
            # A copy, in a child. If a callback forked, it is all that runs there; else it is a greenlet.
            if threading.current_thread() is threading.main_thread():
                exit.close_last()
            return
        if self._ends_by_itself:
            self._finish(monotonic())
        elif self.buffer.is_discarded:  # close did not wait for it
            self.counters.notify_drops(
                "closed", self.buffer.discard("closed"), math.inf
            )  # came in while it was at work
            self._release()  # its last attempt opened a connection

    def on_last_release(self) -> None:
        """The last client is gone: end when nothing is left and no other one comes for a while."""
        if not self._worker.on_last_release() and self._retire():
            self._finish(monotonic())
        elif not self.leases:
            self._worker.wake()  # no thread could be had before

    def _retire(self) -> bool:
        self._ends_by_itself = registry.close_if_idle(self)
        return self._ends_by_itself

    def stats(self) -> Stats:
        """Return a snapshot of the counts. Does not block."""
        return read_stats(self.buffer, self.counters)
