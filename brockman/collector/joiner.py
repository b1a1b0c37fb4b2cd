"""Joins what arrives to people, in a thread of its own, behind the requests."""

from __future__ import annotations

import logging
import random
import threading
import time

from brockman.collector.errors import StoreClosed, StoreUnavailable
from brockman.collector.store.base import Store
from brockman.collector.store.people import People

_PAUSES = 3.0  # while triggers are stored, for each second of joining
_MAX_PAUSE = 1.0  # seconds
_FIRST_RETRY, _LAST_RETRY = 0.5, 30.0  # seconds between attempts, after a failure
_OTHER_JOINS = (0.5, 2.0)  # seconds until the next attempt, when another collector has joined the same triggers
_log = logging.getLogger("brockman.collector")


class Joiner:
    """A thread that joins triggers until `close`. Other collectors on the same store have one too."""

    def __init__(self, store: Store, people: People) -> None:
        self.people = people
        self._store = store
        self._condition = threading.Condition()  # guards the fields below
        self._asked = 1  # counts up when there may be something to join
        self._reached = 0  # the count that the last complete pass began with
        self._waiting = 0  # requests
        self._closed = False
        self._has_failed = False
        self._end_watch = store.watch(self._wake)
        self._thread = threading.Thread(target=self._run, name="brockman-joiner", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread after the transaction in progress. Idempotent."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._end_watch()
        self._thread.join()

    def catch_up(self, timeout: float = 1.0) -> int:
        """Wait until all that is stored at the moment is joined; return how many are left after a timeout."""
        with self._condition:
            self._asked += 1
            goal = self._asked
            self._waiting += 1
            self._condition.notify_all()
            try:
                if self._condition.wait_for(lambda: self._reached >= goal or self._closed, timeout):
                    return 0
            finally:
                self._waiting -= 1
        return self.people.pending()

    def _wake(self) -> None:
        with self._condition:
            self._asked += 1
            self._condition.notify_all()

    def _run(self) -> None:
        retry = _FIRST_RETRY
        while self._wait_for_more():
            try:
                self._join_all()
            except StoreClosed:
                return
            except Exception as error:
                self._report(error)
                self._sleep(retry, is_urgent=False)
                retry = min(2 * retry, _LAST_RETRY)
            else:
                retry = _FIRST_RETRY
                self._report(None)

    def _wait_for_more(self) -> bool:
        """Return True when there may be more to join, False when the thread is to end."""
        with self._condition:
            self._condition.wait_for(lambda: self._asked > self._reached or self._closed)
            return not self._closed

    def _join_all(self) -> None:
        asked = self._asked
        more: bool | None = True
        while more is not False:
            stored, begun = self._store.stored, time.monotonic()
            more = self.people.join_some()
            if self._closed:
                return
            if more is None:
                self._sleep(random.uniform(*_OTHER_JOINS), is_urgent=True)
            elif self._store.stored > stored:  # requests come first
                self._sleep(min(_PAUSES * (time.monotonic() - begun), _MAX_PAUSE), is_urgent=True)
        with self._condition:
            self._reached = asked
            self._condition.notify_all()

    def _sleep(self, seconds: float, *, is_urgent: bool) -> None:
        """Wait; not at all, or no longer, when a request waits and it `is_urgent`, or at the end."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or (is_urgent and self._waiting > 0), seconds)

    def _report(self, error: Exception | None) -> None:
        """Log the begin and the end of a problem."""
        had_failed, self._has_failed = self._has_failed, error is not None
        if error is None and had_failed:
            _log.warning("brockman: triggers are joined to people again")
        elif error is not None and not had_failed:
            details = None if isinstance(error, StoreUnavailable) else error
            _log.warning("brockman: triggers are not joined to people: %s", error, exc_info=details)
