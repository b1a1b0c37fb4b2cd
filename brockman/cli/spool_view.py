"""What a person, or a program, sees of a spool."""

from __future__ import annotations

import os
import pwd
import stat
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timezone
from itertools import islice
from typing import BinaryIO

from brockman.buffer.spool.inspection import Inspection, Process, Visit
from brockman.buffer.spool.quarantine import DAMAGED
from brockman.cli.source import printable
from brockman.cli.terminal import Progress, format_columns
from brockman.exceptions import ConfigurationError
from brockman.process.clock import wall

_WORTH_A_BAR = 64 * 1024 * 1024  # bytes; less is counted in no time
_AT_ONCE = 1000  # triggers that are printed with one call
_HEAD = ("folder", "owner", "triggers", "bytes", "oldest", "age")
_NUMBERS = (2, 3)
_UNITS = (("d", 86400), ("h", 3600), ("min", 60))


def visit(path: str, *, to_write: bool = False) -> Visit:
    """Open a spool to look at it.

    Raises:
        ConfigurationError: When it is none, or this user may not; says what to do.
    """
    full = os.path.abspath(path)
    try:
        visited = Visit(full)
    except OSError as error:
        raise ConfigurationError(f"{path!r}: {error.strerror or error}{_advice(full)}") from None
    if to_write and not os.access(full, os.W_OK | os.X_OK, effective_ids=True):
        visited.close()
        raise ConfigurationError(f"{path!r} cannot be written to; copy it (cp -a), and name the copy")
    return visited


def _advice(path: str) -> str:
    """Return what to do about a folder that cannot be opened."""
    try:
        owner = os.stat(path).st_uid
    except FileNotFoundError:
        return "; name the folder that spool_dir (FL_SPOOL_DIR) names"
    except OSError:
        return "; run this as the user it belongs to"
    if not os.path.isdir(path) or owner == os.geteuid():
        return ""
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:  # a container's, say
        return f"; run this as user {owner}"
    return f"; run this as that user: {name}"


def count(visited: Visit) -> Inspection:
    """Count what is there, with a bar if it is much."""
    with _bar(visited, "counting"):
        return visited.inspect_spool()


def _bar(visited: Visit, remark: str) -> AbstractContextManager[object]:
    """Return a bar for a visit that takes a while, or nothing."""
    total = visited.total()
    if total < _WORTH_A_BAR:
        return nullcontext()
    return Progress(lambda: (min(visited.done, total), remark), total=total, unit="B", is_bytes=True)


def show(path: str) -> int:
    """Print the table."""
    with visit(path) as visited:
        inspect_spool = count(visited)
    rows = [_HEAD, *map(_row, inspect_spool.processes), _total(inspect_spool.processes)]
    print(format_columns(rows, _NUMBERS))
    print(f"damaged: {inspect_spool.damaged_bytes} bytes in {inspect_spool.damaged_files} files")
    for name, reason in reasons(inspect_spool):
        print(f"left alone: {name}: {reason}")
    return 0


def reasons(inspect_spool: Inspection) -> list[tuple[str, str]]:
    """Return what nobody delivers, and why."""
    refused = [
        (process.name, reason)
        for process in inspect_spool.processes
        for reason in (process.refusal, process.foreign)
        if reason is not None
    ]
    return [
        *((name, printable(reason)) for name, reason in refused),
        *((printable(name), "it is none of the spool's") for name in inspect_spool.unknown_files),
    ]


def _row(process: Process) -> Sequence[str]:
    owner = "alive" if process.is_alive else "gone"
    return (
        process.name,
        owner if process.refusal is None else "-",
        str(process.triggers),
        str(process.size),
        *_oldest([process]),
    )


def _total(processes: list[Process]) -> Sequence[str]:
    count = sum(process.triggers for process in processes)
    size = sum(process.size for process in processes)
    alive = sum(process.is_alive for process in processes)
    return ("total", f"{alive} alive", str(count), str(size), *_oldest(processes))


def _oldest(processes: list[Process]) -> tuple[str, str]:
    """Return when the oldest trigger was recorded, and how long ago."""
    moments = {moment: text for text, moment in map(_moment, processes) if moment is not None}
    if not moments:
        return "-", ""
    first = min(moments)
    return moments[first], age(max(0.0, wall() - first.timestamp()))


def _moment(process: Process) -> tuple[str, datetime | None]:
    text = process.recorded_at or ""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return text, None
    return text, moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def age(seconds: float) -> str:
    """Return a duration in the largest unit of which there are at least two."""
    for unit, length in _UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def list_triggers(path: str) -> int:
    """Print every trigger that waits as a line of JSON."""
    out = sys.stdout.buffer
    # A pipe may lead back to the terminal, as `| head` does.
    with visit(path) as visited, _bar(visited, "listing") if _is_file(out) else nullcontext():
        bodies = visited.bodies()
        while some := list(islice(bodies, _AT_ONCE)):
            out.write(b"\n".join(some) + b"\n")
        out.flush()
    if visited.damages:
        print(f"{visited.damages} damaged places are left out", file=sys.stderr)
    for line in visited.left_out:
        print(f"left out: {printable(line)}", file=sys.stderr)
    return 1 if visited.left_out else 0


def _is_file(out: BinaryIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(out.fileno()).st_mode)
    except OSError:  # none of the system's
        return False


def drop_damaged(path: str) -> int:
    """Remove what is kept aside as damaged."""
    with visit(path, to_write=True) as visited:
        try:
            files, size = visited.drop_damaged()
        except OSError as error:
            raise ConfigurationError(f"{os.path.join(path, DAMAGED)!r}: {error.strerror or error}") from None
    print(f"removed {size} bytes in {files} files")
    return 0
