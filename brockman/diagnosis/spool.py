"""The step `spool`: what waits on disk, and whether more can be written there. Changes nothing."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from typing import Any

from brockman.buffer.spool.directory import why_unusable
from brockman.buffer.spool.inspection import Inspection, Visit
from brockman.diagnosis.finding import Finding, good, problem, warning
from brockman.options import Options
from brockman.process.log import count_of

_MAX_COUNTED = 64 * 1024 * 1024  # bytes; more is not counted here, since it takes time
_LEAST_FREE = 64 * 1024  # bytes; less is a full disk
_NEARLY_FULL = 0.9  # of `max_spool_bytes`
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def examine_spool(options: Options) -> Iterator[Finding]:
    """Yield what is to be seen of the directory that `spool_dir` names."""
    path = options.spool_dir
    assert path is not None
    reason = why_unusable(path)
    if reason is not None:
        seen = f"triggers cannot be written to {path} ({reason}), and are buffered in memory"
        yield problem("spool", seen, _advise(path), blocks=False, path=path)
        return
    if _is_full(path):
        seen = f"there is no room on the disk of {path}, so triggers are buffered in memory"
        yield problem(
            "spool", seen, "make room, or name a folder elsewhere in FL_SPOOL_DIR", blocks=False, path=path
        )
        return
    if not os.path.isdir(path):
        yield good("spool", f"{path} does not exist yet; the first trigger creates it", path=path)
        return
    details: dict[str, Any] = {"path": path, "owner": _owner(path), "max_bytes": options.max_spool_bytes}
    try:
        with Visit(path) as visited:
            size = visited.total()
            inspection = visited.inspect_spool() if size <= _MAX_COUNTED else None
    except OSError as error:
        seen = f"{path} cannot be read ({error.strerror or error})"
        yield problem("spool", seen, "name a folder of its own in FL_SPOOL_DIR", blocks=False, **details)
        return
    free = _free(path)
    details |= {"bytes": size, "free_bytes": free}
    waiting = show_bytes(size) if inspection is None else _count(inspection, size, details)
    sizes = f"{show_bytes(options.max_spool_bytes)} allowed, {show_bytes(free)} free on disk"
    seen = f"{path} of {details['owner']} has {waiting}, {sizes}"
    cautions = list(_find_cautions(options, size, free, inspection))
    if not cautions:
        yield good("spool", seen, **details)
    for caution, advice in cautions:
        yield warning("spool", f"{seen}; {caution}", advice, **details)


def _count(inspection: Inspection, size: int, details: dict[str, Any]) -> str:
    processes = inspection.processes
    count = sum(process.triggers for process in processes)
    details |= {
        "triggers": count,
        "processes": len(processes),
        "ended_processes": sum(process.is_adoptable for process in processes),
        "damaged_files": inspection.damaged_files,
    }
    owners = "1 process" if len(processes) == 1 else f"{len(processes)} processes"
    return f"{count_of(count, 'trigger')} of {owners} in {show_bytes(size)}"


def _find_cautions(
    options: Options, size: int, free: int, inspection: Inspection | None
) -> Iterator[tuple[str, str]]:
    """Yield what deserves attention, each with what to do."""
    path = options.spool_dir
    if size >= _NEARLY_FULL * options.max_spool_bytes:
        yield "it is nearly full, and then triggers are dropped", "deliver what waits, or raise max_spool_bytes"
    if free < max(0, options.max_spool_bytes - size):
        yield "the disk has less room than max_spool_bytes allows", "make room, or lower max_spool_bytes"
    processes = inspection.processes if inspection else []
    for process in processes:
        reason = process.refusal or process.foreign
        if reason:
            yield f"{process.name} is not adopted ({reason})", f"see brockman spool {path}"
    left = sum(process.triggers for process in processes if process.is_adoptable)
    if left:
        seen = f"{count_of(left, 'trigger')} of processes that have ended wait for the next one"
        yield seen, f"start it, or run brockman spool {path} --send"
    if inspection and inspection.damaged_files:
        yield f"{count_of(inspection.damaged_files, 'file')} in it could not be read", f"see {path}/damaged"


def _is_full(path: str) -> bool:
    """Return whether there is no room where a folder is, or will be."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    has_size = os.statvfs(path).f_blocks > 0  # some network file systems tell none
    return has_size and _free(path) < _LEAST_FREE


def _free(path: str) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _owner(path: str) -> str:
    number = os.stat(path).st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # no such name, as with a container's users
        return str(number)


def _advise(path: str) -> str:
    if os.path.isdir(path) and os.stat(path).st_uid != os.geteuid():
        owner = _owner(path)
        return f"if the application runs as {owner}, check as that user: sudo -u {owner} brockman check"
    return "let the user that runs this create and write it (mode 700), or name another folder in FL_SPOOL_DIR"


def show_bytes(count: float) -> str:
    """Return a size in a unit of which there are less than a thousand."""
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.0f} {_UNITS[-1]}"
