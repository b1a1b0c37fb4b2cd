"""What the task says on the log: at most one line a minute of each kind, however often it happens."""

from __future__ import annotations

from collections import Counter

from brockman.clock import monotonic
from brockman.report import LINE_EVERY, say


class Notices:
    """Counts what is not said, and says how many that were with the next line. Any thread may call."""

    def __init__(self) -> None:
        self._next_line: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()

    def say(self, level: int, kind: str, text: str) -> None:
        """Write a line, unless one of its kind was written within the last minute."""
        now = monotonic()
        if now < self._next_line.get(kind, 0.0):
            self._unsaid[kind] += 1
            return
        self._next_line[kind] = now + LINE_EVERY
        unsaid = self._unsaid.pop(kind, 0)
        say(level, f"{text} (and {unsaid} times more since the last such line)" if unsaid else text)

    def over(self, kind: str) -> bool:
        """Forget a kind, so that the next of it is said at once; return whether one was said."""
        self._unsaid.pop(kind, None)
        return self._next_line.pop(kind, None) is not None
