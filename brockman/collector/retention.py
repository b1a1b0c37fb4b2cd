"""Removes old triggers, in a thread of its own."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from brockman.collector.errors import StoreClosed, StoreUnavailable
from brockman.collector.settings import Settings
from brockman.collector.store.base import Store

_log = logging.getLogger("brockman.collector")
_SHORTEST, _BY_AGE, _BY_SIZE = 0.2, 600.0, 30.0  # seconds between two runs
_FIRST_RETRY = 5.0  # seconds after a failure; then twice as long, up to the usual time
_RUNS = 20  # in the time that triggers are kept
_JITTER = (0.8, 1.2)  # collectors of one database do not all start at once
_STOP_TIMEOUT = 2.0  # seconds


@contextmanager
def removing(store: Store, settings: Settings) -> Iterator[None]:
    """Keep to the settings `keep` and `max_bytes` during a block; then close the store, which ends a run."""
    if settings.keep is None and settings.max_bytes is None:
        yield
        return
    retention = _Retention(store, settings)
    thread = threading.Thread(target=retention.run, name="brockman-retention", daemon=True)
    thread.start()
    try:
        yield
    finally:
        retention.end.set()
        store.close()
        thread.join(_STOP_TIMEOUT)


class _Retention:
    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._keep, self._max_bytes = settings.keep, settings.max_bytes
        self.end = threading.Event()

    def run(self) -> None:
        interval = _BY_AGE if self._max_bytes is None else _BY_SIZE
        if self._keep is not None:
            interval = max(_SHORTEST, min(interval, self._keep / _RUNS))
        pause, problem = interval, ""
        while True:
            try:
                self._remove()
                pause, problem = interval, ""
            except StoreClosed:
                return
            except StoreUnavailable as error:
                pause = _FIRST_RETRY if not problem else min(2 * pause, interval)
                if str(error) != problem:
                    _log.warning("brockman: old triggers stay for now: %s", error)
                problem = str(error)
            except Exception:
                _log.exception("brockman: old triggers stay for now")
            if self.end.wait(min(pause, interval) * random.uniform(*_JITTER)):
                return

    def _remove(self) -> None:
        old = large = 0
        try:
            if self._keep is not None:
                old = self._store.prune(int((time.time() - self._keep) * 1_000_000))
            if self._max_bytes is not None:
                large = self._store.shrink(self._max_bytes)
        finally:
            if old or large:
                _log.warning("brockman: removed %d triggers by age, %d by the size of the store", old, large)
