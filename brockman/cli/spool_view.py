"""`brockman spool DIR`, with and without --list and --drop-damaged."""

from __future__ import annotations

import json
import os
import pwd
import stat
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timezone
from itertools import islice
from typing import Any, BinaryIO

from brockman.buffer.spool.inspection import Inspection, Process, Visit
from brockman.buffer.spool.quarantine import DAMAGED
from brockman.cli.terminal import Progress, format_table
from brockman.exceptions import ConfigurationError
from brockman.options.fields import printable
from brockman.process.clock import wall
from brockman.process.log import count_of

_MIN_BYTES_FOR_BAR = 64 * 1024 * 1024  # less is counted in no time
_CHUNK = 1000  # triggers written with one call
_HEADER = ("folder", "owner", "triggers", "bytes", "oldest", "age")
_NUMBERS = (2, 3)
_UNITS = (("d", 86400), ("h", 3600), ("min", 60))


def visit(path: str, *, to_write: bool = False) -> Visit:
    """Open a spool for inspection; raise ConfigurationError with a remedy if that is not possible."""
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
    try:
        owner = os.stat(path).st_uid
    except FileNotFoundError:
        return "; name the directory that spool_dir (FL_SPOOL_DIR) names"
    except OSError:
        return "; run this as its owner"
    if not os.path.isdir(path) or owner == os.geteuid():
        return ""
    try:
        return f"; run this as user {pwd.getpwuid(owner).pw_name}"
    except KeyError:  # no such name, as with a container's users
        return f"; run this as user {owner}"


def count(visited: Visit) -> Inspection:
    with _bar(visited, "counting"):
        return visited.inspect_spool()


def _bar(visited: Visit, text: str) -> AbstractContextManager[object]:
    total = visited.total()
    if total < _MIN_BYTES_FOR_BAR:
        return nullcontext()
    return Progress(lambda: (min(visited.done, total), text), total=total, unit="B", is_bytes=True)


def show(path: str, *, as_json: bool) -> int:
    with visit(path) as visited:
        inspection = count(visited)
    processes = inspection.processes
    if as_json:
        print(json.dumps(_described(inspection)))
        return 0
    print(format_table([_HEADER, *map(_row, processes), _total(processes)], right_aligned=_NUMBERS))
    print(f"damaged: {inspection.damaged_bytes} bytes in {count_of(inspection.damaged_files, 'file')}")
    print_skipped(inspection)
    return 0


def _described(inspection: Inspection) -> dict[str, Any]:
    """Return what the table shows, with its names."""
    processes = [
        {
            "folder": process.name,
            "owner": None if process.refusal is not None else _owner(process),
            "triggers": process.triggers,
            "bytes": process.size,
            "oldest": process.recorded_at,
        }
        for process in inspection.processes
    ]
    damaged = {"bytes": inspection.damaged_bytes, "files": inspection.damaged_files}
    return {"processes": processes, "damaged": damaged, "skipped": skipped(inspection)}


def skipped(inspection: Inspection) -> list[str]:
    """Return a line for each directory and file that is never delivered, with the reason."""
    lines = [
        f"{process.name}: {printable(reason)}"
        for process in inspection.processes
        for reason in (process.refusal, process.foreign)
        if reason is not None
    ]
    return lines + [f"{printable(name)}: not part of the spool" for name in inspection.unknown_files]


def print_skipped(inspection: Inspection) -> None:
    for line in skipped(inspection):
        print(f"skipped: {line}")


def _owner(process: Process) -> str:
    return "alive" if process.is_alive else "gone"


def _row(process: Process) -> Sequence[str]:
    owner = "-" if process.refusal is not None else _owner(process)
    return (process.name, owner, str(process.triggers), str(process.size), *_oldest([process]))


def _total(processes: list[Process]) -> Sequence[str]:
    triggers = sum(process.triggers for process in processes)
    size = sum(process.size for process in processes)
    alive = sum(process.is_alive for process in processes)
    return ("total", f"{alive} alive", str(triggers), str(size), *_oldest(processes))


def _oldest(processes: list[Process]) -> tuple[str, str]:
    """Return when the oldest trigger was recorded, and how long ago."""
    found = []
    for process in processes:
        text = process.recorded_at or ""
        try:
            moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            continue
        found.append((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc), text))
    if not found:
        return "-", ""
    moment, text = min(found)
    return text, format_age(max(0.0, wall() - moment.timestamp()))


def format_age(seconds: float) -> str:
    """Return a duration in the largest unit of which there are at least two."""
    for unit, length in _UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def list_triggers(path: str) -> int:
    out = sys.stdout.buffer
    # No bar for a pipe: it may lead back to the terminal, as `| less` does.
    with visit(path) as visited, _bar(visited, "listing") if is_file(out) else nullcontext():
        bodies = visited.bodies()
        while chunk := list(islice(bodies, _CHUNK)):
            out.write(b"\n".join(chunk) + b"\n")
        out.flush()
    if visited.damages:
        print(f"skipped {visited.damages} damaged places", file=sys.stderr)
    for line in visited.left_out:
        print(f"skipped: {printable(line)}", file=sys.stderr)
    return 1 if visited.left_out else 0


def is_file(out: BinaryIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(out.fileno()).st_mode)
    except OSError:  # not a file of the system
        return False


def drop_damaged(path: str, *, as_json: bool) -> int:
    with visit(path, to_write=True) as visited:
        try:
            files, size = visited.drop_damaged()
        except OSError as error:
            raise ConfigurationError(f"{os.path.join(path, DAMAGED)!r}: {error.strerror or error}") from None
    removed = {"removed_files": files, "removed_bytes": size}
    print(json.dumps(removed) if as_json else f"removed {size} bytes in {count_of(files, 'file')}")
    return 0
