"""What is said on the log about the spool: when the disk fails, when it works again, and what is left alone."""

from __future__ import annotations

import errno
import logging
from collections import Counter, deque

from brockman.process.clock import monotonic

LINE_EVERY = 60.0  # seconds
_log = logging.getLogger("brockman")
_ADVICE = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "raise the quota",
    errno.EROFS: "name a folder on a disk that can be written",
    errno.EACCES: "let this user write there",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def say(level: int, text: str) -> None:
    """Write a line on the log. A filter or handler of the user's that raises harms nothing."""
    try:
        _log.log(level, "%s", text)
    except Exception:
        return


class Notice:
    """Any thread may `fail`, `work` and `note`; the flusher's role speaks."""

    def __init__(self, path: str) -> None:
        self.trouble: str | None = None
        self._path = path
        self._said: str | None = None
        self._notes: deque[str] = deque(maxlen=10)
        self._known: set[str] = set()
        self._next_line = self._next_note = 0.0

    def fail(self, error: OSError) -> None:
        """The disk does not take triggers."""
        advice = _ADVICE.get(error.errno or 0)
        reason = error.strerror or str(error)
        self.trouble = f"{reason}; {advice}" if advice else reason

    def work(self) -> None:
        """The disk takes triggers."""
        self.trouble = None

    def note(self, text: str) -> None:
        """Something is left alone, or was kept aside; the same is said only once."""
        if text not in self._known and len(self._known) < 1000:
            self._known.add(text)
            self._notes.append(text)

    @property
    def _is_over(self) -> bool:
        """Whether trouble was told that is over: that is said at once, as of outages."""
        return self.trouble is None and self._said is not None

    def due_in(self) -> float | None:
        """Return the seconds until a line may be written, or None when there is nothing to say."""
        if self._is_over:
            return 0.0
        times = [self._next_note] if self._notes else []
        if self.trouble != self._said:
            times.append(self._next_line)
        return max(0.0, min(times) - monotonic()) if times else None

    def speak(self) -> None:
        """Write what is to be said: of the disk and of what is noted each at most once a minute."""
        if self._is_over:
            self._said = None
            say(logging.INFO, f"triggers go to disk in {self._path} again")
        now, trouble = monotonic(), self.trouble
        if trouble is not None and trouble != self._said and now >= self._next_line:
            self._next_line = now + LINE_EVERY
            self._said = trouble
            say(
                logging.ERROR,
                f"triggers cannot be left in {self._path} ({trouble}); until then they wait in memory",
            )
        if self._notes and now >= self._next_note:
            self._next_note = now + LINE_EVERY
            while self._notes:
                say(logging.WARNING, f"spool {self._path}: {self._notes.popleft()}")


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
