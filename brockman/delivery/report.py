"""What is said on the log about trouble: at most one line a minute, however much goes wrong.

Drops are summed up by reason. The line that says an outage is over comes at once, when its beginning was told.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from brockman.buffer.counters import Callbacks, Counters
from brockman.process.log import LINE_EVERY, say

# Told where they happen, or asked for.
_UNSAID = ("closed", "disabled", "misconfigured", "untracked", "shutdown")


class Report:
    """Collects what is to be said. Belongs to the flusher's role, but any thread may call `note` and `refused`."""

    def __init__(self, counters: Counters, callbacks: Callbacks, clock: Callable[[], float]) -> None:
        self._counters = counters
        self._callbacks = callbacks
        self._clock = clock
        self._next_line = -math.inf
        self._said = dict(counters.dropped, rejected=counters.rejected)
        self._said_failures = 0
        self._trouble: tuple[int, str] | None = None
        self._told_trouble = False
        self._since = 0.0
        self._noted = False
        self._told_refusal = False

    def refused(self) -> None:
        """Say once that a trigger came to a closed client. Any thread may call."""
        if not self._told_refusal:
            self._told_refusal = True
            say(
                logging.WARNING,
                "a trigger was recorded on a closed client and is dropped; later ones are only counted",
            )

    def note(self) -> bool:
        """Return True the first time since the last line: then the flusher should be woken to write one."""
        if self._noted:
            return False
        self._noted = True
        return True

    def trouble(self, level: int, text: str) -> None:
        """Say that triggers are held, once for an outage. The text names the cause."""
        if self._trouble is None:
            self._since = self._clock()
        if self._trouble is None or self._trouble[0] != level:
            self._told_trouble = False
        self._trouble = (level, text)
        self.speak()

    def over(self) -> None:
        """Say that the trouble has ended, if it was told."""
        if self._trouble is not None and self._told_trouble:
            say(logging.INFO, f"the service answers again after {self._clock() - self._since:.0f} s")
        self._trouble = None
        self._told_trouble = False

    def due_in(self) -> float | None:
        """Return seconds until a line may be written, or None when there is nothing to say."""
        if not self._has_news():
            return None
        return max(0.0, self._next_line - self._clock())

    def _has_news(self) -> bool:
        untold = self._trouble is not None and not self._told_trouble
        return untold or bool(self._losses()) or self._callbacks.failures > self._said_failures

    def _losses(self) -> dict[str, int]:
        """Return how many were lost since the last line, by reason."""
        counts = dict(self._counters.dropped)
        if not self._callbacks.takes_refusals:
            counts["rejected"] = self._counters.rejected
        new = {reason: count - self._said[reason] for reason, count in counts.items()}
        return {reason: count for reason, count in new.items() if count and reason not in _UNSAID}

    def _detail(self, reason: str) -> str:
        detail = self._counters.details.get(reason)
        return f" (the last one: {detail})" if detail else ""

    def speak(self) -> None:
        """Write one line with all that is to be said, unless one was written within the last minute."""
        if self._has_news() and self._clock() >= self._next_line:
            self._write([])

    def final_summary(self, lost: int, untold: int, *, kept: int, more: bool) -> None:
        """Write the last line, whenever the one before was.

        Args:
            lost: How many triggers were not delivered.
            kept: How many wait on disk for the next process.
            untold: Of how many of these there was no time to tell `on_drop`.
            more: Whether others may be lost later, of which no line will tell.
        """
        cause = self._counters.last_error or "no answer yet"
        rest = "; what is recorded so late and lost is only counted from here on" if more else ""
        parts = [f"closed with {lost} triggers not delivered ({cause}){rest}"] if lost else []
        if kept:
            say(logging.INFO, f"closed with {kept} triggers on disk ({cause}), for the next process to deliver")
        if untold:
            parts.append(f"on_drop was too slow to be told of {untold} of them")
        if parts or self._has_news():
            self._write(parts)

    def _write(self, parts: list[str]) -> None:
        self._noted = False
        level = logging.WARNING
        if self._trouble is not None and not self._told_trouble:
            level, text = self._trouble
            parts.append(text)
            self._told_trouble = True
        losses = self._losses()
        if losses:
            details = ", ".join(f"{count} {reason}{self._detail(reason)}" for reason, count in losses.items())
            parts.append(f"triggers lost since the last such line: {details}")
            for reason, count in losses.items():
                self._said[reason] += count
        failures = self._callbacks.failures
        if failures > self._said_failures:
            parts.append(f"{self._callbacks.last_failure} ({failures - self._said_failures} times)")
            self._said_failures = failures
        self._next_line = self._clock() + LINE_EVERY
        say(level, "; ".join(parts))
