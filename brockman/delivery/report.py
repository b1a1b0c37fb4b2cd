"""Log lost triggers, summed up by reason: at most one line a minute."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

from brockman.buffer.counters import Callbacks, Counters
from brockman.process import sudden_exit
from brockman.process.log import Log, count_of, say

DELIVERY = "delivery"  # a subject of the log: losses and outages share its line a minute
_NOT_SUMMED_UP = (  # logged elsewhere, asked for, or made by the log itself
    *("closed", "disabled", "misconfigured", "untracked", "shutdown", "own_log"),
)
_MAX_MISTAKES = 50  # kinds of invalid triggers of which one example is logged
_VALUES = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d[\d.e+]*|\bnan\b|-?\binf\b""")
_PACKAGE = str(Path(__file__).parent.parent) + "/"


def find_caller() -> str:
    """Return file and line of the innermost call from outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class Report:
    """Logs losses. Belongs to the worker's role, but any thread may call `note` and `refused`."""

    def __init__(self, counters: Counters, callbacks: Callbacks, log: Log, *, is_on_disk: bool = False) -> None:
        """Make a report. `is_on_disk` says that what waits outlives the process."""
        self.log = log
        self._is_on_disk = is_on_disk
        self._counters = counters
        self._callbacks = callbacks
        self._reported = dict(counters.dropped, rejected=counters.rejected)
        self._reported_failures = 0
        self._is_noted = False
        self._mistakes: set[str] = set()

    def mistake(self, text: str) -> bool:
        """Have one invalid trigger of each kind logged, with its caller; return whether this is a new kind."""
        caller = ascii(find_caller())[1:-1]
        kind = f"{caller} {_VALUES.sub('', text)}"
        if kind in self._mistakes or len(self._mistakes) >= _MAX_MISTAKES:
            return False
        self._mistakes.add(kind)
        self.log.once(logging.WARNING, f"invalid trigger, dropped, from {caller}: {text}")
        return True

    def refused(self) -> None:
        """Log once that a trigger was recorded on a closed client. Any thread may call."""
        text = "a trigger was recorded on a closed client and is dropped; later ones are only counted"
        self.log.once(logging.WARNING, text)
        self.log.write()

    def note(self) -> bool:
        """Return True for the first loss since the last line: the worker should wake up to write one."""
        if self._is_noted:
            return False
        self._is_noted = True
        return True

    def due_in(self) -> float | None:
        """Return the seconds until there is something to log; None when there is nothing."""
        losses = self.log.wait(DELIVERY) if self._has_losses() else None
        waits = (self.log.due_in(), losses, None if self._is_on_disk else sudden_exit.watch().due_in())
        return min((wait for wait in waits if wait is not None), default=None)

    def write(self) -> None:
        """Log what is due: trouble, and losses unless a line of theirs was written within the last minute."""
        self.log.write()
        if not self._is_on_disk:
            sudden_exit.watch().look()
        if self._has_losses() and self.log.wait(DELIVERY) <= 0:
            self._write([])

    def final_summary(self, lost: int, not_notified: int, *, kept: int, is_exiting: bool) -> None:
        """Log the last line, whenever the one before was.

        Args:
            lost: How many triggers were not delivered.
            not_notified: For how many of these `on_drop` was not called for want of time.
            kept: How many wait on disk for the next process.
            is_exiting: Whether more may be lost that no line will count.
        """
        cause = self._counters.last_error or "no answer yet"
        rest = "; triggers lost from now on are only counted" if is_exiting else ""
        parts = [f"closed with {count_of(lost, 'trigger')} not delivered ({cause}){rest}"] if lost else []
        if kept:
            say(
                logging.INFO,
                f"closed with {count_of(kept, 'trigger')} on disk ({cause}), for the next process to deliver",
            )
        if not_notified:
            parts.append(f"on_drop was not called for {not_notified} of them: it took too long")
        self.log.write()
        if parts or self._has_losses():
            self._write(parts)

    def _has_losses(self) -> bool:
        return bool(self._losses()) or self._callbacks.failures > self._reported_failures

    def _losses(self) -> dict[str, int]:
        """Return how many triggers were lost since the last line, by reason."""
        counts = dict(self._counters.dropped)
        if not self._callbacks.takes_refusals:
            counts["rejected"] = self._counters.rejected
        new = {reason: count - self._reported[reason] for reason, count in counts.items()}
        return {reason: count for reason, count in new.items() if count and reason not in _NOT_SUMMED_UP}

    def _detail(self, reason: str) -> str:
        detail = self._counters.details.get(reason)
        return f" (the last one: {detail})" if detail else ""

    def _write(self, parts: list[str]) -> None:
        self._is_noted = False
        losses = self._losses()
        if losses:
            details = ", ".join(f"{count} {reason}{self._detail(reason)}" for reason, count in losses.items())
            parts.append(f"triggers lost since the last such line: {details}")
            for reason, count in losses.items():
                self._reported[reason] += count
        failures = self._callbacks.failures
        if failures > self._reported_failures:
            parts.append(
                f"{self._callbacks.last_failure} ({count_of(failures - self._reported_failures, 'time')})"
            )
            self._reported_failures = failures
        self.log.claim(DELIVERY)
        say(logging.WARNING, "; ".join(parts))
