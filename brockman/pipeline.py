"""Everything between `record_trigger` and the server, wired: buffer, flusher, delivery, transport."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from brockman import lifecycle
from brockman.batch import parse_verdicts
from brockman.buffer.memory import READ_TRIES, MemoryBuffer
from brockman.callbacks import Callbacks
from brockman.clock import monotonic, wall
from brockman.delivery import Delivery, GivenUp
from brockman.exceptions import BadRequest, ConnectionFailed, from_status
from brockman.flusher import Flusher, spawn_daemon
from brockman.ledger import Ledger
from brockman.options import Options
from brockman.report import Report
from brockman.retry import Ruling, classify
from brockman.stats import FlushResult, Stats
from brockman.transport import Transport
from brockman.transport.memory import MemoryTransport

if TYPE_CHECKING:
    import requests

_log = logging.getLogger("brockman")


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
        self.transport = transport or _make_transport(options, session)
        self._flusher = Flusher(
            self.buffer,
            self._report,
            interval=options.flush_interval,
            max_count=options.max_batch_size,
            max_bytes=options.max_batch_bytes,
            spawn=spawn,
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
        self._watched = False
        self._warned = False
        self.refusal = None if options.enabled else "disabled"  # the reason why no trigger is taken

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that closing at exit may take."""
        return self.options.shutdown_timeout

    def _wake(self) -> None:
        if self.buffer.is_abandoned:  # another thread closed between the caller's look and its put
            self.buffer.abandon("closed")
            return
        if not self._watched:
            lifecycle.watch(self)
            self._watched = True
        self._flusher.wake()

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
            _log.warning("a trigger was recorded on a closed client and is dropped; later ones are only counted")
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

    def flush(self, timeout: float | None) -> FlushResult:
        """Wait until all that was recorded before is settled; see `FocusLabClient.flush`."""
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
        self.begin_close(timeout)
        if self._flusher.is_me:  # a callback closes: the thread ends by itself after it, and what it could not
            self.refusal = self.refusal or "closed"  # deliver by then is counted at the end of the process
            return self.flush(timeout)
        self.flush(timeout)
        self._flusher.join(deadline - monotonic())
        self.refusal = self.refusal or "closed"
        left = self.buffer.abandon("shutdown")
        self._report.farewell(left)
        self.transport.close()
        lifecycle.forget(self)
        return self._since(before, pending=left, counted=left)

    def retire(self) -> None:
        """Let the thread end when all is delivered: nobody holds the client any more."""
        self._flusher.retire()

    def stats(self) -> Stats:
        """Return a snapshot of the counts. Does not block."""
        buffer, ledger = self.buffer, self.ledger
        for _ in range(READ_TRIES):
            version = buffer.version
            queued, in_flight, size = len(buffer), buffer.in_flight, buffer.waiting_bytes
            delivered, rejected = ledger.delivered, ledger.rejected
            dropped = dict(ledger.dropped)
            dropped["overflow"] += buffer.evicted
            if version % 2 == 0 and version == buffer.version:
                break
        return Stats(
            recorded=delivered + rejected + sum(dropped.values()) + queued + in_flight,
            queued=queued,
            in_flight=in_flight,
            delivered=delivered,
            rejected=rejected,
            dropped={reason: count for reason, count in dropped.items() if count},
            retries=ledger.retries,
            batches=ledger.batches,
            queued_bytes=size,
            oldest_age=self._oldest_age(),
            last_error=ledger.last_error,
        )

    def _oldest_age(self) -> float | None:
        oldest = self.buffer.oldest
        if oldest is None:
            return None
        recorded_at = datetime.fromisoformat(json.loads(oldest)["recorded_at"].replace("Z", "+00:00"))
        return max(0.0, wall() - recorded_at.timestamp())


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
