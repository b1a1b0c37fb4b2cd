"""Buffered mode: the worker's process takes a trigger into its buffer, as long as there is room for it."""

from __future__ import annotations

import logging
import random
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from brockman.celery.notices import Notices
from brockman.client import FocusLabClient
from brockman.process.clock import monotonic

_WAIT = 5.0  # seconds that a worker waits for room before it gives a message back
_BACK_IN = (1.0, 5.0)  # seconds until a message that was given back comes again
_LOOK_EVERY = 0.05  # seconds, while a worker waits
_HURRY_EVERY = 30.0  # seconds; each time is an attempt at an endpoint that may be sick
_FULL = "the buffer is full; workers wait, and give messages back to the broker"


class Buffering:
    """Puts the triggers of one process into its client's buffer.

    `_lock` is between the look whether there is room and the put, so that of two threads that see the last room
    only one takes it. A task on the main thread is alone there (the prefork and solo pools), and takes no lock:
    so an exception that a signal handler raises, such as a soft time limit, finds none.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notices = Notices()
        self._hurry_at = 0.0

    def record(self, task: Any, body: bytes) -> bool:
        """Record a trigger, or give its message back. Blocks while there is no room, for 5 s.

        Raises:
            Retry: When the message was given back, to come again in a while.
            Reject: When it went back to the broker as it is.
        """
        try:
            taken = self._take_or_wait(task.client, body)
        except SoftTimeLimitExceeded:  # anything but the loss of a trigger; one that was taken comes twice
            taken = None
        if taken is not None:
            return taken
        self._notices.say(logging.WARNING, "full", _FULL)
        task.give_back(body, random.uniform(*_BACK_IN))
        raise AssertionError("give_back raises")

    def _take_or_wait(self, client: FocusLabClient, body: bytes) -> bool | None:
        taken = self._take(client, body)
        if taken is None:
            self._wait_for_room(client, len(body))
            taken = self._take(client, body)
        return taken

    def _wait_for_room(self, client: FocusLabClient, size: int) -> None:
        started = monotonic()
        if started >= self._hurry_at:
            self._hurry_at = started + _HURRY_EVERY
            client.flush(_WAIT)
        while is_full(client, size) and monotonic() < started + _WAIT:
            time.sleep(_LOOK_EVERY)

    def _take(self, client: FocusLabClient, body: bytes) -> bool | None:
        """Return what recording returns, or None when there is no room."""
        with self._guard():
            return None if is_full(client, len(body)) else client.record_encoded(body)

    def _guard(self) -> AbstractContextManager[Any]:
        return nullcontext() if threading.current_thread() is threading.main_thread() else self._lock


def is_full(client: FocusLabClient, size: int) -> bool:
    """Return whether there is no room for a trigger of so many bytes."""
    stats, options = client.stats(), client.options
    if not stats.queued:
        return False
    return stats.queued >= options.max_queue_size or stats.queued_bytes + size > options.max_queue_bytes
