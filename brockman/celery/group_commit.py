"""Group commit: what many threads want to send at the same time goes out together, and each gets its own verdict.

The first who comes takes the lead and sends what is there, which is its own. Who comes meanwhile waits. When the
lead is through, the one that has waited longest takes it, and sends for all that wait. So one that is alone waits
for nobody, and the busier it gets the larger the batches are.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from brockman.trigger.batch import count_fitting

Verdict = TypeVar("Verdict")


class _Ticket(Generic[Verdict]):
    """One that waits, for its verdict or for the lead."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.verdict: Verdict | None = None
        self.leads = False
        self.called = threading.Event()


class GroupCommit(Generic[Verdict]):
    """Sends for threads, or greenlets, of one process.

    Invariant, outside of `_lock`: if anything waits, exactly one ticket has the lead, or has been called to take
    it; it is at the head of what waits, or it sends. `_lock` guards `_waiting`, `_is_led` and each ticket's
    `leads`, for a few lines without I/O at a time.
    """

    def __init__(
        self,
        send: Callable[[Sequence[bytes]], Sequence[Verdict]],
        interrupted: Verdict,
        *,
        max_count: int,
        max_bytes: int,
    ) -> None:
        """Make one in the process, and after the monkey-patching, that it is used in.

        Args:
            send: Sends triggers and returns a verdict on each. Blocks.
            interrupted: The verdict on what was being sent when an exception struck the one who sent.
            max_count: How many triggers may go together.
            max_bytes: How many bytes may go together.
        """
        self._send = send
        self._interrupted = interrupted
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._waiting: deque[_Ticket[Verdict]] = deque()
        self._is_led = False

    def send(self, body: bytes) -> Verdict:
        """Send one trigger, with others if there are any, and return the verdict on it. Blocks until it is there.

        Raises:
            BaseException: What struck this thread while it sent or waited.
        """
        ticket: _Ticket[Verdict] = _Ticket(body)
        with self._lock:
            self._waiting.append(ticket)
            ticket.leads = not self._is_led
            self._is_led = True
        try:
            if not ticket.leads:
                ticket.called.wait()
        except BaseException:  # a time limit
            self._withdraw(ticket)
            raise
        if ticket.verdict is None:
            self._lead()
        return self._interrupted if ticket.verdict is None else ticket.verdict

    def _lead(self) -> None:
        batch, verdicts = self._take(), None
        try:
            verdicts = self._send([ticket.body for ticket in batch])
        finally:
            for number, ticket in enumerate(batch):
                ticket.verdict = self._interrupted if verdicts is None else verdicts[number]
                ticket.called.set()
            with self._lock:
                self._pass_on()

    def _take(self) -> list[_Ticket[Verdict]]:
        """Take the oldest that make one request; the caller's own is the first of them."""
        with self._lock:
            there = list(self._waiting)[: self._max_count]
            fitting = count_fitting([ticket.body for ticket in there], self._max_bytes)
            return [self._waiting.popleft() for _ in range(fitting)]

    def _pass_on(self) -> None:
        self._is_led = bool(self._waiting)
        if self._waiting:
            self._waiting[0].leads = True
            self._waiting[0].called.set()

    def _withdraw(self, ticket: _Ticket[Verdict]) -> None:
        with self._lock:
            if ticket in self._waiting:  # else it is being sent, or was
                self._waiting.remove(ticket)
                if ticket.leads:
                    self._pass_on()
