"""The thread that writes log lines: nothing that delivers triggers waits for a logging handler.

`logging.config.dictConfig` and `logging.shutdown` hold locks of `logging` while they call a handler's `flush` and
`close`, and those may wait for a client. So the thread that would end this wait must need none of these locks.

The thread starts with a line and ends after the last one. Where none can be started, the caller writes. A handler
that records a trigger for each line must not feed the next line: whoever writes is known by `is_writing`.
"""

from __future__ import annotations

import math
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from brockman.process.clock import monotonic
from brockman.process.fork import HERE, USUAL, Origin, PerProcess, fork_flag
from brockman.process.signals import inherited_signals
from brockman.process.sync import Condition, Role
from brockman.process.threads import PREFIX
from brockman.process.uwsgi import thread_starter

Line = Callable[[], None]  # writes it

_MAX_LINES = 1000  # that wait; behind a handler that blocks, the oldest are discarded
_LAST_WAIT = 0.5  # seconds at exit, for the line that counts those discarded
_START_GRACE = 1.0  # seconds that a thread has to begin before another one is started


class LineWriter:
    """The lines of one process that are not written yet, in order."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque(maxlen=_MAX_LINES)
        self._discarded = 0  # lines, since the last one that says so
        self._role = Role()  # of the one who writes
        self._written = Condition()
        self._origin = Origin()
        self._spawn = thread_starter()
        self._asked_at = -math.inf  # when a thread was last started
        self._starts_threads = True

    @property
    def is_mine(self) -> bool:
        """True when the caller is the one who writes, as a handler is."""
        return self._role.is_mine

    def put(self, line: Line) -> None:
        """Have a line written. Does not block where a thread can be started."""
        self._discarded += len(self._lines) == _MAX_LINES
        self._lines.append(line)
        self._start()

    def wait(self, seconds: float) -> bool:
        """Wait until every line is written, or `seconds`; return whether they are."""
        if self.is_mine:
            return False
        self._start()
        return self._written.wait(lambda: not (self._lines or self._role.is_taken), seconds)

    def discard(self) -> None:
        """Discard the lines that wait, and have one that counts them written instead.

        `logging.shutdown` would wait for each of them.
        """
        self._discarded += len(self._lines)
        self._lines.clear()
        self._lines.append(self._say_discarded)

    def _say_discarded(self) -> None:
        count, self._discarded = self._discarded, 0
        if count:
            import logging  # not at the top: the client can be imported without it

            text = "%d lines of the log were discarded: a handler of it takes long"
            with suppress(Exception):  # of a filter or handler
                logging.getLogger("brockman").warning("brockman: " + text, count)

    def start_no_more_threads(self) -> None:
        """Have the callers write from now on: a thread may die with the interpreter before it has written."""
        self._starts_threads = False
        self._start()

    def _start(self) -> None:
        if not self._lines or self._role.is_taken:  # the one who writes looks again at the end
            return
        if self._starts_threads and monotonic() - self._asked_at <= _START_GRACE:
            return
        if not (self._starts_threads and self._start_thread()) and not _in_own_thread():
            self._write()

    def _start_thread(self) -> bool:
        if sys.is_finalizing():  # before Python 3.12 a thread could still be made, and would never run
            return False
        self._asked_at = monotonic()
        try:
            self._spawn(self._run, PREFIX + "log")
        except RuntimeError:  # none in this process, too many, or the interpreter is ending
            self._asked_at = -math.inf
            return False
        return True

    def _run(self) -> None:
        while True:
            self._asked_at = -math.inf  # before the last look: what comes after it starts another thread
            if not self._lines or self._role.is_taken or self._origin.is_inherited:
                return
            with suppress(BaseException), inherited_signals():  # a handler is the user's code
                self._write()

    def _write(self) -> None:
        """Write in this thread, unless another one does."""
        while self._lines and not self._origin.is_inherited and self._role.take():
            flag = fork_flag()
            flag[USUAL] = 0
            try:
                while self._lines and not self._origin.is_inherited:  # a handler may fork
                    self._lines.popleft()()
                    self._say_discarded()
            finally:
                flag[USUAL] = flag[HERE]
                self._role.release()
                self._written.notify()


_writers = PerProcess(LineWriter)


def put(line: Line) -> None:
    """Have a line written. Does not block where a thread can be started."""
    _writers.get().put(line)


def is_writing() -> bool:
    """Return whether the caller is a handler of one of our lines."""
    writer = _writers.peek()
    return writer is not None and writer.is_mine


def wait_until_written(seconds: float) -> bool:
    """Wait until every line is written, or `seconds`; return whether they are."""
    writer = _writers.peek()
    return writer is None or writer.wait(seconds)


def finish(seconds: float) -> None:
    """Wait until every line is written, or `seconds`, and discard the rest; the callers write later ones."""
    writer = _writers.get()
    if not writer.wait(seconds) and seconds > 0:
        writer.discard()
        writer.wait(_LAST_WAIT)
    writer.start_no_more_threads()


def _in_own_thread() -> bool:
    """Return whether the caller is a thread of brockman, which must not wait for a handler."""
    return threading.current_thread().name.startswith(PREFIX)
