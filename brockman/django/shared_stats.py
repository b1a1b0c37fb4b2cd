"""The counts of many processes in one place: a cache that they share, named by `FL_STATS_CACHE`.

Each process leaves its counts there now and then, after a request or a task, once more if triggers wait then, and
at its end; they are forgotten a day later. They are those of the clients that have the project's settings and no
others.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.db import close_old_connections, connections

from brockman.django.client import DjangoFocusLabClient
from brockman.django.settings import DjangoSettings, read_settings
from brockman.django.test_runs import in_test_run
from brockman.exceptions import ConfigurationError
from brockman.process.clock import monotonic, wall
from brockman.process.fork import PerProcess
from brockman.process.log import say
from brockman.process.uwsgi import no_threads_reason
from brockman.stats import Stats

_EVERY = 5.0  # seconds
_SLOW = 2.0  # seconds; the request is answered by then, but the worker could answer the next
_REST = 300.0  # seconds, after a failure
_KEPT = 24 * 60 * 60  # seconds
_LAST = "brockman:last"  # about the highest number that a process has taken for its key
_KEY = "brockman:stats:2:{}"  # the 2 changes with the form of what is left
_SPREAD = 16
_MOST = 50_000  # numbers that are looked at, the highest
_CHUNK = 500  # keys that are read at a time
_PATIENCE = 2.0  # seconds that the end of the process waits for a thread that leaves the counts

_client = DjangoFocusLabClient()


@dataclass(frozen=True)
class ProcessStats:
    """The counts of one process, as it left them."""

    host: str
    pid: int
    left_at: float  # seconds since the epoch
    stats: Stats


class _Place:
    """Where a process leaves its counts."""

    def __init__(self) -> None:
        self.owner = uuid.uuid4().hex
        self.number: int | None = None
        self.next_at = 0.0  # on the clock
        self.is_slow = False
        self.will_look = False
        self.lock = threading.Lock()  # two threads would take two places, and count everything twice

    @property
    def cooling_down(self) -> bool:
        return self.is_slow and monotonic() < self.next_at

    def look_again(self) -> None:
        """Leave the counts once more in a while, in a thread, unless that is under way."""
        if not self.will_look and no_threads_reason() is None:
            timer = threading.Timer(_EVERY, self._look)
            timer.daemon = True
            with suppress(RuntimeError):  # no thread can be had
                timer.start()
                self.will_look = True

    def _look(self) -> None:
        self.will_look = False
        publish(0)
        connections.close_all()  # of this thread: the cache may be a database

    def rest(self, seconds: float) -> None:
        """Do nothing for so long, and not even at the end of the process if that is long."""
        self.is_slow = seconds > _EVERY
        self.next_at = monotonic() + seconds


_place: PerProcess[_Place] = PerProcess(_Place)


def is_private(alias: str) -> bool:
    """Return whether a cache is seen by one process only."""
    return isinstance(caches[alias], (LocMemCache, DummyCache))


def publish_now_and_then(**_: Any) -> None:
    """Leave the counts of this process in the cache, if it has not done so for a while. For signals."""
    if monotonic() >= _place.get().next_at and publish(0):
        close_old_connections()  # as Django does after a request: the cache may be a database


def publish(patience: float = _PATIENCE) -> bool:
    """Leave the counts of this process in the cache; return whether that was done. Raises nothing.

    Nothing is done without `FL_STATS_CACHE`, in test runs, and for a while after a cache has failed or was slow.

    Args:
        patience: Seconds to wait for another thread that does so.
    """
    place = _place.get()
    if in_test_run() or place.cooling_down or not place.lock.acquire(timeout=patience):
        return False
    started = monotonic()
    try:
        alias = read_settings(DjangoSettings).stats_cache
        stats = _client.stats() if alias is not None else Stats()
        if stats.recorded or stats.recovered:
            _leave(caches[alias], place, stats)
        if stats.queued or stats.in_flight:
            place.look_again()  # no request may come for hours
        place.rest(_EVERY if monotonic() - started < _SLOW else _REST)
        return bool(stats.recorded or stats.recovered)
    except ConfigurationError:  # told by the client
        place.rest(_EVERY)
    except Exception as error:  # a cache's own errors have no class in common
        place.rest(_REST)
        say(logging.WARNING, f"the counts could not be left in the cache: {type(error).__name__}")
    finally:
        place.lock.release()
    return False


def _leave(cache: Any, place: _Place, stats: Stats) -> None:
    left = {
        "owner": place.owner,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "left_at": wall(),
        "stats": asdict(stats),
    }
    held = cache.get(_KEY.format(place.number)) if place.number is not None else None
    if held is not None and held["owner"] == place.owner:
        cache.set(_KEY.format(place.number), left, timeout=_KEPT)
    else:  # the first time, or the cache was cleared, or another one has taken the number too
        place.number = _take_number(cache, left)


def _take_number(cache: Any, left: dict[str, Any]) -> int:
    """Leave the counts under a number that is free, and return it.

    Where caches are files, two processes may both succeed to `add`, and so take one number. So those that begin
    together try different ones, and look again; what that leaves is noticed when counts are left the next time.
    """
    first = cache.get(_LAST, 0) + 1 + left["pid"] % _SPREAD
    for number in range(first, first + _CHUNK):
        key = _KEY.format(number)
        was_free = cache.add(key, left, timeout=_KEPT)
        held = cache.get(key)
        if held is None:
            raise RuntimeError("the cache keeps nothing")  # some hide it that their server is gone
        if was_free and held["owner"] == left["owner"]:
            cache.set(_LAST, number, timeout=None)
            return int(number)
    raise RuntimeError("no number is free")


def read_all(alias: str) -> Iterator[ProcessStats]:
    """Yield what processes have left in a cache, the newest processes last."""
    cache = caches[alias]
    last = cache.get(_LAST, 0)
    start = max(0, last - _MOST) + 1
    while True:
        keys = [_KEY.format(number) for number in range(start, start + _CHUNK)]
        found = cache.get_many(keys)
        for left in (found[key] for key in keys if key in found):
            yield ProcessStats(left["host"], left["pid"], left["left_at"], Stats(**left["stats"]))
        start += _CHUNK
        # Two that took numbers at once may have noted the lower one as the last.
        if start > last and not found:
            return


def own_stats() -> Stats:
    """Return the counts of this process."""
    return _client.stats()
