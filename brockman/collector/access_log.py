"""The access log: a line of JSON for each request, written by a thread of its own."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from brockman.collector import strict_json
from brockman.collector.errors import InvalidSetting
from brockman.collector.timestamps import format_timestamp

_MAX_WAITING = 10_000  # lines


class AccessLog:
    """Writes lines to a file, or to standard error for `-`. No request waits for it.

    A file that was moved away is made anew. Lines that cannot be written, or that come when too many wait, are
    left out, and counted in a line once there is room again.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lines: deque[Mapping[str, Any]] = deque()
        self._wakeup = threading.Event()
        self._closed = False
        self._lock = threading.Lock()
        self.lost = 0
        self._file = self._open()
        self._thread = threading.Thread(target=self._run, name="brockman-access-log", daemon=True)
        self._thread.start()

    def write(self, entry: Mapping[str, Any]) -> None:
        """Write a line soon. `time` is in seconds since 1970."""
        if len(self._lines) < _MAX_WAITING:
            self._lines.append(entry)
        else:
            self._lose(1)
        self._wakeup.set()

    def close(self) -> None:
        """Write what waits, for a second at most."""
        self._closed = True
        self._wakeup.set()
        self._thread.join(1)
        if not self._thread.is_alive() and self._path != "-":
            os.close(self._file)

    def _open(self) -> int:
        try:
            if self._path == "-":
                return sys.stderr.fileno()
            return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except (OSError, ValueError, AttributeError) as error:  # standard error may be closed
            reason = getattr(error, "strerror", None) or error
            raise InvalidSetting(f"access_log: {self._path!r} cannot be written: {reason}") from error

    def _run(self) -> None:
        while not (self._closed and not self._lines):
            self._wakeup.wait()
            self._wakeup.clear()
            while self._lines:
                lines = [_encode(self._lines.popleft()) for _ in range(min(len(self._lines), 1000))]
                with self._lock:
                    lost, self.lost = self.lost, 0
                if lost:
                    lines.append(strict_json.dump({"lost": lost}) + "\n")
                if not self._write("".join(lines).encode()):
                    self._lose(lost + len(lines) - bool(lost))

    def _lose(self, number: int) -> None:
        with self._lock:
            self.lost += number

    def _write(self, text: bytes) -> bool:
        try:
            self._reopen_if_moved()
            while text:
                text = text[os.write(self._file, text) :]
        except (OSError, InvalidSetting):  # a full disk, a closed pipe: the collector goes on
            return False
        return True

    def _reopen_if_moved(self) -> None:
        if self._path == "-":
            return
        ours = os.fstat(self._file)
        with suppress(FileNotFoundError):
            there = os.stat(self._path)
            if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
                return
        anew = self._open()
        os.close(self._file)
        self._file = anew


def _encode(entry: Mapping[str, Any]) -> str:
    return strict_json.dump({**entry, "time": format_timestamp(int(entry["time"] * 1_000_000))}) + "\n"
