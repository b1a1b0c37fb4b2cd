"""The counts of all processes, in a cache that they share, named by `FL_STATS_CACHE`.

Each process writes its counts after a request or a task, every few seconds at most; once more when triggers still
wait then; and at its exit. They expire after a day. They are those of clients without options of their own.
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
from brockman.process.interruption import is_interruption
from brockman.process.log import say
from brockman.process.uwsgi import no_threads_reason
from brockman.stats import Stats

_EVERY = 5.0  # seconds
_SLOW = 2.0  # seconds; the response is sent by then, but the worker could answer the next request
_COOLDOWN = 300.0  # seconds, after a failure
_EXPIRY = 24 * 60 * 60  # seconds
_LAST = "brockman:last"  # about the highest number that a process has taken for its key
_KEY = "brockman:stats:2:{}"  # the 2 changes with the format of the value
_SPREAD = 16
_MAX_READ = 50_000  # numbers, the highest
_CHUNK = 500  # keys that are read at a time
_LOCK_TIMEOUT = 2.0  # seconds that the exit waits for a thread that writes the counts

_client = DjangoFocusLabClient()


@dataclass(frozen=True)
class ProcessStats:
    host: str
    pid: int
    left_at: float  # seconds since the epoch
    stats: Stats


class _Slot:
    def __init__(self) -> None:
        self.owner = uuid.uuid4().hex
        self.number: int | None = None
        self.next_at = 0.0  # on the clock
        self.is_slow = False
        self.is_scheduled = False
        self.lock = threading.Lock()  # two threads would take two slots, and count everything twice

    def schedule(self) -> None:
        """Write the counts once more in a while, in a thread, unless that is scheduled."""
        if not self.is_scheduled and no_threads_reason() is None:
            timer = threading.Timer(_EVERY, self._write_again)
            timer.daemon = True
            with suppress(RuntimeError):  # no thread can be started
                timer.start()
                self.is_scheduled = True

    def _write_again(self) -> None:
        self.is_scheduled = False
        publish(0)
        connections.close_all()  # of this thread: the cache may be a database

    def pause(self, seconds: float) -> None:
        """Write nothing for some seconds; if that is long, not even at exit."""
        self.is_slow = seconds > _EVERY
        self.next_at = monotonic() + seconds


_slot: PerProcess[_Slot] = PerProcess(_Slot)


def is_private(alias: str) -> bool:
    """Return whether each process has a cache of its own under this alias."""
    return isinstance(caches[alias], (LocMemCache, DummyCache))


def publish_now_and_then(**_: Any) -> None:
    """Write the counts of this process to the cache, unless that was done a moment ago. A signal handler."""
    if monotonic() >= _slot.get().next_at and publish(0):
        close_old_connections()  # as Django does after a request: the cache may be a database


def publish(lock_timeout: float = _LOCK_TIMEOUT) -> bool:
    """Write the counts of this process to the cache; return whether that was done. Raises nothing.

    Does nothing without `FL_STATS_CACHE`, in test runs, and for some minutes after a cache has failed or was slow.
    Waits `lock_timeout` seconds for another thread that writes them.
    """
    slot = _slot.get()
    is_cooling_down = slot.is_slow and monotonic() < slot.next_at
    if in_test_run() or is_cooling_down or not slot.lock.acquire(timeout=lock_timeout):
        return False
    started = monotonic()
    try:
        alias = read_settings(DjangoSettings).stats_cache
        stats = _client.stats() if alias is not None else Stats()
        if stats.recorded or stats.recovered:
            _write(caches[alias], slot, stats)
        if stats.queued or stats.in_flight:
            slot.schedule()  # the next request may be hours away
        slot.pause(_EVERY if monotonic() - started < _SLOW else _COOLDOWN)
        return bool(stats.recorded or stats.recovered)
    except ConfigurationError:  # logged by the client
        slot.pause(_EVERY)
    except Exception as error:  # the errors of cache libraries have no base class
        if is_interruption(error):
            raise
        slot.pause(_COOLDOWN)
        say(logging.WARNING, f"cannot write the counts to the cache: {type(error).__name__}")
    finally:
        slot.lock.release()
    return False


def _write(cache: Any, slot: _Slot, stats: Stats) -> None:
    value = {
        "owner": slot.owner,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "left_at": wall(),
        "stats": asdict(stats),
    }
    held = cache.get(_KEY.format(slot.number)) if slot.number is not None else None
    if held is not None and held["owner"] == slot.owner:
        cache.set(_KEY.format(slot.number), value, timeout=_EXPIRY)
    else:  # the first time; or the cache was cleared, or another process has taken the number too
        slot.number = _take_number(cache, value)


def _take_number(cache: Any, value: dict[str, Any]) -> int:
    """Write the counts under a free number, and return it.

    In a cache of files, `add` may succeed for two processes, which then have one number. So processes that start
    together try different numbers, and read what they wrote; the rest is found at the next write.
    """
    first = cache.get(_LAST, 0) + 1 + value["pid"] % _SPREAD
    for number in range(first, first + _CHUNK):
        key = _KEY.format(number)
        was_free = cache.add(key, value, timeout=_EXPIRY)
        held = cache.get(key)
        if held is None:
            raise RuntimeError("the cache keeps nothing")  # some backends hide that their server is down
        if was_free and held["owner"] == value["owner"]:
            cache.set(_LAST, number, timeout=None)
            return int(number)
    raise RuntimeError("no number is free")


def read_all(alias: str) -> Iterator[ProcessStats]:
    """Yield what processes have written to a cache, the newest processes last."""
    cache = caches[alias]
    last = cache.get(_LAST, 0)
    start = max(0, last - _MAX_READ) + 1
    while True:
        keys = [_KEY.format(number) for number in range(start, start + _CHUNK)]
        found = cache.get_many(keys)
        for value in (found[key] for key in keys if key in found):
            yield ProcessStats(value["host"], value["pid"], value["left_at"], Stats(**value["stats"]))
        start += _CHUNK
        # Two processes that took numbers together may have saved the lower one as the last.
        if start > last and not found:
            return
