"""Everything between `record_trigger` and the server, wired: buffer, flusher, delivery, transport."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from brockman import lifecycle
from brockman.batch import parse_verdicts
from brockman.buffer.memory import MemoryBuffer
from brockman.callbacks import Callbacks
from brockman.clock import monotonic
from brockman.delivery import Delivery, GivenUp
from brockman.exceptions import BadRequest, ConnectionFailed, from_status
from brockman.fitting import class_name
from brockman.flusher import Flusher
from brockman.ledger import Ledger
from brockman.options import Options
from brockman.report import Report, say
from brockman.retry import Ruling, classify
from brockman.snapshot import read_stats
from brockman.spawn import spawn_daemon
from brockman.stats import FlushResult, Stats
from brockman.transport import Transport
from brockman.transport.memory import MemoryTransport

if TYPE_CHECKING:
    import requests

_TELLING = 0.25  # seconds beyond its deadline that close spends on telling `on_drop`


class Pipeline:
    """One buffer, one thread, one transport. Nothing starts before the first trigger."""

    def __init__(
        self,
        options: Options,
        transport: Transport | None = None,
        session: requests.Session | None = None,
        *,
        spawn: Callable[[Callable[[], None]], None] = spawn_daemon,
    ) -> None:
        """Wire the parts; open nothing, start nothing.

        Args:
            options: The settings.
            transport: What sends; None means HTTP.
            session: For HTTP, what to send with; None means a session of our own.
            spawn: Starts the flusher's thread; raises RuntimeError when none can be had.
        """
        self.options = options
        self.callbacks = Callbacks(options.on_drop, options.on_error)
        self.ledger = Ledger(self.callbacks)
        self.buffer = MemoryBuffer(
            self.ledger,
            max_count=options.max_queue_size,
            max_bytes=options.max_queue_bytes,
            overflow=options.overflow,
            block_timeout=options.block_timeout,
            wake=self._wake,
            may_wait=lambda: not self._flusher.is_me,
        )
        self._report = Report(self.ledger, self.callbacks, monotonic)
        self.transport = _make_transport(options, session) if transport is None else transport
        self._flusher = Flusher(
            self.buffer,
            self._report,
            interval=options.flush_interval,
            max_count=options.max_batch_size,
            max_bytes=options.max_batch_bytes,
            spawn=spawn,
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
            self._flusher.time_left,
        )
        self._warned = False
        self._ends_by_itself = False  # nobody waits for the thread: it cleans up
        self.refusal = None if options.enabled else "disabled"  # the reason why no trigger is taken

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that closing at exit may take."""
        return self.options.shutdown_timeout

    @property
    def is_used(self) -> bool:
        """Whether any trigger came."""
        return self.buffer.admitted > 0 or any(self.ledger.dropped.values())

    def _wake(self) -> None:
        if self.buffer.is_abandoned:  # another thread closed between the caller's look and its put
            self._tell("closed", self.buffer.abandon("closed"), math.inf)
            return
        if lifecycle.is_ending() and not self._flusher.is_me:
            self._leave_at_once()
            return
        self._flusher.wake()

    def _leave_at_once(self) -> None:
        """Deliver in the caller's thread: the process ends, and no hook may come after."""
        if not self.flush(self.shutdown_timeout):
            self.close(0.0)

    def _tell(self, reason: str, bodies: list[bytes], until: float) -> int:
        """Tell `on_drop` of what was dropped, while there is time; return of how many there was none."""
        for number, body in enumerate(bodies):
            if monotonic() > until:
                return len(bodies) - number
            self.ledger.tell(reason, body)
        return 0

    def _settle(self, count: int, delivered: bool) -> None:
        if not self.buffer.settle(count, delivered=delivered):
            raise GivenUp
        self._flusher.settled()

    def drop(self, reason: str, body: bytes | None = None) -> None:
        """Count a trigger that is lost before it was buffered, and have it told."""
        self.ledger.drop(reason, body)
        if self._report.note() and not self.buffer.is_abandoned:
            self._wake()

    def refuse(self) -> bool:
        """Count a trigger that comes to a client which takes none; return False."""
        assert self.refusal is not None
        self.ledger.drop(self.refusal)
        if self.refusal == "closed" and not self._warned:
            self._warned = True
            text = "a trigger was recorded on a closed client and is dropped; later ones are only counted"
            say(logging.WARNING, text)
        return False

    def send(self, body: bytes) -> None:
        """Send one trigger in the caller's thread; see `FocusLabClient.send_trigger`."""
        try:
            answer = self.transport.send(body)
        except ConnectionFailed as error:
            if not error.stale:
                raise
            answer = self.transport.send(body)  # the server had hung up while the connection was idle
        ruling = classify(answer.status, answer.content_type, answer.body)
        if ruling is Ruling.MIXED:
            for words in (parse_verdicts(answer.body, 1) or {}).values():
                raise BadRequest(400, words)
        elif ruling is not Ruling.ACCEPTED:
            raise from_status(answer.status, answer.words)

    def flush(self, timeout: float) -> FlushResult:
        """Wait until all that was recorded before is settled, or so many seconds, which may be infinite."""
        before = self.stats()
        watermark = self.buffer.admitted
        self._flusher.wait_for(watermark, timeout)
        left = max(0, watermark - self.buffer.removed)
        return self._since(before, pending=left)

    def _since(self, before: Stats, *, pending: int, counted: int = 0) -> FlushResult:
        """Return what happened since a snapshot; `counted` of the pending are among the dropped by now."""
        after = self.stats()
        return FlushResult(
            delivered=after.delivered - before.delivered,
            rejected=after.rejected - before.rejected,
            dropped=sum(after.dropped.values()) - sum(before.dropped.values()) - counted,
            pending=pending,
        )

    def begin_close(self, timeout: float) -> None:
        """Ask for a last attempt, without waiting for it."""
        self._flusher.stop(timeout)

    def close(self, timeout: float) -> FlushResult:
        """Flush, stop the thread, release the connections; see `FocusLabClient.close`."""
        deadline = monotonic() + timeout
        before = self.stats()
        if self._flusher.is_me:  # a callback closes: the thread goes on after it, and cleans up when it ends
            self.refusal = self.refusal or "closed"
            self._ends_by_itself = True
            self.begin_close(timeout)
            return self.flush(0.0)
        self.begin_close(timeout)
        try:
            self.flush(timeout)
            self._flusher.join(deadline - monotonic())
        finally:  # also when a Ctrl-C cuts it short
            left = self._finish(deadline)
        return self._since(before, pending=left, counted=left)

    def _finish(self, deadline: float) -> int:
        """Give up what is left, and return how many that was. Doing it twice does no harm."""
        self.refusal = self.refusal or "closed"
        lifecycle.forget(self)
        self._flusher.stop(0.0)
        dropped = self.buffer.abandon("shutdown")
        untold = self._tell("shutdown", dropped, max(deadline, monotonic()) + _TELLING)
        self._report.farewell(len(dropped), untold)
        self._release()
        return len(dropped)

    def _release(self) -> None:
        try:
            self.transport.close()
        except Exception as error:
            say(logging.WARNING, f"closing the transport raised {class_name(error)}")

    def _thread_ended(self) -> None:
        """Called by the flusher's thread when it goes for good."""
        if self._ends_by_itself:
            self._finish(monotonic())
        elif self.buffer.is_abandoned:  # close did not wait for it, and its last attempt opened a connection
            self._release()

    def retire(self) -> None:
        """Deliver what is left, however long it takes, and end: nobody holds the client any more."""
        self._ends_by_itself = True
        if not self._flusher.retire() and not len(self.buffer) and not self.buffer.in_flight:
            self._finish(monotonic())

    def stats(self) -> Stats:
        """Return a snapshot of the counts. Does not block."""
        return read_stats(self.buffer, self.ledger)


def _make_transport(options: Options, session: requests.Session | None) -> Transport:
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
