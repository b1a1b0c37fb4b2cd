"""Have what was written reach the disk itself, every now and then, in a thread of its own.

Not in the flusher's: an attempt that waits for an answer would hold it up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Protocol

from brockman.buffer.spool.directory import close_quietly
from brockman.buffer.spool.writer import Writer
from brockman.process.clock import monotonic

INTERVAL = 0.5  # seconds


class Syncer(Protocol):
    """Told of every trigger that was written."""

    def wrote(self) -> None:
        """Take note that there is something to sync."""

    def finish(self) -> None:
        """Sync once more, and then no more."""


def make_syncer(
    fsync: str,
    writer: Writer,
    spawn: Callable[[Callable[[], None]], None],
    failed: Callable[[OSError], None],
) -> Syncer | None:
    """Return what syncs a writer; None when it is left to the system.

    Args:
        fsync: As `Options.spool_fsync`.
        writer: What to sync.
        spawn: Starts a thread; raises RuntimeError when none can be had.
        failed: Called when the disk fails.
    """
    if fsync == "never":
        return None
    return Always(writer, failed) if fsync == "always" else Interval(writer, spawn, failed)


class Always:
    """Syncs before `wrote` returns."""

    def __init__(self, writer: Writer, failed: Callable[[OSError], None]) -> None:
        """See `make_syncer`."""
        self._writer = writer
        self._failed = failed

    def wrote(self) -> None:
        """Sync. Blocks."""
        try:
            self._writer.sync()
        except OSError as error:
            self._failed(error)

    def finish(self) -> None:
        """Do nothing: everything is synced."""


class Interval:
    """Syncs `INTERVAL` after the first trigger that came since the last time."""

    def __init__(
        self, writer: Writer, spawn: Callable[[Callable[[], None]], None], failed: Callable[[OSError], None]
    ) -> None:
        """See `make_syncer`."""
        self._writer = writer
        self._spawn = spawn
        self._failed = failed
        self._is_due = False
        self._stopped = threading.Event()
        self._is_over = False  # files may be closed
        self._last = monotonic()

    def wrote(self) -> None:
        """Have a thread sync soon. Does not block, but where no thread can be had."""
        if self._is_due:
            return
        self._is_due = True
        try:
            self._spawn(self._run)  # for this once: while nothing is recorded there is none
        except RuntimeError:
            self._is_due = False
            if monotonic() - self._last >= INTERVAL:
                self._sync()

    def finish(self) -> None:
        """Sync now, and let the thread end. Blocks."""
        self._stopped.set()
        self._sync()
        self._is_over = True  # what the thread meets from now on is no failing disk

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
            if not self._is_over:
                self._failed(error)
        except ValueError:  # as `fsync` says of what was closed meanwhile
            if not self._is_over:
                raise


def sync(writer: Writer) -> None:
    """Have all that was appended reach the disk, and the names of the files. Blocks.

    Raises:
        OSError: When the disk fails. What it had taken before that may be lost, and is not to be trusted.
    """
    unsynced = writer.unsynced
    if unsynced is None or not writer.folders:
        return
    for _ in range(len(unsynced)):
        try:
            segment = unsynced.popleft()
        except IndexError:  # who closes syncs too, at the same time as the thread
            break
        was_open, folder, descriptor = segment.is_open, segment.folder, -1
        if folder is None:  # settled and removed
            continue
        try:
            descriptor = folder.open(segment.name)
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
    writer.folders[-1].sync()
