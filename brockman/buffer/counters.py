"""Counters of the triggers that have left the buffer, the callbacks, and the snapshot for `stats`.

Invariant: each trigger that leaves the buffer, or is dropped before it, is counted here exactly once.

No lock. Every count changes in one straight line of code, from the read to the store without a call in it: CPython
looks for signals, asynchronous exceptions and a change of thread only at calls and at backward jumps (3.10 also
where a condition jumps forward), so nothing can come in between. Without the global lock `guard` is a lock, and is
held around such a line.
"""

from __future__ import annotations

import calendar
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from brockman.buffer.base import Buffer
from brockman.process.clock import monotonic, wall
from brockman.process.identity import Identity
from brockman.process.interruption import is_interruption
from brockman.process.log import Log
from brockman.process.threads import make_lock_without_gil
from brockman.stats import Stats

OnDrop = Callable[[str, "bytes | None"], object]
OnError = Callable[[Exception, "tuple[bytes, ...]"], object]


class Callbacks:
    """Call `on_drop` and `on_error`. Holds no lock while it does.

    Attributes:
        failures: How often a callback raised; the report says so.
        last_failure: The callback's name and the class of what it raised.
    """

    def __init__(self, on_drop: OnDrop | None, on_error: OnError | None) -> None:
        self._on_drop = on_drop
        self._on_error = on_error
        self.failures = 0
        self.last_failure = ""

    @property
    def takes_refusals(self) -> bool:
        """True when the user has set `on_error`."""
        return self._on_error is not None

    def dropped(self, reason: str, body: bytes | None) -> None:
        """Call `on_drop` for one trigger. Runs in the thread that dropped it, often the caller's."""
        if self._on_drop is not None:
            try:
                self._on_drop(reason, body)
            except BaseException as error:
                if not isinstance(error, Exception) and threading.current_thread() is threading.main_thread():
                    raise
                self.failed("on_drop", error)

    def refused(self, error: Exception, bodies: tuple[bytes, ...]) -> None:
        """Call `on_error` for rejected triggers. Runs in the thread that sent, most often the worker."""
        if self._on_error is not None:
            try:
                self._on_error(error, bodies)
            except BaseException as failure:  # SystemExit here would end the worker silently
                self.failed("on_error", failure)

    def failed(self, name: str, error: BaseException) -> None:
        """Count a callback's failure, with its class only: the text of a foreign exception may hold anything.

        Raises:
            The error itself, when a signal handler raised it, such as a task's time limit.
        """
        if is_interruption(error) and threading.current_thread() is threading.main_thread():  # the worker goes on
            raise error
        self.last_failure = f"{name} raised {type(error).__name__}"
        self.failures += 1


REASONS = (
    *("overflow", "invalid", "filtered", "hook_failed", "closed", "disabled", "misconfigured", "untracked"),
    *("damaged", "shutdown", "own_log"),
)


class Counters:
    """Counters of one client. Only the worker writes `retries`; any thread may write the others."""

    source: Any = None  # set by `brockman.metrics`: its `end` gets the counts when nothing counts here any more

    def __init__(self, callbacks: Callbacks) -> None:
        self.delivered = 0
        self.rejected = 0
        self.recovered = 0  # adopted from the files of processes that are gone
        self.left_on_disk = 0  # in files when their buffer was closed, for other processes to adopt
        self.retries = 0
        self.batches = 0
        self.repeated: int | None = None  # of the delivered ones; None as long as no server has said
        self.last_error: str | None = None
        self.dropped = dict.fromkeys(REASONS, 0)
        self.details: dict[str, str] = {}  # by reason: what was wrong with the last such trigger
        self.log = Log()  # goes on with the counts when a client is opened again: it repeats nothing
        self.guard = make_lock_without_gil()
        self._callbacks = callbacks
        self._identity: Identity | None = None

    def __del__(self) -> None:
        if self.source is not None:
            try:
                self.source.end(self)
            except Exception:  # at the end of the process the modules are gone
                return

    @property
    def identity(self) -> Identity:
        """Whose counts these are. Made when it is needed: by then a snapshot of the memory is restored."""
        if self._identity is None:
            self._identity = Identity()
        return self._identity

    def add_repeated(self, repeated: int | None) -> None:
        """Count what a server says of one request."""
        if repeated is not None:
            self.repeated = (self.repeated or 0) + repeated

    def drop(self, reason: str, body: bytes | None = None) -> None:
        """Count a dropped trigger, then call `on_drop`. The body is None when it was not encoded yet."""
        with self.guard:
            self.dropped[reason] += 1
        self.notify_drop(reason, body)

    def notify_drop(self, reason: str, body: bytes | None) -> None:
        """Call `on_drop` for a trigger that is counted already."""
        self._callbacks.dropped(reason, body)

    def notify_drops(self, reason: str, bodies: Sequence[bytes], until: float) -> int:
        """Call `on_drop` for each until the deadline; return how many were skipped."""
        for number, body in enumerate(bodies):
            if monotonic() > until:
                return len(bodies) - number
            self.notify_drop(reason, body)
        return 0


def read_stats(buffer: Buffer, counters: Counters) -> Stats:
    """Return a consistent snapshot. Takes no lock and does not block."""
    # `oldest` may read a file: only once.
    return replace(read_counts(buffer, counters), oldest_age=read_oldest_age(buffer))


def read_counts(buffer: Buffer, counters: Counters) -> Stats:
    """Return a consistent snapshot without `oldest_age`. Takes no lock, does not block, reads no file."""
    return read_together((buffer,), counters)[0]


def read_together(buffers: Sequence[Buffer], counters: Counters) -> tuple[Stats, int]:
    """Return what `read_counts` does for all buffers that count here, and how many of `queued` they left on disk.

    More than one, when a client is opened again while its last triggers are delivered.
    """

    def read() -> tuple[Stats, int]:
        delivered, rejected = counters.delivered, counters.rejected
        recovered, left_on_disk = counters.recovered, counters.left_on_disk
        queued, in_flight = sum(map(len, buffers)), sum(buffer.in_flight for buffer in buffers)
        dropped, evicted = dict(counters.dropped), sum(buffer.evicted for buffer in buffers)
        dropped["overflow"] += evicted
        settled = delivered + rejected + sum(dropped.values())
        stats = Stats(
            recorded=settled + queued + left_on_disk + in_flight - recovered,
            recovered=recovered,
            queued=queued + left_on_disk,
            in_flight=in_flight,
            delivered=delivered,
            rejected=rejected,
            dropped={reason: count for reason, count in dropped.items() if count},
            retries=counters.retries,
            batches=counters.batches,
            repeated=counters.repeated,
            queued_bytes=sum(buffer.waiting_bytes for buffer in buffers),
            last_error=counters.last_error,
            spool_error=next(filter(None, (buffer.trouble for buffer in buffers)), None),
        )
        return stats, left_on_disk

    for buffer in buffers:
        read = partial(buffer.read_consistently, read)
    return read()


def read_oldest_age(buffer: Buffer) -> float | None:
    """Return the seconds since the time of the oldest unsettled trigger, or None. May read a file."""
    return _age(buffer.oldest)


def _age(body: bytes | None) -> float | None:
    """Return the seconds since a trigger was recorded."""
    if body is None:
        return None
    try:
        text = json.loads(body)["recorded_at"]  # "2026-11-23T17:22:32.123456Z"
        # By hand: CPython 3.13.0 crashes on an aware datetime in a finalizer at the end of the process.
        moment = tuple(map(int, (text[:4], text[5:7], text[8:10], text[11:13], text[14:16], text[17:19])))
        return max(0.0, wall() - calendar.timegm(moment) - float("0" + text[19:-1]))
    except (ValueError, KeyError, TypeError):  # a trigger in the spool may be of another client
        return None
