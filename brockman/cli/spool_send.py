"""`brockman spool DIR --send`: deliver what has no owner, as any process does that adopts it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

from brockman.buffer.spool.inspection import Inspection
from brockman.cli.source import printable, shown
from brockman.cli.spool_view import count, reasons, visit
from brockman.cli.terminal import Progress, Row, exit_status, format_table, ignore_signals
from brockman.client import FocusLabClient
from brockman.exceptions import ConfigurationError
from brockman.process.clock import monotonic

_IDLE_ROUNDS = 3  # one may meet a lock that somebody holds for the moment of a look
_LAST_CHANCE = 1.0  # seconds for what still waits, when it is time to go


def send(options: argparse.Namespace) -> int:
    """Deliver, and tell what became of it."""
    with visit(options.dir, to_write=True) as visited:
        job = _Sending(options)
        inspect_spool = count(visited)
        waiting = sum(process.triggers for process in inspect_spool.processes if process.is_adoptable)
        started = monotonic()
        interrupted = None
        with Progress(job.look, total=waiting, unit="trigger") as progress:
            job.say = progress.say
            try:
                job.send()
            except KeyboardInterrupt as error:
                interrupted = error
            finally:
                ignore_signals()
                job.client.close(_LAST_CHANCE)
        left = count(visited)
        print(format_table([*job.summary(monotonic() - started), *_rows_of_left(left)]))
        for name, reason in reasons(left):
            print(f"left alone: {name}: {reason}")
    if interrupted is not None:
        return exit_status(interrupted)
    return 0 if job.is_clean and not _is_left(left) else 1


class _Sending:
    """A client that records nothing, and adopts what others have left."""

    def __init__(self, options: argparse.Namespace) -> None:
        given: dict[str, Any] = {name: getattr(options, name) for name in ("endpoint", "api_key")}
        self.client = FocusLabClient(
            **{name: value for name, value in given.items() if value is not None},
            spool_dir=os.path.abspath(options.dir),
            on_error=self._on_error,
        )
        if not self.client.options.enabled:
            raise ConfigurationError("enabled is off (FL_ENABLED): nothing would be sent")
        self._until = None if options.timeout is None else monotonic() + options.timeout
        self.say: Callable[[str], None] = print

    def send(self) -> None:
        """Adopt and deliver until nothing more is found, or it is time to give up."""
        idle = 0
        while idle < _IDLE_ROUNDS:  # a flush adopts only so many folders at once
            before = self.client.stats().recovered
            left = None if self._until is None else self._until - monotonic()
            if not self.client.flush(left):
                return
            idle = idle + 1 if self.client.stats().recovered == before else 0

    def look(self) -> tuple[int, str]:
        """Return how many are settled, and what became of them."""
        stats = self.client.stats()
        damaged = stats.dropped.get("damaged", 0)
        remark = f"delivered={stats.delivered} rejected={stats.rejected} damaged={damaged} retries={stats.retries}"
        return stats.delivered + stats.rejected + damaged, remark

    def summary(self, seconds: float) -> list[Row]:
        """Return the rows of what was done."""
        stats = self.client.stats()
        return [
            ("delivered", str(stats.delivered), "triggers the server has accepted"),
            ("rejected", str(stats.rejected), "by the server"),
            ("damaged", str(stats.dropped.get("damaged", 0)), "not sent; kept in DIR/damaged"),
            ("seconds", f"{seconds:.2f}", ""),
        ]

    @property
    def is_clean(self) -> bool:
        """Whether all that was adopted has been accepted."""
        stats = self.client.stats()
        return not (stats.rejected or stats.dropped)

    def _on_error(self, error: Exception, bodies: tuple[bytes, ...]) -> None:
        for body in bodies:
            self.say(f"rejected: {printable(str(error))}: {shown(body.decode('utf-8', 'replace'))}")


def _rows_of_left(left: Inspection) -> list[Row]:
    owned = sum(process.triggers for process in left.processes if process.is_alive)
    free = sum(process.triggers for process in left.processes if process.is_adoptable)
    return [
        ("left, in use", str(owned), "triggers of processes that are alive and deliver them"),
        ("left, no owner", str(free), "not delivered; run this again" if free else ""),
    ]


def _is_left(left: Inspection) -> bool:
    return any(process.triggers or process.refusal or process.foreign for process in left.processes)
