"""Flushes the segments to the disk in intervals, in a thread of its own.

Not in the worker: an attempt that waits for an answer would delay it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from brockman.buffer.spool.directory import close_quietly
from brockman.buffer.spool.writer import Writer
from brockman.process.clock import monotonic

INTERVAL = 0.5  # seconds


class IntervalSync:
    """Syncs `INTERVAL` after the first trigger since the last sync."""

    def __init__(
        self, writer: Writer, spawn: Callable[[Callable[[], None]], None], failed: Callable[[OSError], None]
    ) -> None:
        """Start no thread yet; `spawn` starts one, or raises RuntimeError."""
        self._writer = writer
        self._spawn = spawn
        self._failed = failed
        self._is_due = False
        self._stopped = threading.Event()
        self._is_finished = False  # files may be closed
        self._last = monotonic()

    def wrote(self) -> None:
        """Have a thread sync soon. Blocks only when no thread can be started."""
        if self._is_due:
            return
        self._is_due = True
        try:
            self._spawn(self._run)  # for one sync: there is no thread while nothing is recorded
        except RuntimeError:
            self._is_due = False
            if monotonic() - self._last >= INTERVAL:
                self._sync()

    def finish(self) -> None:
        """Sync now, and let the thread end. Blocks."""
        self._stopped.set()
        self._sync()
        self._is_finished = True

    def _run(self) -> None:
        self._stopped.wait(INTERVAL)
        self._is_due = False
        if not self._stopped.is_set():
            self._sync()

    def _sync(self) -> None:
        self._last = monotonic()
        try:
            sync(self._writer)
        except OSError as error:
            if not self._is_finished:
                self._failed(error)
        except ValueError:  # from `fsync` of a descriptor that was closed meanwhile
            if not self._is_finished:
                raise


def sync(writer: Writer) -> None:
    """Flush what was appended to the disk, and the names of the files. Blocks."""
    unsynced = writer.unsynced
    if unsynced is None or not writer.process_dirs:
        return
    for _ in range(len(unsynced)):
        try:
            segment = unsynced.popleft()
        except IndexError:  # a thread that closes syncs at the same time
            break
        was_open, process_dir, descriptor = segment.is_open, segment.process_dir, -1
        if process_dir is None:  # settled and removed
            continue
        try:
            descriptor = process_dir.open(segment.name)
            os.fdatasync(descriptor)
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError:
            unsynced.append(segment)
            raise
        finally:
            close_quietly(descriptor)
        if was_open:
            unsynced.append(segment)
    writer.process_dirs[-1].sync()
