"""`brockman spool DIR --send`: adopt and deliver what has no owner."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from brockman.buffer.spool.inspection import Inspection
from brockman.cli.sending import Sender
from brockman.cli.spool_view import count, print_skipped, skipped, visit
from brockman.cli.terminal import Row, format_table
from brockman.process.clock import monotonic

_IDLE_ROUNDS = 3  # a round may meet a lock that an inspection holds for a moment


def send(options: argparse.Namespace) -> int:
    with visit(options.dir, to_write=True) as visited:
        job = _Sending(options)
        waiting = sum(process.triggers for process in count(visited).processes if process.is_adoptable)
        status = job.run(total=waiting, unit="trigger")
        left = count(visited)
        if options.json:
            print(json.dumps({**job.numbers(), **_numbers_of_left(left), "skipped": skipped(left)}))
        else:
            print(format_table([*job.summary(), *_rows_of_left(left)]))
            print_skipped(left)
    is_left = any(process.triggers or process.refusal or process.foreign for process in left.processes)
    return status or (0 if job.is_clean and not is_left else 1)


class _Sending(Sender):
    """Records nothing, and adopts what other processes left."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options, spool_dir=os.path.abspath(options.dir))
        self._deadline = None if options.timeout is None else monotonic() + options.timeout

    def send(self) -> None:
        idle = 0
        while idle < _IDLE_ROUNDS:  # a flush adopts a limited number of directories
            before = self.client.stats().recovered
            left = None if self._deadline is None else self._deadline - monotonic()
            if not self.client.flush(left):
                return
            idle = idle + 1 if self.client.stats().recovered == before else 0

    def look(self) -> tuple[int, str]:
        stats = self.client.stats()
        damaged = stats.dropped.get("damaged", 0)
        text = f"delivered={stats.delivered} rejected={stats.rejected} damaged={damaged} retries={stats.retries}"
        return stats.delivered + stats.rejected + damaged, text

    def numbers(self) -> dict[str, Any]:
        stats = self.client.stats()
        return {
            "delivered": stats.delivered,
            "rejected": stats.rejected,
            "damaged": stats.dropped.get("damaged", 0),
            "seconds": round(self.seconds, 3),
        }

    def summary(self) -> list[Row]:
        found = self.numbers()
        return [
            ("delivered", str(found["delivered"]), "triggers accepted by the server"),
            ("rejected", str(found["rejected"]), "by the server"),
            ("damaged", str(found["damaged"]), "not sent; kept in DIR/damaged"),
            ("seconds", f"{self.seconds:.2f}", ""),
        ]

    @property
    def is_clean(self) -> bool:
        stats = self.client.stats()
        return not (stats.rejected or stats.dropped)


def _numbers_of_left(left: Inspection) -> dict[str, int]:
    owned = sum(process.triggers for process in left.processes if process.is_alive)
    free = sum(process.triggers for process in left.processes if process.is_adoptable)
    return {"left_in_use": owned, "left_without_owner": free}


def _rows_of_left(left: Inspection) -> list[Row]:
    owned, free = _numbers_of_left(left).values()
    return [
        ("left, in use", str(owned), "triggers of running processes, which deliver them"),
        ("left, no owner", str(free), "not delivered; run this again" if free else ""),
    ]
