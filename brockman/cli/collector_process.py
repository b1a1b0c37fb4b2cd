"""A collector in a process of its own, for as long as a `with` block lasts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import brockman

_STOP_WITHIN = 10.0  # seconds


class CollectorFailed(Exception):
    """Raised when the collector does not start; the text is what it said."""


class CollectorProcess:
    """Listens on a free port of the loopback interface. Its files are in a folder that the caller removes.

    Attributes:
        database: Path of its SQLite file.
        endpoint: Its URL, once it has started.
    """

    def __init__(self, folder: Path, api_key: str, *, outage_after: int, outage_for: float) -> None:
        """Prepare; nothing runs before `with`."""
        self.database = folder / "triggers.sqlite3"
        self.endpoint = ""
        self._folder = folder
        self._said = folder / "collector.log"
        self._api_key = api_key
        self._outage = ["--outage-after", str(outage_after), "--outage-for", str(outage_for)]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> CollectorProcess:
        """Start it, and wait until it listens.

        Raises:
            CollectorFailed: When it ends instead.
        """
        command = [sys.executable, "-m", "brockman.collector", "--port", "0", "--database", str(self.database)]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                command + self._outage,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                cwd=self._folder,  # -m looks for modules there first: the current one may hold a queue.py
                env=self._environment(),
                start_new_session=True,  # Ctrl-C at the terminal is for us; we end it when we have finished
            )
        try:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
            if not line.startswith("listening on "):
                self._process.wait(_STOP_WITHIN)
                raise CollectorFailed(self._said.read_text(errors="replace").strip() or "it said nothing")
        except BaseException:
            self.stop()
            raise
        self.endpoint = line.removeprefix("listening on ").strip()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, and wait until it has ended. Idempotent."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_WITHIN)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()

    def _environment(self) -> dict[str, str]:
        """Return ours, with the key, and with this very brockman to be found from another folder."""
        place = os.path.dirname(os.path.dirname(os.path.abspath(brockman.__file__)))
        paths = [place, os.environ.get("PYTHONPATH", "")]
        return {**os.environ, "FL_API_KEY": self._api_key, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
