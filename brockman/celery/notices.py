"""What the task says on the log: at most one line a minute of each kind, however often it happens."""

from __future__ import annotations

from collections import Counter

from brockman.delivery.report import LINE_EVERY, say
from brockman.process.clock import monotonic


class Notices:
    """Counts what is not said, and says how many that were with the next line. Any thread may call."""

    def __init__(self) -> None:
        self._next_line: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()
        self._lasts: dict[str, bool] = {}

    def say(self, level: int, kind: str, text: str) -> None:
        """Write a line, unless one of its kind was written within the last minute."""
        self._lasts[kind] = True
        now = monotonic()
        if now < self._next_line.get(kind, 0.0):
            self._unsaid[kind] += 1
            return
        self._next_line[kind] = now + LINE_EVERY
        unsaid = self._unsaid.pop(kind, 0)
        say(level, f"{text} (and {unsaid} times more since the last such line)" if unsaid else text)

    def over(self, kind: str) -> bool:
        """Take note that what was said of a kind is over; return whether it was going on.

        The next of it is still not said within the same minute: an endpoint that comes and goes fills no log.
        """
        return self._lasts.pop(kind, False)
