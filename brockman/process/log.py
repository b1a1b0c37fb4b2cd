"""The log: logger `brockman`, every line begins with "brockman: ", and nothing that goes on repeats itself."""

from __future__ import annotations

import errno
import logging
import math
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from brockman.process import log_thread
from brockman.process.clock import monotonic

LINE_EVERY = 60.0  # seconds
_MAX_KNOWN = 1000  # texts that are remembered, so that each is logged once
_MAX_COUNTED = 10_000  # keys that are remembered of texts that are summed up
_log = logging.getLogger("brockman")


def say(level: int, text: str) -> None:
    """Have a line written by the log's thread. Waits for no handler, and for no lock of `logging`."""
    if _is_enabled(level):
        log_thread.put(partial(_write, level, text))


def _write(level: int, text: str) -> None:
    try:
        _log.log(level, "brockman: %s", text)
    except Exception:  # of a filter or handler
        return


def count_of(number: int, noun: str) -> str:
    """Return a number with a noun: "1 trigger", "2 triggers"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def is_debug() -> bool:
    """Return whether lines of level DEBUG are written."""
    return _is_enabled(logging.DEBUG)


def _is_enabled(level: int) -> bool:
    # Not `isEnabledFor`: it fills a cache, under the lock that `dictConfig` holds while it calls handlers.
    return not _log.disabled and _log.manager.disable < level >= _log.getEffectiveLevel()


@dataclass
class _Trouble:
    level: int
    text: str
    since: float
    is_logged: bool = False


class Log:
    """Lines by subject, at most one a minute of each. Any thread may call; only `write` and `event` log.

    Trouble is logged when it begins and, at the same level, when it ends.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._troubles: dict[str, _Trouble] = {}
        self._lines: deque[tuple[int, str]] = deque(maxlen=10)
        self._known: set[str] = set()
        self._counted: set[str] = set()
        self._next_at: dict[str, float] = {}
        self._skipped: Counter[str] = Counter()

    def trouble(self, subject: str, level: int, text: str) -> None:
        """Note that something begins to be wrong, or still is; `write` logs its latest text once."""
        known = self._troubles.get(subject)
        if known is None or known.level != level:
            self._troubles[subject] = _Trouble(level, text, known.since if known else self._clock())
        else:
            known.text = text

    def over(self, subject: str, text: str) -> bool:
        """Note that the trouble is over, if there is any; return whether `write` is to log it.

        The line, with how long it took, is written if that of the beginning was.
        """
        ended = self._troubles.pop(subject, None)
        if ended is None or not ended.is_logged:
            return False
        self._lines.append((ended.level, f"{text} after {self._clock() - ended.since:.0f} s"))
        return True

    def summed(self, subject: str, level: int, texts: dict[str, str]) -> None:
        """Have `write` log one of these texts and the number of the others, at most once a minute.

        The keys of those that were logged or counted are remembered; they come in no later line.
        """
        new = [key for key in texts if key not in self._counted]
        if new and self.wait(subject) <= 0 and len(self._counted) < _MAX_COUNTED:
            self.claim(subject)
            self._counted.update(new)
            rest = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
            self._lines.append((level, texts[new[0]] + rest))

    def once(self, level: int, text: str) -> None:
        """Have `write` log a text, unless it was logged before."""
        if text not in self._known and len(self._known) < _MAX_KNOWN:
            self._known.add(text)
            self._lines.append((level, text))

    def event(self, subject: str, level: int, text: str) -> None:
        """Log something that may happen often: the next line of this subject counts those that were skipped."""
        if self.wait(subject) > 0:
            self._skipped[subject] += 1
            return
        self.claim(subject)
        skipped = self._skipped.pop(subject, 0)
        say(level, f"{text} (and {count_of(skipped, 'time')} more since the last such line)" if skipped else text)

    def wait(self, subject: str) -> float:
        """Return the seconds until the next line of a subject may be written."""
        return max(0.0, self._next_at.get(subject, -math.inf) - self._clock())

    def claim(self, subject: str) -> None:
        """Note that a line of this subject is written now."""
        self._next_at[subject] = self._clock() + LINE_EVERY

    def due_in(self) -> float | None:
        """Return the seconds until `write` has something to log; None when there is nothing."""
        if self._lines:
            return 0.0
        waits = [self.wait(subject) for subject, one in list(self._troubles.items()) if not one.is_logged]
        return min(waits, default=None)

    def write(self) -> None:
        """Log what is due."""
        with suppress(IndexError):  # of the empty deque: another thread may write too
            while self._lines:
                say(*self._lines.popleft())
        for subject, trouble in list(self._troubles.items()):
            if not trouble.is_logged and self.wait(subject) <= 0:
                trouble.is_logged = True
                self.claim(subject)
                say(trouble.level, trouble.text)


_DISK_ADVICE = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "raise the quota",
    errno.EROFS: "name a folder on a disk that can be written",
    errno.EACCES: "let this user write there",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


class SpoolLog:
    """The log of a spool. Any thread may `fail`, `work` and `note`; the worker writes.

    Attributes:
        problem: Why the disk takes no triggers; None while it does.
    """

    def __init__(self, path: str, log: Log) -> None:
        """Make a log of the spool in a directory, as a part of another one."""
        self.problem: str | None = None
        self._path = path
        self._log = log
        self.due_in, self.write = self._log.due_in, self._log.write

    def fail(self, error: OSError) -> None:
        """Note that the disk takes no triggers."""
        advice = _DISK_ADVICE.get(error.errno or 0)
        reason = error.strerror or str(error)
        self.problem = f"{reason}; {advice}" if advice else reason
        text = f"cannot write to {self._path} ({self.problem}); buffering in memory"
        self._log.trouble("disk", logging.ERROR, text)

    def work(self) -> None:
        """Note that the disk takes triggers."""
        self.problem = None
        self._log.over("disk", f"writing to {self._path} again")

    def note_names(self, texts: dict[str, str]) -> None:
        """Note something about many files, by name: one line a minute."""
        self._log.summed("names", logging.WARNING, {n: f"spool {self._path}: {t}" for n, t in texts.items()})

    def note(self, text: str) -> None:
        """Note something about a file; the same text is logged once."""
        self._log.once(logging.WARNING, f"spool {self._path}: {text}")
